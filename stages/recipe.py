"""What defines a training: everything that changes the numbers, and nothing that does not.

Devices, worker counts and paths are not here; so a recipe, a data set and a seed name a run wherever
it is computed. Pure data: importing this module imports no torch.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from stages.execution import Execution

# The scales at which a paper's recipes are written, from the smallest to the published one.
Profile = Literal["toy", "mini", "paper"]
PROFILES: tuple[Profile, ...] = ("toy", "mini", "paper")

# The role of the data of all recipes that name no other.
IMAGENET = "imagenet"


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
        drops: at most this many.
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
    """How a training goes down its loss: one of the kinds below.

    Attributes:
        groups: which parameters learn how fast.
    """

    groups: tuple[ParameterGroup, ...]


@dataclass(frozen=True)
class MomentumSGD(Optimiser):
    """Stochastic gradient descent with momentum.

    Attributes:
        momentum: share of the velocity that a step keeps.
        rate: where the learning rate stands, which matters when it changes. ``inside`` the velocity:
            v <- m v - rate g, w <- w + v (Krizhevsky 2012, section 5; cuda-convnet, Caffe); or
            ``outside``: v <- m v + g, w <- w - rate v (Torch, PyTorch).
        nesterov: w <- w - rate (g + m v); only with the rate ``outside`` (fb.resnet.torch).
    """

    momentum: float = 0.9
    rate: Literal["inside", "outside"] = "inside"
    nesterov: bool = False


@dataclass(frozen=True)
class RMSProp(Optimiser):
    """RMSProp as TensorFlow 1 has it, with which Google trained the Inceptions (Szegedy 2015, section 8).

    With g the gradient, weight decay included: s <- d s + (1 - d) g^2, from s = 1;
    v <- m v + rate g / sqrt(s + epsilon); w <- w - v.

    Attributes:
        decay: d, the share of the mean square that a step keeps.
        momentum: m, the share of the velocity that a step keeps.
        epsilon: added inside the square root.
        clip_norm: a gradient, of all parameters together, that is longer than this is scaled back to it;
            None for no bound.
    """

    decay: float = 0.9
    momentum: float = 0.9
    epsilon: float = 1.0
    clip_norm: float | None = None


@dataclass(frozen=True)
class Start:
    """Weights to begin with: those of another training with the same seed, on its own recipe's data.

    Attributes:
        recipe: defines that training, which runs first where it has not run yet.
        parameters: regular expression; what matches a whole name is copied, the rest begins at random.
    """

    recipe: "Recipe"
    parameters: str = ".*"


@dataclass(frozen=True)
class Deviation:
    """A named departure from what was published, and why."""

    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What defines a training, whatever its task: what every kind of recipe has, and its identity.

    A task has a kind of its own with further fields, such as
    `stages.tasks.classification.recipe.Classification`. A field that is added to a kind that has runs says
    so by ``field(default=..., metadata={"since": 2})``: at its default it is not part of the identity, and
    runs from before are found again.

    Attributes:
        model: a name that `models.create` knows; `knobs` are its arguments.
        epochs: passes over the training set.
        protocols: how the trained network is tested; the first is the paper's own.
        known_protocols: the tests that there are for recipes of its kind.
        data: the role of the data set that it trains and tests on: a name by which a command line says
            which images these are. Not part of the identity, for the run has that of the images themselves.
        start: weights of another run to begin with (Simonyan and Zisserman 2014, section 3.1).
        deviations: departures from the published recipe; shown to readers, and not part of the identity.
    """

    known_protocols: ClassVar[tuple[str, ...]] = ()

    model: str
    epochs: int
    protocols: tuple[str, ...]
    knobs: Mapping[str, Any] = field(default_factory=dict)
    start: Start | None = None
    data: str = IMAGENET
    deviations: tuple[Deviation, ...] = ()

    def resolved(self) -> dict[str, Any]:
        """Everything that changes the numbers, as plain JSON-ready data."""
        values = _plain(self)
        assert isinstance(values, dict)
        del values["deviations"]
        del values["data"]  # which images these are is a part of the run, not of the recipe
        return values

    @property
    def starts(self) -> tuple[Start, ...]:
        """The runs whose weights it begins with. A kind that begins with those of several overrides this."""
        return () if self.start is None else (self.start,)

    @property
    def id(self) -> str:
        """A hash of `resolved`, 12 hexadecimal digits."""
        return digest(self.resolved())

    @property
    def ancestors(self) -> tuple["Recipe", ...]:
        """The recipes that must have run before this one, first to last."""
        before = [
            recipe for start in self.starts for recipe in (*start.recipe.ancestors, start.recipe)
        ]
        return tuple({recipe.id: recipe for recipe in before}.values())

    def at_once(self, execution: Execution, workers: int) -> int | None:
        """How many items a worker computes at once; None for all of its part of a batch.

        Raises:
            PipelineError: a kind of recipe says that the execution would change its numbers.
        """
        return execution.micro_batch

    @property
    def roles(self) -> frozenset[str]:
        """The roles of all data that this training and those before it need."""
        return frozenset(recipe.data for recipe in (*self.ancestors, self))


@dataclass(frozen=True)
class Pretrained:
    """A network that was not trained here. A task has a kind of its own, which says what its tests show.

    Attributes:
        name: where its architecture and weights come from (see `models.pretrained.libraries`).
        data: the role of the data set that it is tested on. Not part of its identity, as with a recipe.
    """

    name: str
    data: ClassVar[str] = IMAGENET

    @property
    def model(self) -> str:
        """The name, as a recipe's network has one."""
        return self.name

    def resolved(self) -> dict[str, Any]:
        """Everything that changes the numbers, as plain JSON-ready data."""
        return dataclasses.asdict(self)

    @property
    def id(self) -> str:
        """A hash of `resolved`, 12 hexadecimal digits."""
        return digest(self.resolved())


@dataclass(frozen=True)
class Member:
    """One network of an ensemble.

    Attributes:
        recipe: how it is trained and what its tests show it.
        weight: its weight in the ensemble's average.
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
    protocols: tuple[str, ...]
    deviations: tuple[Deviation, ...] = ()

    @property
    def data(self) -> str:
        """The role of the data that the ensemble is tested on: that of its members."""
        return self.members[0].recipe.data

    @property
    def roles(self) -> frozenset[str]:
        """The roles of all data that its members and the trainings before them need."""
        return frozenset[str]().union(*(member.recipe.roles for member in self.members))

    @property
    def id(self) -> str:
        """A hash of the members' recipes, weights and seeds."""
        return digest([[m.recipe.id, m.weight, m.seed] for m in self.members])


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, through and through, without later fields that are at their defaults."""
    match value:
        case Start():
            return {"recipe": value.recipe.resolved(), "parameters": value.parameters}
        case tuple() | list():
            return [_plain(item) for item in value]
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
    if not dataclasses.is_dataclass(value):
        return value
    values = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    later = [f for f in dataclasses.fields(value) if "since" in f.metadata]
    for item in later:
        if values[item.name] == item.default:
            del values[item.name]
    return {name: _plain(item) for name, item in values.items()}


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that name a JSON-ready value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
