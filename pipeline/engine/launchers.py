"""Where the stages run: in this process, or on Ray. Both run the very same functions."""

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from pipeline.engine.command_line import LauncherName
from stages.errors import PipelineError
from stages.job import TrainJob, TrainResult
from stages.metrics import METRICS
from stages.parallel import ParallelMap, alone, processes
from stages.train import train
from stages.trial import Trial, run_search, run_trial

if TYPE_CHECKING:
    from cluster.session import Resources

T = TypeVar("T")
R = TypeVar("R")


class Launcher(Protocol):
    """Runs the stages that compute."""

    @property
    def workers(self) -> int:
        """How many workers share a training, or a test."""

    @property
    def cpus(self) -> int:
        """How many CPUs each of them has.

        Raises:
            PipelineError: the workers do not fit.
        """

    def train(self, job: TrainJob) -> TrainResult:
        """Train, or resume a training (see `stages.train.train`)."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
        """Apply a function to items, each on a worker, which has a GPU if there are any.

        The results come in any order. The function and the items must pickle.
        """

    def sweep(self, trials: Sequence[Trial], scratch: Path) -> Mapping[int, str]:
        """Run many trials; returns what went wrong, by index (see `cluster.tune.sweep_on_ray`)."""

    def search(self, jobs: Sequence[TrainJob], scratch: Path, metric: str) -> list[float]:
        """The figures of trainings that may be stopped early (see `cluster.tune.search_on_ray`)."""


class _Inline:
    workers = 1
    cpus = os.cpu_count() or 1

    def train(self, job: TrainJob) -> TrainResult:
        return train(job.on_cpus(self.cpus))

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
        return alone(function, items)

    def sweep(self, trials: Sequence[Trial], scratch: Path) -> Mapping[int, str]:
        failed = {}
        for index, trial in enumerate(trials):
            try:
                run_trial(trial)
            except PipelineError as error:
                failed[index] = str(error)
        return failed

    def search(self, jobs: Sequence[TrainJob], scratch: Path, metric: str) -> list[float]:
        figures = [METRICS[metric].worst] * len(jobs)
        for index, job in enumerate(jobs):

            def report(epoch: int, figure: float, index: int = index) -> None:
                figures[index] = figure

            run_search(job, metric, report)
        return figures


class _OnRay:
    def __init__(self, resources: "Resources", workers: int | None, trials_per_gpu: int) -> None:
        self._resources, self._trials_per_gpu = resources, trials_per_gpu
        self._workers_of_a_trial = workers or 1
        self.workers = workers or max(1, resources.gpus)

    @property
    def cpus(self) -> int:
        from cluster.train import cpus_per_worker

        return cpus_per_worker(self.workers, self._resources)

    def train(self, job: TrainJob) -> TrainResult:
        from cluster.train import train_on_ray

        return train_on_ray(job, self.workers, self._resources)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
        from cluster.tasks import ray_tasks

        gpus = 1 if self._resources.gpus else 0
        return ray_tasks(self.workers, self._resources, self.cpus, gpus)(function, items)

    def sweep(self, trials: Sequence[Trial], scratch: Path) -> Mapping[int, str]:
        from cluster.tune import sweep_on_ray

        return sweep_on_ray(
            trials,
            scratch,
            self._resources,
            workers=self._workers_of_a_trial,
            trials_per_gpu=self._trials_per_gpu,
        )

    def search(self, jobs: Sequence[TrainJob], scratch: Path, metric: str) -> list[float]:
        from cluster.tune import search_on_ray

        return search_on_ray(
            jobs, scratch, self._resources, metric, trials_per_gpu=self._trials_per_gpu
        )


@contextlib.contextmanager
def start(
    name: LauncherName, workers: int | None = None, trials_per_gpu: int = 1
) -> Iterator[Launcher]:
    """This process alone, without importing Ray; or a Ray cluster, started or joined.

    Args:
        name: which of the two.
        workers: how many share a training on Ray; by default one per GPU of the cluster, or one. For
            a sweep's trial: by default one.
        trials_per_gpu: how many trials of a sweep share a GPU.

    Raises:
        PipelineError: see `cluster.session.session`.
    """
    if name == "inline":
        yield _Inline()
        return
    from cluster.session import session

    with session() as resources:
        yield _OnRay(resources, workers, trials_per_gpu)


@contextlib.contextmanager
def parallel_map(
    name: LauncherName, workers: int | None, preload: Sequence[str] = ()
) -> Iterator[ParallelMap]:
    """Processes of this machine, or Ray tasks, of one CPU each.

    Args:
        name: which of the two.
        workers: how many there are; by default one per CPU.
        preload: see `stages.parallel.processes`.

    Raises:
        PipelineError: see `cluster.session.session` and `cluster.tasks.ray_tasks`.
    """
    if name == "inline":
        yield processes(workers or os.cpu_count() or 1, preload)
        return
    from cluster.session import session
    from cluster.tasks import ray_tasks

    with session() as resources:
        yield ray_tasks(workers, resources)
