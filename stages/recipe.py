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

# How a trained network is tested; `stages.tasks.classification.protocols` says what each one sees.
Protocol = Literal[
    "centre_crop",
    "ten_crop",
    "dense",
    "dense_multi_scale",
    "multi_crop",
    "multi_crop_and_dense",
    "144_crops",
]
ColourNoise = Literal["none", "standard_deviation", "variance"]
Interpolation = Literal["bilinear", "cubic", "area", "nearest"]


@dataclass(frozen=True)
class CentreSquare:
    """Crops lie anywhere in the centre square (Krizhevsky 2012, section 4.1)."""

    kind: Literal["centre_square"] = "centre_square"


@dataclass(frozen=True)
class FixedCrops:
    """Crops are the corners and the centre of the centre square (Zeiler and Fergus 2013, section 3)."""

    kind: Literal["fixed_crops"] = "fixed_crops"


@dataclass(frozen=True)
class PaddedSquare:
    """Crops lie anywhere in the centre square with a black border (He 2015, section 4.2).

    Attributes:
        border: pixels on each side.
    """

    border: int
    kind: Literal["padded_square"] = "padded_square"


@dataclass(frozen=True)
class ScaleJitter:
    """Crops lie anywhere in the whole image, whose short side is drawn anew for each use.

    Simonyan and Zisserman 2014, section 3.1; He 2015, section 3.4.

    Attributes:
        low, high: bounds of the short side in pixels, both included; equal for one fixed scale.
    """

    low: int
    high: int
    kind: Literal["scale_jitter"] = "scale_jitter"


