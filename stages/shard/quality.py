"""What becomes of each file of a source, decided from its content; names are not believed.

| content                                          | fate      | what is noted          |
| ------------------------------------------------ | --------- | ---------------------- |
| JPEG, colour                                     | kept      |                        |
| JPEG, progressive                                | kept      | progressive            |
| JPEG, grey                                       | kept      | grayscale              |
| JPEG turned by its EXIF orientation              | kept      | exif-rotated           |
| JPEG or PNG whose EXIF cannot be read            | kept      | exif-broken            |
| PNG, 8 bits, grey or colour, and named .png      | kept      | grayscale, if so       |
| JPEG, CMYK or YCCK                               | converted | cmyk                   |
| PNG under another name                           | converted | png                    |
| GIF, BMP, WEBP, TIFF, PPM or PGM                 | converted | its format, ppm of PGM |
| PNG with a palette or transparency               | converted | png                    |
| empty                                            | refused   | empty                  |
| a web page                                       | refused   | HTML                   |
| anything else that is not an image               | refused   | not an image           |
| an image whose pixels end early or do not decode | refused   | truncated or damaged   |
| one pixel wide or high                           | refused   | one pixel wide or high |
| more pixels than `image_file.MOST_PIXELS`        | refused   | too large              |
| 16 bits or floating point                        | refused   | pixels of mode ...     |

Kept means the original bytes. A turned image is not turned upright: nobody's training did, from Caffe to
torchvision. A grey JPEG stays grey, and whoever decodes it repeats the channel. Converted means decoded
by Pillow to 8-bit grey or RGB without transparency, first frame, and stored as JPEG of quality 95 without
chroma subsampling (as PNG, lossless, where the name says .png), so that every sample of a shard is what a
plain JPEG decoder expects.

Whether the pixels decode is found out only where there is reason to doubt it, that is, where the file
does not close with its format's end marker; decoding everything would take ten times as long as the
sharding. ``check_pixels`` does it all the same, and so does `stages.shard.verify` afterwards.
`stages.shard.boxes` says what is noted of boxes.
"""

import io
import warnings
from dataclasses import dataclass, replace

import numpy as np
from PIL import ExifTags, Image

from stages.dataset import Fate
from stages.load.image_file import TooLargeError, read_header

READABLE = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
CONVERTED_QUALITY = 95
# What only resizing imports, and takes seconds: for `stages.parallel.processes`.
PRELOAD = ("torch",)
SMALLEST_SIDE = 2

_END = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


class RefusedError(Exception):
    """No sample can be made of a file; the message is the reason."""


@dataclass(frozen=True)
class Resize:
    """Re-encode to a smaller size; images that are not larger keep their bytes.

    Attributes:
        short_side: pixels. 256 is what Krizhevsky 2012 crops 224 from; VGG's and ResNet's larger scales
            (up to 512 and 480) need 512.
        quality: of the JPEG encoder, chroma 4:2:0.
    """

    short_side: int
    quality: int = 92


@dataclass(frozen=True)
class Stored:
    """An image as it goes into a shard.

    Attributes:
        data: the encoded image.
        fate: see the module's docstring.
        flags: sorted.
        width: pixels.
        height: pixels.
        format: JPEG or PNG.
        mode: RGB or L.
        scale: of width and height against the source's.
        psnr: decibels lost by re-encoding (see `stages.dataset.Resizing`), where it was measured.
    """

    data: bytes
    fate: Fate
    flags: tuple[str, ...]
    width: int
    height: int
    format: str
    mode: str
    scale: tuple[float, float] = (1.0, 1.0)
    psnr: float | None = None


