"""What a task is: the five verbs that the stages call.

Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stages.execution import Execution
from stages.job import Cost, OnEpoch, TrainJob, TrainResult
from stages.load.samples import Dataset
from stages.measurement import Interval
from stages.parallel import Part
from stages.recipe import Pretrained, Recipe

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


@dataclass(frozen=True)
class Net:
    """A trained network to test.

    Attributes:
        origin: the recipe that trained it, or the name under which others published it.
        weights: file of its weights; None for those in a library's own cache.
        weight: its weight in the ensemble's average.
    """

    origin: Recipe | Pretrained
    weights: Path | None
    weight: float = 1.0


class Task(Protocol):
    """How recipes of one kind are carried out."""

    def train(
        self, job: TrainJob, device: torch.device, on_epoch: OnEpoch | None = None
    ) -> TrainResult:
        """Train to the end of the recipe, from where an earlier call stopped.

        Leaves ``job.folder.weights``; writes what happens to ``job.folder.journal``.

        Raises:
            TrainingStopped: continuing is pointless, on every worker alike.
            PipelineError: a worker cannot read the data set.
        """

    def keys(self, dataset: Dataset, protocol: str) -> Sequence[str]:
        """What a test asks about, each once: images, sentences, samples."""

    def predict(
        self,
        nets: Sequence[Net],
        dataset: Dataset,
        protocol: str,
        part: Part,
        *,
        processes: int,
        device: torch.device,
    ) -> pa.Table:
        """One row per item of this worker's part; the column ``index`` is its place among the keys.

        Raises:
            PipelineError: weights that cannot be loaded, or that belong to other data.
        """

    def score(
        self, predictions: pa.Table, dataset: Dataset, protocol: str
    ) -> Mapping[str, Interval]:
        """Metric -> figure, from the predictions of all parts together, in the order of the keys."""

    def cost(
        self,
        recipe: Recipe,
        items: int,
        classes: int,
        device: torch.device | str,
        execution: Execution,
    ) -> Cost:
        """What a training on the given number of items costs.

        Args:
            recipe: of the training.
            items: in the training split.
            classes: to tell apart.
            device: to measure on; or the name of one whose data sheet is used.
            execution: how it is computed.
        """
