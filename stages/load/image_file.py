"""From encoded bytes to an image that Pillow can decode. Content is sniffed; names are not believed."""

import io
import warnings

from PIL import Image, UnidentifiedImageError

from stages.errors import PipelineError

# ILSVRC-2012's largest photograph has under 20 million pixels; more is an attack or an accident.
MOST_PIXELS = 100_000_000

# Of JPEGs that any decoder reads as Pillow does; CMYK and YCCK are not among them.
PLAIN_MODES = ("RGB", "L")


class TooLargeError(Exception):
    """An image has more than `MOST_PIXELS`."""


def open_image(data: bytes, name: str) -> Image.Image:
    """Read an image's header; its pixels are decoded on first use.

    Raises:
        PipelineError: the bytes are not an image that can be read; `name` says which.
    """
    try:
        return read_header(data)
    except (UnidentifiedImageError, TooLargeError, OSError) as error:
        raise PipelineError(
            f"{name} is not a readable image ({len(data)} bytes)",
            "fetch the archive again, or remove the file",
        ) from error


def read_header(data: bytes, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Open an image of at most `MOST_PIXELS`, of one of Pillow's ``formats`` (by default any).

    Pillow's own limit is a setting of the whole process, which is left as it is: what lies between the
    two limits only makes Pillow warn.

    Raises:
        TooLargeError: the image has more pixels.
        Exception: whatever Pillow raises for bytes that are not an image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is judged by the caller
            image = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise TooLargeError from error
    if image.width * image.height > MOST_PIXELS:
        raise TooLargeError
    return image
