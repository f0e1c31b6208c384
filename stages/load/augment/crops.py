"""The crop of a training image that the network sees in one step."""

import math

import numpy as np
import torch
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
        uint8, (3, crop, crop). For `PaddedSquare` the square as it is: its border is zero once the mean is
        subtracted, so `windows_of_padded` takes the crop then.
    """
    place = tuple(draw.place) if recipe.random_crop else None
    size = (recipe.crop, recipe.crop)
    match recipe.sampling:
        case CentreSquare():
            crop = _window(image, size, place)
        case FixedCrops():
            crop = _window(image, size, place and _corner_or_centre(place[0]))
        case PaddedSquare():
            return image
        case ScaleJitter(low=low, high=high):
            side = int(draw.crop().integers(low, high, endpoint=True))
            crop = _window(resize_short_side(image, side), size, place)
        case AreaCrop() as sampling:
            generator = draw.crop()
            shape = _area_shape(image.shape[1], image.shape[2], sampling, generator)
            how = sampling.interpolations[generator.integers(len(sampling.interpolations))]
            if shape is None:
                crop = _window(resize_short_side(image, recipe.crop, how), size, None)
            else:
                crop = resize(_window(image, shape, place), size, how)
    return crop.flip(-1) if recipe.flip and draw.mirror else crop


def place_in_padded(recipe: Augmentation, draw: Draw) -> tuple[int, int, bool]:
    """Where `windows_of_padded` finds an image's crop: top and left in pixels, and whether it is mirrored.

    (0, 0, False) for recipes without a `PaddedSquare`, whose crops are made already.
    """
    match recipe.sampling:
        case PaddedSquare(border=border):
            top, left = (
                (int(p * (2 * border + 1)) for p in draw.place)
                if recipe.random_crop
                else (border, border)
            )
            return top, left, recipe.flip and draw.mirror
    return 0, 0, False


def windows_of_padded(images: Tensor, places: Tensor, border: int) -> Tensor:
    """The crops of squares around which a border of zeros is put (He 2015, section 4.2).

    Args:
        images: floats less their mean, (n, channels, side, side).
        places: int64, (n, 3), of `place_in_padded`.
        border: pixels on each side.

    Returns:
        A tensor of the images' shape.
    """
    count, side = len(images), images.shape[-1]
    padded = F.pad(images, (border,) * 4).movedim(1, -1)
    along = torch.arange(side, device=images.device)
    top, left, mirrored = places.T[..., None]
    rows, columns = top + along, left + torch.where(mirrored > 0, along.flip(0), along)
    each = torch.arange(count, device=images.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


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
) -> tuple[int, int] | None:
    """Height and width of a crop.

    If ten tries do not fit, the largest within the bounds of the shape, or None for the centre crop.
    """
    narrow, wide = sampling.ratio
    for _ in range(_TRIES):
        area = height * width * generator.uniform(*sampling.area)
        ratio = (
            math.exp(generator.uniform(math.log(narrow), math.log(wide)))
            if sampling.log_ratio
            else generator.uniform(narrow, wide)
        )
        rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if sampling.swap_sides and generator.random() < 0.5:
            rows, columns = columns, rows
        if 0 < rows <= height and 0 < columns <= width:
            return rows, columns
    if sampling.fallback == "centre":
        return None
    return min(height, round(width / narrow)), min(width, round(height * wide))
