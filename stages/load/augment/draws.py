"""The random numbers of augmentation: of (seed, epoch, image), never of a process or a place in a batch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The streams of random numbers of one seed, kept apart by a number of their own; 0 is `stages.load.order`'s.
_COMMON, _CROP, _DISTORTION = 1, 2, 3


@dataclass(frozen=True)
class Draw:
    """The random numbers of one image in one epoch.

    Attributes:
        place: (2,), uniform in [0, 1): vertical and horizontal place of the crop.
        mirror: whether to mirror it.
        colour: (3,), standard normal factors of the colour noise.
        key: seed, epoch and image, for the numbers that only some papers need.
    """

    place: NDArray[np.float32]
    mirror: bool
    colour: NDArray[np.float32]
    key: tuple[int, int, int]

    def crop(self) -> np.random.Generator:
        """The source of a crop's scale, shape and interpolation."""
        seed, epoch, image = self.key
        return np.random.default_rng([seed, epoch, _CROP, image])

    def distortion(self, amount: float) -> NDArray[np.float32]:
        """Order (3) and factors (3) of the photometric distortions, (6,): see `colour.distort`."""
        seed, epoch, image = self.key
        generator = np.random.default_rng([seed, epoch, _DISTORTION, image])
        factors = generator.uniform(1 - amount, 1 + amount, 3)
        return np.concatenate([generator.permutation(3), factors]).astype(np.float32)


class Draws:
    """The random numbers of one epoch; ``draws[i]`` are those of image ``i``."""

    def __init__(self, seed: int, epoch: int, images: int) -> None:
        self._seed, self._epoch = seed, epoch
        generator = np.random.default_rng([seed, epoch, _COMMON])
        self._place = generator.random((images, 2), dtype=np.float32)
        self._mirror = generator.random(images) < 0.5
        self._colour = generator.standard_normal((images, 3), dtype=np.float32)

    def __getitem__(self, image: int) -> Draw:
        return Draw(
            self._place[image],
            bool(self._mirror[image]),
            self._colour[image],
            (self._seed, self._epoch, int(image)),
        )
