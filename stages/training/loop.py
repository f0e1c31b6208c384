"""The loop of every training by gradients: epochs, exact resumption, the journal and checkpoints.

The loop drives and the learner steps. Whatever is random in a step is a function of (seed, step, worker), so
that a checkpoint needs no generator's state, and a run that was interrupted anywhere ends with the same bits.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from stages.job import OnEpoch, TrainingStopped, TrainJob, TrainResult
from stages.journal import Journal
from stages.parallel import Part
from stages.training import checkpoint

LOGS_PER_EPOCH = 20


class Portion(Protocol):
    """One worker's part of a global batch, as the loop sees it."""

    @property
    def global_size(self) -> int:
        """Items in the global batch."""


B = TypeVar("B", bound=Portion)


class Learner(Protocol[B]):
    """What learns: its data, its networks, and what one step does to them. A worker has its own.

    Attributes:
        device: where this worker computes.
        epochs: passes over the training set.
        steps_per_epoch: at least 1.
        items_per_epoch: over all workers together.
    """

    device: torch.device
    epochs: int
    steps_per_epoch: int
    items_per_epoch: int

    def batches(self, epoch: int, first_step: int) -> Iterator[B]:
        """This worker's parts of an epoch's batches, from a step of that epoch on; begins the epoch."""

    def step(self, batch: B, step: int) -> tuple[Tensor, Mapping[str, float]]:
        """One update, the step's number counted over the whole training.

        Returns:
            This worker's sums over its items, float64 on `device`, the loss first; and what the journal
            tells beside them, such as the learning rate.
        """

    def check(self, steps: range, loss: float) -> None:
        """Judge the mean loss of some steps.

        Raises:
            TrainingStopped: continuing is pointless.
        """

    def validate(self, epoch: int, totals: Sequence[float]) -> Mapping[str, float | str]:
        """What the journal records of a finished epoch: figures by metric, in any number.

        With figures of the split ``val`` go ``protocol``, how they were tested, and ``n``, the items.

        Args:
            epoch: from 0.
            totals: the steps' sums over the epoch and all workers.
        """

    def state(self) -> dict[str, Any]:
        """Everything needed to resume: tensors and plain values in dicts and lists."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state` returned, read on the CPU."""

    def save(self, path: Path) -> None:
        """Write the trained weights."""


def fit(learner: Learner[B], job: TrainJob, part: Part, on_epoch: OnEpoch | None) -> TrainResult:
    """Train to the end, from the last checkpoint where there is one, and save the weights.

    Args:
        learner: what learns.
        job: where to keep what, and how often.
        part: this worker's place among all; each of them calls this.
        on_epoch: callback after each epoch.

    Raises:
        TrainingStopped: the learner says so, the loss is no longer a number, or workers do not see the
            same run folder.
    """
    # The first worker writes for all.
    with closing(Journal(job.folder.journal)) if part.rank == 0 else nullcontext() as journal:
        return _Training(learner, job, part, on_epoch, journal).run()


def sum_over_workers(value: Tensor, part: Part) -> Tensor:
    """The sum of all workers' values."""
    if part.world > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


