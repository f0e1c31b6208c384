"""From encoded bytes to uint8 tensors, the fastest way that keeps the pixels.

JPEGs are decoded by torchvision's operator, bit for bit as Pillow decodes them, but without a detour over
Python objects; everything else (CMYK, PNG, ...) by Pillow. Resizing is torch's antialiased filter on
uint8: the same kernel as torchvision's v2 transforms. Images are (3, height, width) with the channels of a
pixel side by side in memory, as the CPU's decoders write them and its filters read them. A GPU's own decoder
is an option; its pixels are not libjpeg's to the bit.
"""

import functools
import importlib.util
import itertools
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.augmentation import Interpolation
from stages.errors import PipelineError
from stages.load.image_file import PLAIN_MODES, open_image

_RGB = 3  # torchvision.io.ImageReadMode.RGB


def decode(data: bytes, name: str, at_least: int | None = None) -> Tensor:
    """Decode an image.

    Args:
        data: the encoded image; grey and CMYK images become RGB.
        name: for the error's text.
        at_least: a JPEG whose short side is twice this or more may be decoded at a half, a quarter
            or an eighth of its size (libjpeg's scaled DCT), as long as it stays this long.

    Returns:
        RGB, uint8, (3, height, width).

    Raises:
        PipelineError: the image is damaged.
    """
    image = open_image(data, name)
    if image.format == "JPEG" and image.mode in PLAIN_MODES:
        if at_least is not None and min(image.size) >= 2 * at_least:
            image.draft("RGB", (at_least, at_least))
        else:
            with suppress(RuntimeError):  # Pillow is asked, too, before an image is called damaged
                return _operator(data)
    try:
        pixels = np.array(image.convert("RGB"))
    except OSError as error:
        raise PipelineError(
            f"{name} is damaged: {error}", "fetch the archive again, or remove the file"
        ) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def decode_jpeg(data: bytes, name: str) -> Tensor:
    """Decode what is known to be a JPEG, grey or in colour, whole: as `decode` does, without a look first."""
    with suppress(RuntimeError):
        return _operator(data)
    return decode(data, name)


def _operator(data: bytes) -> Tensor:
    decoded: Tensor = _image_operators().decode_jpeg(_as_tensor(data), _RGB)
    return decoded


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def decode_on(
    device: torch.device, images: Sequence[tuple[bytes, str]], plain: Sequence[bool]
) -> list[Tensor]:
    """Decode images into a device's memory: a GPU decodes JPEGs (by nvJPEG), and `decode` the rest.

    Args:
        device: where to.
        images: encoded images, each with its name for the error's text.
        plain: which of them are known to be JPEGs, grey or in colour.

    Returns:
        RGB, uint8, (3, height, width), each.

    Raises:
        PipelineError: an image is damaged, or the GPU decodes none of those that the CPU does.
    """
    if device.type != "cuda":
        return [decode(data, name).to(device) for data, name in images]
    jpegs = iter(_decode_on_gpu(device, list(itertools.compress(images, plain))))
    return [
        next(jpegs) if is_plain else decode(data, name).to(device)
        for (data, name), is_plain in zip(images, plain, strict=True)
    ]


def _decode_on_gpu(device: torch.device, images: Sequence[tuple[bytes, str]]) -> list[Tensor]:
    if not images:
        return []
    try:
        decoded: list[Tensor] = _image_operators().decode_jpegs_cuda(
            [_as_tensor(data) for data, _ in images], _RGB, device
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        for data, name in images:
            decode(data, name)  # names the damaged one, if that is the reason
        raise PipelineError(
            f"the GPU decodes none of {len(images)} JPEGs, and the CPU all of them: {error}",
            "omit --decode; training resumes from the last checkpoint",
        ) from error
    return decoded


def resize(image: Tensor, size: tuple[int, int], how: Interpolation = "bilinear") -> Tensor:
    """Resize a uint8 image (3, height, width) to ``size`` (height, width), antialiased.

    ``area`` gives each pixel the mean over the part of the image that it covers, ``nearest`` takes the
    pixel under its centre; both alias or block as they do everywhere.
    """
    if image.shape[1:] == size:
        return image
    if how == "area":
        means = _area(_area(image.float(), size[0], 1), size[1], 2)
        return means.round().to(torch.uint8)
    # A batch of one whose strides say that pixels are interleaved, which `image[None]` leaves open.
    batch = image.movedim(0, -1)[None].movedim(-1, 1)
    if how == "nearest":
        return F.interpolate(batch, size, mode="nearest-exact")[0]
    mode = "bicubic" if how == "cubic" else "bilinear"
    if image.is_cuda:  # where the filter is for floating point alone
        batch = batch.float()
    resized = F.interpolate(batch, size, mode=mode, antialias=True, align_corners=False)[0]
    return resized.round().clamp(0, 255).to(torch.uint8) if image.is_cuda else resized


def resize_short_side(image: Tensor, side: int, how: Interpolation = "bilinear") -> Tensor:
    """Resize an image, keeping its shape, so that its short side has ``side`` pixels."""
    height, width = image.shape[1:]
    short = min(height, width)
    return resize(image, (round(height * side / short), round(width * side / short)), how)


def centre_square(image: Tensor, side: int) -> Tensor:
    """The centre square of an image, resized to ``side`` (Krizhevsky 2012, section 2)."""
    height, width = image.shape[1:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return resize(image[:, top : top + short, left : left + short], (side, side))


def _area(x: Tensor, length: int, dim: int) -> Tensor:
    """Means over ``length`` equal stretches along ``dim``, which may begin and end within a pixel."""
    old = x.shape[dim]
    sums = F.pad(x.cumsum(dim), (0, 0) * (2 - dim) + (1, 0))
    edges = torch.linspace(0, old, length + 1, dtype=torch.float64, device=x.device)
    below = edges.floor().long().clamp(max=old - 1)
    share = (edges - below).float().view(-1, *(1,) * (2 - dim))
    low, high = sums.index_select(dim, below), sums.index_select(dim, below + 1)
    return torch.lerp(low, high, share).diff(dim=dim) * (length / old)


@functools.cache
def _image_operators() -> Any:
    # The operators' library loads in milliseconds; `import torchvision.io` brings the whole of
    # torchvision, seconds in every process.
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    torch.ops.load_library(next(Path(spec.origin).parent.glob("image*.so")))
    return torch.ops.image
