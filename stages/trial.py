"""trial: one trial of a sweep, a whole training with its tests, in one process.

Trials of a sweep are paired by their seed: the same order of images, the same augmentation, and the same
initial weights wherever two networks have a parameter of the same shape.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import mean

from stages.evaluate import evaluate_in_parts, read_evaluation
from stages.job import TrainingStopped, TrainJob
from stages.journal import Follower
from stages.metrics import METRICS
from stages.parallel import ParallelMap, alone
from stages.tasks.task import Net
from stages.train import train


@dataclass(frozen=True)
class Trial:
    """A training and the protocols it is tested with."""

    job: TrainJob
    protocols: tuple[str, ...]

    def on_cpus(self, count: int) -> Trial:
        """The same trial for workers that have ``count`` CPUs each."""
        return replace(self, job=self.job.on_cpus(count))

    @property
    def missing(self) -> list[str]:
        """The protocols under which there is no test yet."""
        folder = self.job.folder
        return [name for name in self.protocols if read_evaluation(folder, name) is None]


def run_trial(trial: Trial) -> None:
    """Train to the end and test; nothing that is finished is done again.

    Raises:
        PipelineError: see `stages.train.train` and `stages.evaluate.evaluate_in_parts`.
    """
    train(trial.job)
    evaluate_trial(trial)


def evaluate_trial(trial: Trial, pmap: ParallelMap = alone, workers: int = 1) -> None:
    """Test the trained network under the protocols that are missing, one after the other.

    Args:
        trial: whose training has finished.
        pmap: what reaches the workers.
        workers: how many share a test.

    Raises:
        PipelineError: see `stages.evaluate.evaluate_in_parts`.
    """
    job = trial.job
    for protocol in trial.missing:
        evaluate_in_parts(
            [Net(job.recipe, job.folder.weights)],
            job.dataset,
            [protocol],
            job.folder,
            pmap=pmap,
            workers=workers,
            processes=job.loader_processes,
        )


def run_search(job: TrainJob, metric: str, report: Callable[[int, float], None]) -> None:
    """Train one job of a search.

    At a rate where training fails or diverges, nothing more is reported; that is a valid outcome.

    Args:
        job: what to train.
        metric: the name of the figure being optimised. For a training error the mean over the epochs is
            reported, which is lowest for the run that learns fastest: where networks can memorise their
            images, all of them end with 0.
        report: called after each epoch with its number from 1 and the figure.
    """
    # A search that was killed resumes in the middle: what went before is in the journal alone.
    journal = Follower(job.folder.journal)
    figures: list[float] = []

    def note(epoch: int) -> None:
        figures.extend(record[metric] for record in journal.read() if record["kind"] == "epoch")
        report(epoch, mean(figures) if METRICS[metric].split == "train" else figures[-1])

    with contextlib.suppress(TrainingStopped):
        train(job, on_epoch=note)
        if not figures:  # it had finished before
            note(job.recipe.epochs)
