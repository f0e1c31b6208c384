"""A training to be done, the folder it is done in, and how it ended; and what it costs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from stages.errors import PipelineError
from stages.execution import Execution
from stages.recipe import Recipe


class TrainingStopped(PipelineError):  # noqa: N818 - an outcome, not a bug
    """The training itself says that continuing is pointless; every worker raises it at the same step."""


@dataclass(frozen=True)
class RunFolder:
    """What lies in a run's folder; every worker must see the same one.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def weights(self) -> Path:
        """The trained weights, once the run has finished."""
        return self.root / "weights.safetensors"

    @property
    def result(self) -> Path:
        """How the training ended; written last."""
        return self.root / "result.json"

    @property
    def journal(self) -> Path:
        """What happened step by step, for the screen and the tracking store."""
        return self.root / "journal.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints, gone once the run has finished."""
        return self.root / "checkpoints"

    @property
    def description(self) -> Path:
        """What defines the run, for people and for the tracking store."""
        return self.root / "run.json"

    @property
    def scratch(self) -> Path:
        """What a launcher writes while it trains."""
        return self.root / "ray"

    @property
    def evaluations(self) -> Path:
        """The folder of the tests' results."""
        return self.root / "evaluations"

    def evaluation(self, protocol: str) -> Path:
        """The figures of the test under ``protocol``."""
        return self.evaluations / f"{protocol}.json"

    def predictions(self, protocol: str) -> Path:
        """One row per item of the test under ``protocol``, from which its figures were counted."""
        return self.evaluations / f"{protocol}.parquet"


@dataclass(frozen=True)
class TrainJob:
    """What to train and where to keep it.

    Attributes:
        recipe: everything that changes the numbers.
        dataset: a data set folder.
        folder: the run's own.
        seed: of initial weights, order, augmentation and dropout.
        starts: trained weights of the runs that the recipe's `starts` name, in their order.
        execution: how it is computed.
        checkpoint_seconds: shortest time between two checkpoints; 0 for one every step.
        loader_processes: loader processes of each worker, where images are decoded on the fly.
    """

    recipe: Recipe
    dataset: Path
    folder: RunFolder
    seed: int
    starts: tuple[Path, ...] = ()
    execution: Execution = field(default_factory=Execution)
    checkpoint_seconds: float = 30.0
    loader_processes: int = 0

    @property
    def start(self) -> Path | None:
        """The weights to start from, of a recipe that starts from one run or from none."""
        return self.starts[0] if self.starts else None

    def on_cpus(self, count: int) -> "TrainJob":
        """The same job for a worker that has ``count`` CPUs."""
        return replace(self, loader_processes=count)


@dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Attributes:
        steps: how many steps the optimiser took.
        loss: mean training loss over the last record's steps.
        seconds: spent in the loop, over all interruptions.
        images_per_second: over the same time, all workers together.
    """

    steps: int
    loss: float
    seconds: float
    images_per_second: float


# Called on every worker after each epoch, with the epoch's number from 1.
OnEpoch = Callable[[int], None]


def read_result(folder: RunFolder) -> TrainResult | None:
    """The result of a finished run, or None."""
    return TrainResult(**json.loads(folder.result.read_text())) if folder.result.is_file() else None


@dataclass(frozen=True)
class Cost:
    """What a training costs on one device, loading left out.

    Attributes:
        steps: how many steps the optimiser takes.
        batch_size: items in a step.
        seconds: time for one item: forward, backward and its share of the optimiser's step.
        parameters: how many the network has.
        multiply_adds: in one item's forward pass.
        activation_bytes: what one item keeps for the backward pass.
        device: what it was measured on, or whose data sheet was used.
        measured: whether it was measured on this machine.
    """

    steps: int
    batch_size: int
    seconds: float
    parameters: int
    multiply_adds: int
    activation_bytes: int
    device: str
    measured: bool

    @property
    def total_seconds(self) -> float:
        """Seconds for the whole training on one device."""
        return self.steps * self.batch_size * self.seconds

    @property
    def total_multiply_adds(self) -> float:
        """Multiply-adds of the whole training: a backward pass costs two forward ones."""
        return 3.0 * self.multiply_adds * self.steps * self.batch_size

    def memory(self, items: int) -> int:
        """Bytes on a device that holds ``items`` at once: weights, gradients, velocities, activations."""
        return 12 * self.parameters + items * self.activation_bytes