class _Training(Generic[B]):
    """The state of one training on one worker."""

    def __init__(
        self,
        learner: Learner[B],
        job: TrainJob,
        part: Part,
        on_epoch: OnEpoch | None,
        journal: Journal | None,
    ) -> None:
        self.learner, self.job, self.part = learner, job, part
        self.on_epoch, self.journal = on_epoch, journal
        self.step, self.seconds, self.loss = 0, 0.0, math.nan
        self.totals: list[float] = []
        self._restore()
        self._next_save = time.monotonic() + job.checkpoint_seconds

    def run(self) -> TrainResult:
        learner = self.learner
        self._write(
            "start",
            epochs=learner.epochs,
            steps=learner.epochs * learner.steps_per_epoch,
            world=self.part.world,
            device=str(learner.device),
            **asdict(self.job.execution),
        )
        for epoch in range(self.step // learner.steps_per_epoch, learner.epochs):
            self._epoch(epoch)
            self._write("epoch", epoch=epoch, **learner.validate(epoch, self.totals))
            if self.on_epoch is not None:
                self.on_epoch(epoch + 1)
            if epoch + 1 < learner.epochs and time.monotonic() >= self._next_save:
                self._save()
        if self.part.rank == 0:
            learner.save(self.job.folder.weights)
        items = learner.epochs * learner.items_per_epoch
        return TrainResult(self.step, self.loss, self.seconds, items / max(self.seconds, 1e-9))

    def _epoch(self, epoch: int) -> None:
        steps_per_epoch = self.learner.steps_per_epoch
        interval = max(1, steps_per_epoch // LOGS_PER_EPOCH)
        if self.step % steps_per_epoch == 0:
            self.totals = []
        sums: Tensor | None = None
        since, items, started = self.step, 0, time.monotonic()
        for batch in self.learner.batches(epoch, self.step - epoch * steps_per_epoch):
            self._seed()
            own_sums, shown = self.learner.step(batch, self.step)
            sums = own_sums if sums is None else sums + own_sums
            self.step += 1
            items += batch.global_size
            if self.step % interval == 0 or self.step % steps_per_epoch == 0:
                self._add(sum_over_workers(sums, self.part).tolist(), items)
                seconds = time.monotonic() - started
                self.seconds += seconds
                self._write(
                    "step",
                    epoch=epoch,
                    loss=self.loss,
                    **shown,
                    images_per_second=items / seconds,
                    seconds_per_step=seconds / (self.step - since),
                )
                self._check(range(since, self.step))
                sums, since, items, started = None, self.step, 0, time.monotonic()
                # Not after an epoch's last step: that checkpoint follows the validation, or a run killed
                # in between would never validate that epoch.
                if self.step % steps_per_epoch and time.monotonic() >= self._next_save:
                    self._save()

    def _seed(self) -> None:
        """Make what a step draws (dropout, noise) a function of (seed, step, worker)."""
        state = np.random.SeedSequence([self.job.seed, self.step, self.part.rank]).generate_state(1)
        torch.manual_seed(int(state[0]))

    def _add(self, sums: list[float], items: int) -> None:
        """Take note of all workers' sums over some steps."""
        self.loss = sums[0] / items
        before = self.totals or [0.0] * len(sums)
        self.totals = [total + value for total, value in zip(before, sums, strict=True)]

    def _check(self, steps: range) -> None:
        if not math.isfinite(self.loss):
            raise TrainingStopped(
                f"the loss is {self.loss} at step {self.step}: training diverged",
                "lower the recipe's learning rate; the last checkpoint is kept",
            )
        self.learner.check(steps, self.loss)

    def _write(self, kind: str, **values: Any) -> None:
        if self.journal is not None:
            self.journal.write(kind, self.step, **values)

    def _save(self) -> None:
        if self.part.rank != 0:
            return
        started = time.monotonic()
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "totals": self.totals,
            "learner": self.learner.state(),
        }
        checkpoint.save(self.job.folder.checkpoints, state, self.step)
        # At most a twentieth of the time goes into checkpoints, however large the network; unless the
        # job wants one every step.
        spent = time.monotonic() - started
        wanted = self.job.checkpoint_seconds
        self._next_save = time.monotonic() + (max(wanted, 20 * spent) if wanted else 0.0)

    def _restore(self) -> None:
        state = checkpoint.latest(self.job.folder.checkpoints)
        if state is not None:
            self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]
            self.totals = state["totals"]
            self.learner.load(state["learner"])
        if self.part.world > 1:
            steps: list[Any] = [None] * self.part.world
            dist.all_gather_object(steps, self.step)
            if len(set(steps)) > 1:
                raise TrainingStopped(
                    f"the workers found checkpoints of different steps: {steps}",
                    "with several machines, put --workspace on storage that all of them mount",
                )
