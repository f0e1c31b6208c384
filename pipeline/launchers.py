"""Where the stages run: in this process, or on Ray. Both run the very same functions."""

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol as Interface

import pyarrow as pa

from stages.evaluate import Net, evaluate_part
from stages.recipe import Protocol
from stages.train import TrainJob, TrainResult, train


class Launcher(Interface):
    """Runs the stages that compute."""

    def train(self, job: TrainJob) -> TrainResult:
        """Train, or go on training (see `stages.train.train`)."""

    def evaluate(
        self, nets: Sequence[Net], dataset: Path, protocols: Sequence[Protocol]
    ) -> dict[Protocol, list[pa.Table]]:
        """The answers of every worker under each protocol (see `stages.evaluate.evaluate_part`)."""


class _Inline:
    def train(self, job: TrainJob) -> TrainResult:
        return train(replace(job, loader_processes=os.cpu_count() or 1))

    def evaluate(
        self, nets: Sequence[Net], dataset: Path, protocols: Sequence[Protocol]
    ) -> dict[Protocol, list[pa.Table]]:
        return {
            name: [evaluate_part(nets, dataset, name, processes=os.cpu_count() or 1)]
            for name in protocols
        }


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
        self, nets: Sequence[Net], dataset: Path, protocols: Sequence[Protocol]
    ) -> dict[Protocol, list[pa.Table]]:
        """See `Launcher`."""
        return self._entered().evaluate(nets, dataset, protocols)


@contextlib.contextmanager
def inline() -> Iterator[Launcher]:
    """This process alone; Ray is not imported."""
    yield _Inline()


@contextlib.contextmanager
def on_ray(workers: int | None) -> Iterator[Launcher]:
    """A Ray cluster, started or joined (see `cluster.session.session`).

    Args:
        workers: by default one for each GPU of the cluster, or one.
    """
    from cluster.evaluate import evaluate_on_ray
    from cluster.session import session
    from cluster.train import train_on_ray

    with session() as resources:
        count = workers or max(1, resources.gpus)

        class OnRay:
            def train(self, job: TrainJob) -> TrainResult:
                return train_on_ray(job, count, resources)

            def evaluate(
                self, nets: Sequence[Net], dataset: Path, protocols: Sequence[Protocol]
            ) -> dict[Protocol, list[pa.Table]]:
                return evaluate_on_ray(nets, dataset, protocols, count, resources)

        yield OnRay()
