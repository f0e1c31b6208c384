"""From encoded bytes to pixels. Content is sniffed; a file's name says nothing about its format."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stages.errors import PipelineError

# ILSVRC-2012's largest photograph has under 20 million pixels; more is an attack or an accident.
Image.MAX_IMAGE_PIXELS = 100_000_000


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


def decode_square(data: bytes, side: int, name: str) -> NDArray[np.uint8]:
    """The centre square of an image, its short side resized to ``side`` (Krizhevsky 2012, section 2).

    Args:
        data: the encoded image; grey and CMYK images become RGB.
        side: pixels.
        name: for the error's text.

    Returns:
        RGB, 0-255, (3, side, side).

    Raises:
        PipelineError: the image is damaged.
    """
    image = open_image(data, name)
    try:
        image.draft(
            "RGB", (side, side)
        )  # lets libjpeg decode at a fraction where that is still larger
        pixels = image.convert("RGB")
    except OSError as error:
        raise PipelineError(
            f"{name} is damaged: {error}", "fetch the archive again, or take the file out"
        ) from error
    width, height = pixels.size
    short = min(width, height)
    if (width, height) != (side, side):
        left, top = (width - short) / 2, (height - short) / 2
        pixels = pixels.resize(
            (side, side), Image.Resampling.BILINEAR, box=(left, top, left + short, top + short)
        )
    return np.ascontiguousarray(np.asarray(pixels).transpose(2, 0, 1))