def prepare(
    data: bytes,
    name: str,
    resize: Resize | None = None,
    *,
    check_pixels: bool = False,
    measure: bool = False,
) -> Stored:
    """Decide a file's fate and carry it out.

    Args:
        data: the file.
        name: its name in the source.
        resize: re-encode to this size.
        check_pixels: decode it in any case.
        measure: measure the loss of a resized image.

    Raises:
        RefusedError: with the reason.
    """
    image = _open(data)
    # Pillow opens a JPEG that holds several pictures as MPO; the first is what any decoder sees.
    format = "JPEG" if image.format == "MPO" else str(image.format)
    wanted = "PNG" if name.lower().endswith(".png") else "JPEG"
    plain = image.mode in ("L", "RGB") and "transparency" not in image.info
    fits = plain and format in ("JPEG", wanted)
    flags = _flags(image, format, fits)
    if resize is not None and min(image.size) > resize.short_side:
        return replace(_resized(image, resize, measure), flags=flags)
    if fits:
        if check_pixels or not data.endswith(_END[format]):
            _decode(image)
        return Stored(data, "kept", flags, *image.size, format, image.mode)
    pixels = _decode(image)
    encoded = _encoded(pixels, wanted, CONVERTED_QUALITY, subsampling="4:4:4")
    return Stored(encoded, "converted", flags, *pixels.size, wanted, pixels.mode)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise RefusedError("empty")
    try:
        image = read_header(data, READABLE)
    except TooLargeError as error:
        raise RefusedError("too large") from error
    except Exception as error:  # Pillow lets through whatever a malformed header has led to
        start = data[:256].lstrip().lower()
        raise RefusedError(
            "HTML" if start.startswith((b"<!doctype", b"<html")) else "not an image"
        ) from error
    if min(image.size) < SMALLEST_SIDE:
        raise RefusedError("one pixel wide or high")
    if image.mode not in _GREY + _COLOUR:
        raise RefusedError(f"pixels of mode {image.mode}")
    return image


def _flags(image: Image.Image, format: str, fits: bool) -> tuple[str, ...]:
    flags = [] if fits or format == "JPEG" else [format.lower()]
    if image.mode in _GREY:
        flags.append("grayscale")
    if image.mode == "CMYK":
        flags.append("cmyk")
    if format == "JPEG" and "progressive" in image.info:
        flags.append("progressive")
    if "exif" in image.info:
        orientation = _orientation(image)
        if orientation is None:
            flags.append("exif-broken")
        elif orientation > 1:
            flags.append("exif-rotated")
    return tuple(sorted(flags))


def _orientation(image: Image.Image) -> int | None:
    """0 (unspecified), 1 (upright) to 8; None where the EXIF data cannot be read."""
    exif = Image.Exif()  # a new one: the image keeps no error of its own
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            exif.load(image.info["exif"])
            value = exif.get(ExifTags.Base.Orientation, 1)
        except Exception:  # as varied as the damage
            return None
    return value if value in range(9) else None


def _decode(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return image.convert("L" if image.mode in _GREY else "RGB")
    except Exception as error:  # OSError mostly, but a damaged file can lead Pillow anywhere
        raise RefusedError("truncated or damaged") from error


def _resized(image: Image.Image, resize: Resize, measure: bool) -> Stored:
    # Here and not above: see PRELOAD. Torch's antialiased bicubic on bytes gives Pillow's pixels in a third
    # of the time.
    import torch
    from torch.nn.functional import interpolate

    original = image.size
    short = min(original)
    size = (original[0] * resize.short_side // short, original[1] * resize.short_side // short)
    # Lets libjpeg decode at a fraction, as long as that is still twice as large as what is wanted.
    image.draft(None, (2 * size[0], 2 * size[1]))
    decoded = _decode(image)
    planes = torch.from_numpy(np.array(decoded).reshape(1, *decoded.size[::-1], -1))
    smaller = interpolate(planes.permute(0, 3, 1, 2), size[::-1], mode="bicubic", antialias=True)
    pixels = Image.fromarray(smaller[0].permute(1, 2, 0).numpy().squeeze())
    data = _encoded(pixels, "JPEG", resize.quality, subsampling="4:2:0")
    scale = (size[0] / original[0], size[1] / original[1])
    psnr = _psnr(pixels, Image.open(io.BytesIO(data))) if measure else None
    return Stored(data, "resized", (), *size, "JPEG", pixels.mode, scale, psnr)


def _encoded(pixels: Image.Image, format: str, quality: int, subsampling: str) -> bytes:
    buffer = io.BytesIO()
    if format == "PNG":
        pixels.save(buffer, "PNG", icc_profile=None)  # decoders of this field ignore profiles
    else:
        pixels.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def _psnr(first: Image.Image, second: Image.Image) -> float:
    difference = np.asarray(first, np.float32) - np.asarray(second, np.float32)
    return float(10 * np.log10(255**2 / max(float(np.square(difference).mean()), 1e-4)))
