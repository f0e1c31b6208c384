"""From encoded bytes to pixels. Content is sniffed; a file's name says nothing about its format."""

import io

from PIL import Image, UnidentifiedImageError

from stages.errors import PipelineError

# ILSVRC-2012's largest photograph has under 20 million pixels; more is an attack or an accident.
Image.MAX_IMAGE_PIXELS = 100_000_000


# Of JPEGs that any decoder reads as Pillow does; CMYK and YCCK are not among them.
PLAIN_MODES = ("RGB", "L")


def open_image(data: bytes, name: str) -> Image.Image:
    """Read an image's header; its pixels are decoded on first use.

    Raises:
        PipelineError: the bytes are no image that can be read; `name` says which.
    """
    try:
        return Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise PipelineError(
            f"{name} is not a readable image ({len(data)} bytes)",
            "fetch the archive again, or take the file out",
        ) from error
