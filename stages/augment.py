"""From the centre square of an image to what a network sees: crops, mirror images, mean, colour.

Geometry happens on uint8 in the loader's processes, arithmetic on floats on the training device.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.dataset import Dataset
from stages.recipe import Augmentation, Protocol

# The streams of random numbers of one seed, kept apart by a number of their own.
_ORDER, _AUGMENTATION = 0, 1


def epoch_order(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the training images: a function of (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(images)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one epoch's augmentation, one row an image.

    Indexed by the image, not by when or where it is loaded: so a crop is a function of
    (seed, epoch, image), whatever the number of workers.

    Attributes:
        place: (images, 2), uniform in [0, 1): vertical and horizontal place of the crop.
        mirror: (images,), bool.
        colour: (images, 3), standard normal factors of the colour noise.
    """

    place: NDArray[np.float32]
    mirror: NDArray[np.bool_]
    colour: NDArray[np.float32]

    @classmethod
    def of_epoch(cls, seed: int, epoch: int, images: int) -> "Draws":
        """Draw for a training set of ``images`` images."""
        generator = np.random.default_rng([seed, epoch, _AUGMENTATION])
        return cls(
            place=generator.random((images, 2), dtype=np.float32),
            mirror=generator.random(images) < 0.5,
            colour=generator.standard_normal((images, 3), dtype=np.float32),
        )


def training_crop(
    square: NDArray[np.uint8], recipe: Augmentation, place: NDArray[np.float32], mirror: bool
) -> NDArray[np.uint8]:
    """A crop of (3, crop, crop) from a square of (3, resize, resize), by the recipe."""
    room = square.shape[1] - recipe.crop
    top, left = (place * (room + 1)).astype(int) if recipe.random_crop else (room // 2, room // 2)
    crop = square[:, top : top + recipe.crop, left : left + recipe.crop]
    return crop[:, :, ::-1] if mirror and recipe.flip else crop


def evaluation_views(squares: Tensor, crop: int, protocol: Protocol) -> Tensor:
    """The views of each image that a protocol tests.

    Args:
        squares: (n, 3, side, side).
        crop: side of a view.
        protocol: ``centre_crop``, or ``ten_crop``: the four corners and the centre, each with its
            mirror image (Krizhevsky 2012, section 4.1).

    Returns:
        (views, n, 3, crop, crop).
    """
    room = squares.shape[-1] - crop
    middle = room // 2
    corners = [(middle, middle)]
    if protocol == "ten_crop":
        corners += [(0, 0), (0, room), (room, 0), (room, room)]
    views = torch.stack([squares[..., y : y + crop, x : x + crop] for y, x in corners])
    return torch.cat([views, views.flip(-1)]) if protocol == "ten_crop" else views


class Normalise:
    """uint8 crops to the network's input: float32 on the 0-255 scale, less the mean, plus colour noise.

    The mean image's central part is subtracted from every crop, whatever the crop's place: so the
    authors' code had it (convdata_jpeg.py).
    """

    def __init__(self, dataset: Dataset, recipe: Augmentation, device: torch.device) -> None:
        self._recipe = recipe
        statistics = dataset.info.statistics
        if recipe.mean == "image":
            mean = torch.from_numpy(dataset.mean_image)[None]
            size = (recipe.resize, recipe.resize)
            mean = F.interpolate(mean, size, mode="bilinear", antialias=True, align_corners=False)
            start = (recipe.resize - recipe.crop) // 2
            self._mean = mean[0, :, start : start + recipe.crop, start : start + recipe.crop].to(
                device
            )
        else:
            self._mean = torch.tensor(statistics.mean, device=device).view(3, 1, 1)
        values = torch.tensor(statistics.eigenvalues).clamp(min=0)
        # On the 0-255 scale. The variance form takes intensities on the 0-1 scale: x / 255 shifted by
        # variance / 255^2 is x shifted by variance / 255.
        scale = values / 255 if recipe.colour_noise == "variance" else values.sqrt()
        vectors = torch.tensor(statistics.eigenvectors)
        self._components = (recipe.colour_sigma * scale[:, None] * vectors).to(device)

    def __call__(self, crops: Tensor, colour: Tensor | None = None) -> Tensor:
        """Normalise.

        Args:
            crops: uint8, (..., 3, crop, crop).
            colour: standard normal factors (n, 3), or None where there is no noise (tests, late epochs).
        """
        x = crops.float() - self._mean
        if colour is None:
            return x
        shift = colour @ self._components
        return (x + shift[:, :, None, None]) / self._recipe.colour_divisor
