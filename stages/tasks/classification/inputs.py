"""From the loader's bytes to the input of the recipe's network, on the device."""

from collections.abc import Callable

import torch
from torch import Tensor

from stages.load.augment.colour import Normalise, grey
from stages.load.samples import Dataset
from stages.tasks.classification.recipe import Classification


class Grey:
    """Colour images to one channel whose intensities lie between two given ones (LeCun 1998, section II.B).

    Args:
        black: what a black pixel becomes.
        white: what a white pixel becomes.
    """

    def __init__(self, black: float, white: float) -> None:
        self._black, self._white = black, white

    def __call__(
        self, images: Tensor, colour: Tensor | None = None, distortion: Tensor | None = None
    ) -> Tensor:
        """Normalise uint8 images (..., 3, height, width); the result has one channel, float32."""
        return self._black + (self._white - self._black) / 255 * grey(images.float())


def input_of(
    recipe: Classification, dataset: Dataset, device: torch.device
) -> Callable[..., Tensor]:
    """What makes the network's input of images, their colour noise and their distortion."""
    if recipe.grey is not None:
        return Grey(*recipe.grey)
    return Normalise(dataset, recipe.augmentation, device)


def channels_of(recipe: Classification) -> int:
    """How many channels the input has."""
    return 3 if recipe.grey is None else 1