@dataclass(frozen=True)
class AreaCrop:
    """Crops have a random share of the image's area and a random shape, and are resized to the crop.

    Szegedy 2014, section 6.

    Attributes:
        area: bounds of the share.
        ratio: bounds of width / height.
        log_ratio: draw the ratio's logarithm uniformly (torchvision), not the ratio (the paper).
        interpolations: one is drawn for each use.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    log_ratio: bool = False
    interpolations: tuple[Interpolation, ...] = ("bilinear",)
    kind: Literal["area_crop"] = "area_crop"


Sampling = CentreSquare | FixedCrops | PaddedSquare | ScaleJitter | AreaCrop


@dataclass(frozen=True)
class Augmentation:
    """How a training crop is made. Lengths in pixels, intensities on the 0-255 scale.

    Attributes:
        resize: length of the short side; the centre square of that size is the training image of
            `CentreSquare`, `FixedCrops` and `PaddedSquare`, and what is tested with a centre crop or ten
            crops.
        crop: side of what the network sees.
        sampling: where the crop is taken from.
        mean: what is subtracted: the mean image's central crop, or one mean a channel.
        unit_variance: divide by each channel's standard deviation (today's recipes).
        flip: mirror half of the crops.
        random_crop: draw the crop's place; else always the centre.
        distortion: change contrast, brightness and colour saturation, in random order, each by a
            factor uniform in 1 - `distortion` to 1 + `distortion`; 0 for none. Before the noise.
        colour_noise: shift along the principal components of RGB, scaled by each component's
            ``standard_deviation`` (the authors' code) or ``variance`` (the paper's formula, for
            which intensities are taken on the 0-1 scale); Krizhevsky 2012, section 4.1.
        colour_sigma: standard deviation of the random factor of `colour_noise`.
        colour_divisor: the image is divided by this while colour noise is on (authors' code: 1.1).
        colour_until: epoch from which colour noise (and its divisor) is off; None for never.
    """

    resize: int
    crop: int
    sampling: Sampling = CentreSquare()
    mean: Literal["image", "channel"] = "image"
    unit_variance: bool = False
    flip: bool = True
    random_crop: bool = True
    distortion: float = 0.0
    colour_noise: ColourNoise = "none"
    colour_sigma: float = 0.1
    colour_divisor: float = 1.0
    colour_until: float | None = None


@dataclass(frozen=True)
class Steps:
    """Fixed drops: (from epoch, learning rate) pairs; each rate holds until the next one's epoch."""

    rates: tuple[tuple[float, float], ...]
    kind: Literal["steps"] = "steps"


@dataclass(frozen=True)
class Plateau:
    """The rate is multiplied by ``factor`` when the validation error stops improving.

    Looked at after every epoch: the centre-crop top-1 error. "Stops improving" is nowhere defined in the
    papers; here: for ``patience`` epochs it was never ``threshold`` points below its best.

    Attributes:
        start: the first rate.
        drops: at most so many.
    """

    start: float
    factor: float = 0.1
    drops: int = 3
    patience: int = 3
    threshold: float = 0.1
    kind: Literal["plateau"] = "plateau"


@dataclass(frozen=True)
class Polynomial:
    """start (1 - progress)^power, with progress from 0 to 1 over the whole training (Caffe's "poly")."""

    start: float
    power: float
    kind: Literal["polynomial"] = "polynomial"


@dataclass(frozen=True)
class Staircase:
    """Multiplied by ``factor`` every ``every`` epochs (Szegedy 2014, section 6: 4 % less every 8)."""

    start: float
    factor: float
    every: float
    kind: Literal["staircase"] = "staircase"


Schedule = Steps | Plateau | Polynomial | Staircase


@dataclass(frozen=True)
class ParameterGroup:
    """The parameters whose whole name matches `pattern` (a regular expression), and their rates.

    The first group that matches takes a parameter. A rate of 0 freezes it.

    Attributes:
        factor: multiplies the schedule's rate (biases at twice the weights').
    """

    pattern: str
    schedule: Schedule
    weight_decay: float
    factor: float = 1.0


@dataclass(frozen=True)
class Optimiser:
    """Stochastic gradient descent with momentum.

    Attributes:
        groups: which parameters learn how fast.
        momentum: share of the velocity that a step keeps.
        rate: where the learning rate stands, which matters when it changes. ``inside`` the velocity:
            v <- m v - rate g, w <- w + v (Krizhevsky 2012, section 5; cuda-convnet, Caffe); or
            ``outside``: v <- m v + g, w <- w - rate v (Torch, PyTorch).
        nesterov: w <- w - rate (g + m v); only with the rate ``outside`` (fb.resnet.torch).
    """

    groups: tuple[ParameterGroup, ...]
    momentum: float = 0.9
    rate: Literal["inside", "outside"] = "inside"
    nesterov: bool = False


@dataclass(frozen=True)
class Start:
    """Weights to begin with: those of another training, on the same data with the same seed.

    Attributes:
        recipe: of that training, which runs first where it has not run yet.
        parameters: regular expression; what matches a whole name is copied, the rest begins at random.
    """

    recipe: "Recipe"
    parameters: str = ".*"


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
        epochs: passes over the training set.
        protocols: how the trained network is tested; the first is the paper's own.
        test_scales: short sides in pixels of the protocols that test whole images, ascending; the
            middle one is that of ``dense``.
        drop_last: an epoch is floor(images / batch_size) steps; else every image is seen, the last
            ones in a smaller batch.
        shuffle_buffer: None for a uniformly random order of all images; else shards are visited
            whole, in random order, and an image moves by fewer than so many places in it.
        start_steps: after so many steps the loss must have left ln(classes), or the run stops.
        start: weights of another run to begin with (Simonyan and Zisserman 2014, section 3.1).
        auxiliary_weight: what an auxiliary head's loss counts (Szegedy 2014, section 5: 0.3).
        label_smoothing: share of the target that is spread evenly over all classes.
        filter_rms: after every step, filters of a larger root mean square are scaled back to it
            (Zeiler and Fergus 2013, section 3: 0.1).
        average_from: from this epoch on the mean of the weights after each step is kept, tested and
            saved (Polyak averaging; Szegedy 2014, section 6).
        deviations: departures from the published recipe; told to readers, not part of the identity.
    """

    model: str
    augmentation: Augmentation
    optimiser: Optimiser
    batch_size: int
    epochs: int
    protocols: tuple[Protocol, ...]
    start_steps: int
    test_scales: tuple[int, ...] = ()
    drop_last: bool = True
    shuffle_buffer: int | None = None
    start: Start | None = None
    auxiliary_weight: float = 0.0
    label_smoothing: float = 0.0
    filter_rms: float | None = None
    average_from: float | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)
    deviations: tuple[Deviation, ...] = ()

    def resolved(self) -> dict[str, Any]:
        """Everything that changes the numbers, as plain JSON-ready data."""
        values = dataclasses.asdict(self)
        del values["deviations"]
        if self.start is not None:
            values["start"]["recipe"] = self.start.recipe.resolved()
        return values

    @property
    def id(self) -> str:
        """A hash of `resolved`, 12 hexadecimal digits."""
        return digest(self.resolved())

    @property
    def ancestors(self) -> tuple["Recipe", ...]:
        """The recipes that must have run before this one, first to last."""
        return () if self.start is None else (*self.start.recipe.ancestors, self.start.recipe)


@dataclass(frozen=True)
class Member:
    """One network of an ensemble.

    Attributes:
        recipe: how it is trained and what its tests show it.
        weight: what its probabilities count, beside the others' weights.
        seed: added to the command's seed; tells members of the same recipe apart.
    """

    recipe: Recipe
    weight: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Ensemble:
    """Several networks, tested by the weighted mean of their probabilities.

    Attributes:
        members: at least two.
        protocols: as in `Recipe`; every member must know them.
        deviations: of the whole; the members' recipes have their own.
    """

    members: tuple[Member, ...]
    protocols: tuple[Protocol, ...]
    deviations: tuple[Deviation, ...] = ()

    @property
    def id(self) -> str:
        """A hash of the members' recipes, weights and seeds."""
        return digest([[m.recipe.id, m.weight, m.seed] for m in self.members])


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that name a JSON-ready value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
