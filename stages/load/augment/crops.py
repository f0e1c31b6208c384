"""The crop of a training image that the network sees in one step."""

import math

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from stages.augmentation import (
    AreaCrop,
    Augmentation,
    CentreSquare,
    FixedCrops,
    PaddedSquare,
    ScaleJitter,
)
from stages.load.augment.draws import Draw
from stages.load.decode import resize, resize_short_side

# torchvision's number of tries at a shape that fits into the image.
_TRIES = 10


def training_crop(image: Tensor, recipe: Augmentation, draw: Draw) -> Tensor:
    """One random crop.

    Args:
        image: uint8, (3, height, width); the centre square for `CentreSquare`, `FixedCrops` and
            `PaddedSquare`.
        recipe: how crops are made.
        draw: the image's random numbers.

    Returns:
        uint8, (3, crop, crop).
    """
    place = tuple(draw.place) if recipe.random_crop else None
    size = (recipe.crop, recipe.crop)
    match recipe.sampling:
        case CentreSquare():
            crop = _window(image, size, place)
        case FixedCrops():
            crop = _window(image, size, place and _corner_or_centre(place[0]))
        case PaddedSquare(border=border):
            crop = _window(F.pad(image, (border,) * 4), size, place)
        case ScaleJitter(low=low, high=high):
            side = int(draw.crop().integers(low, high, endpoint=True))
            crop = _window(resize_short_side(image, side), size, place)
        case AreaCrop() as sampling:
            generator = draw.crop()
            shape = _area_shape(image.shape[1], image.shape[2], sampling, generator)
            how = sampling.interpolations[generator.integers(len(sampling.interpolations))]
            crop = resize(_window(image, shape, place), size, how)
    return crop.flip(-1) if recipe.flip and draw.mirror else crop


def _window(image: Tensor, size: tuple[int, int], place: tuple[float, float] | None) -> Tensor:
    """A part of ``size`` of an image, at a place in [0, 1) x [0, 1) or, if None, in the middle."""
    room = [whole - part for whole, part in zip(image.shape[1:], size, strict=True)]
    if place is None:
        top, left = room[0] // 2, room[1] // 2
    else:
        top, left = (int(p * (r + 1)) for p, r in zip(place, room, strict=True))
    return image[:, top : top + size[0], left : left + size[1]]


def _corner_or_centre(uniform: float) -> tuple[float, float] | None:
    """The five places of `_window` that make, with their mirror images, ten crops."""
    last = math.nextafter(1.0, 0.0)
    return ((0.0, 0.0), (0.0, last), (last, 0.0), (last, last), None)[int(uniform * 5)]


def _area_shape(
    height: int, width: int, sampling: AreaCrop, generator: np.random.Generator
) -> tuple[int, int]:
    """Height and width of a crop; the largest within the bounds of the shape if ten tries do not fit."""
    narrow, wide = sampling.ratio
    for _ in range(_TRIES):
        area = height * width * generator.uniform(*sampling.area)
        ratio = (
            math.exp(generator.uniform(math.log(narrow), math.log(wide)))
            if sampling.log_ratio
            else generator.uniform(narrow, wide)
        )
        rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            return rows, columns
    return min(height, round(width / narrow)), min(width, round(height * wide))
