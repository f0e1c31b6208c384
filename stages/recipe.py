"""What defines a training: everything that changes the numbers, and nothing that does not.

Devices, worker counts and paths are not here; so a recipe, a data set and a seed name a run wherever
it is computed. Pure data: importing this module imports no torch.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Protocol = Literal["centre_crop", "ten_crop"]
ColourNoise = Literal["none", "standard_deviation", "variance"]

# (from epoch, learning rate) pairs: each rate holds from its epoch until the next one's.
Rates = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Augmentation:
    """How a training crop is made. Lengths in pixels, intensities on the 0-255 scale.

    Attributes:
        resize: length of the short side; the centre square of that size is the training image.
        crop: side of the random crop.
        mean: what is subtracted: the mean image's central crop, or one mean a channel.
        flip: mirror half of the crops.
        random_crop: draw the crop's place; else always the centre.
        colour_noise: shift along the principal components of RGB, scaled by each component's
            ``standard_deviation`` (the authors' code) or ``variance`` (the paper's formula, for
            which intensities are taken on the 0-1 scale); Krizhevsky 2012, section 4.1.
        colour_sigma: standard deviation of the random factor of `colour_noise`.
        colour_divisor: the image is divided by this while colour noise is on (authors' code: 1.1).
        colour_until: epoch from which colour noise (and its divisor) is off; None for never.
    """

    resize: int
    crop: int
    mean: Literal["image", "channel"] = "image"
    flip: bool = True
    random_crop: bool = True
    colour_noise: ColourNoise = "none"
    colour_sigma: float = 0.1
    colour_divisor: float = 1.0
    colour_until: float | None = None


@dataclass(frozen=True)
class ParameterGroup:
    """The parameters whose whole name matches `pattern` (a regular expression), and their rates.

    The first group that matches takes a parameter. A rate of 0 freezes it.
    """

    pattern: str
    rates: Rates
    weight_decay: float


@dataclass(frozen=True)
class Optimiser:
    """Momentum SGD as in Krizhevsky 2012, section 5: the learning rate is inside the velocity."""

    groups: tuple[ParameterGroup, ...]
    momentum: float = 0.9


@dataclass(frozen=True)
class Deviation:
    """A named departure from what was published, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Recipe:
    """One training, fully described.

    Attributes:
        model: a name that `models.create` knows; `knobs` are its arguments.
        batch_size: images a step, over all workers together.
        epochs: passes over the training set; an epoch is floor(images / batch_size) steps.
        protocols: how the trained network is tested; the first is the paper's own.
        start_steps: after so many steps the loss must have left ln(classes), or the run stops.
        deviations: departures from the published recipe; told to readers, not part of the identity.
    """

    model: str
    augmentation: Augmentation
    optimiser: Optimiser
    batch_size: int
    epochs: int
    protocols: tuple[Protocol, ...]
    start_steps: int
    knobs: Mapping[str, Any] = field(default_factory=dict)
    deviations: tuple[Deviation, ...] = ()

    def resolved(self) -> dict[str, Any]:
        """Everything that changes the numbers, as plain JSON-ready data."""
        values = dataclasses.asdict(self)
        del values["deviations"]
        return values

    @property
    def id(self) -> str:
        """A hash of `resolved`, 12 hexadecimal digits."""
        return digest(self.resolved())


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that name a JSON-ready value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
