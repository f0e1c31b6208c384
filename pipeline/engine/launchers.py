"""Where the stages run: in this process, or on Ray. Both run the very same functions."""

import contextlib
import functools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol as Interface

import pyarrow as pa

from stages.errors import PipelineError
from stages.evaluate import evaluate_part
from stages.job import TrainJob, TrainResult
from stages.measurement import SearchMetric
from stages.tasks.task import Net
from stages.train import train
from stages.trial import Trial, run_search, run_trial


class Launcher(Interface):
    """Runs the stages that compute."""

    def train(self, job: TrainJob) -> TrainResult:
        """Train, or go on training (see `stages.train.train`)."""

    def evaluate(
        self, nets: Sequence[Net], dataset: Path, protocols: Sequence[str]
    ) -> dict[str, list[pa.Table]]:
        """The answers of every worker under each protocol (see `stages.evaluate.evaluate_part`)."""

    def sweep(self, trials: Sequence[Trial], scratch: Path) -> Mapping[int, str]:
        """Run many trials; returns what went wrong, by place (see `cluster.tune.sweep_on_ray`)."""

    def search(self, jobs: Sequence[TrainJob], scratch: Path, metric: SearchMetric) -> list[float]:
        """The errors of trainings that may be stopped early (see `cluster.tune.search_on_ray`)."""


class _Inline:
    def train(self, job: TrainJob) -> TrainResult:
        return train(replace(job, loader_processes=os.cpu_count() or 1))

    def evaluate(
        self, nets: Sequence[Net], dataset: Path, protocols: Sequence[str]
    ) -> dict[str, list[pa.Table]]:
        return {
            name: [evaluate_part(nets, dataset, name, processes=os.cpu_count() or 1)]
            for name in protocols
        }

    def sweep(self, trials: Sequence[Trial], scratch: Path) -> Mapping[int, str]:
        failed = {}
        for place, trial in enumerate(trials):
            try:
                run_trial(trial)
            except PipelineError as error:
                failed[place] = str(error)
        return failed

    def search(self, jobs: Sequence[TrainJob], scratch: Path, metric: SearchMetric) -> list[float]:
        errors = [math.inf] * len(jobs)
        for place, job in enumerate(jobs):

            def report(epoch: int, error: float, place: int = place) -> None:
                errors[place] = error

            run_search(job, metric, report)
        return errors


class Lazy:
    """A launcher, started when it is first needed: a command that finds all finished starts no Ray.

    Args:
        launcher: what to start.
        stack: where its end is left.
    """

    def __init__(
        self, launcher: contextlib.AbstractContextManager[Launcher], stack: contextlib.ExitStack
    ) -> None:
        self._entered = functools.cache(lambda: stack.enter_context(launcher))

    def train(self, job: TrainJob) -> TrainResult:
        """See `Launcher`."""
        return self._entered().train(job)

    def evaluate(
        self, nets: Sequence[Net], dataset: Path, protocols: Sequence[str]
    ) -> dict[str, list[pa.Table]]:
        """See `Launcher`."""
        return self._entered().evaluate(nets, dataset, protocols)

    def sweep(self, trials: Sequence[Trial], scratch: Path) -> Mapping[int, str]:
        """See `Launcher`."""
        return self._entered().sweep(trials, scratch)

    def search(self, jobs: Sequence[TrainJob], scratch: Path, metric: SearchMetric) -> list[float]:
        """See `Launcher`."""
        return self._entered().search(jobs, scratch, metric)


@contextlib.contextmanager
def inline() -> Iterator[Launcher]:
    """This process alone; Ray is not imported."""
    yield _Inline()


@contextlib.contextmanager
def on_ray(workers: int | None, trials_per_gpu: int = 1) -> Iterator[Launcher]:
    """A Ray cluster, started or joined (see `cluster.session.session`).

    Args:
        workers: of a training; by default one for each GPU of the cluster, or one. Of a sweep's trial:
            by default one.
        trials_per_gpu: of a sweep; trials that share a GPU.
    """
    from cluster.evaluate import evaluate_on_ray
    from cluster.session import session
    from cluster.train import train_on_ray
    from cluster.tune import search_on_ray, sweep_on_ray

    with session() as resources:
        count = workers or max(1, resources.gpus)

        class OnRay:
            def train(self, job: TrainJob) -> TrainResult:
                return train_on_ray(job, count, resources)

            def evaluate(
                self, nets: Sequence[Net], dataset: Path, protocols: Sequence[str]
            ) -> dict[str, list[pa.Table]]:
                return evaluate_on_ray(nets, dataset, protocols, count, resources)

            def sweep(self, trials: Sequence[Trial], scratch: Path) -> Mapping[int, str]:
                return sweep_on_ray(
                    trials,
                    scratch,
                    resources,
                    workers=workers or 1,
                    trials_per_gpu=trials_per_gpu,
                )

            def search(
                self, jobs: Sequence[TrainJob], scratch: Path, metric: SearchMetric
            ) -> list[float]:
                return search_on_ray(
                    jobs, scratch, resources, metric, trials_per_gpu=trials_per_gpu
                )

        yield OnRay()
