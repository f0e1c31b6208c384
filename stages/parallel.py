"""Share work out: a worker's part of the items, and independent work in processes or threads."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.errors import PipelineError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Part:
    """A worker's place among all: it takes slice ``rank`` of ``world`` of every batch."""

    rank: int = 0
    world: int = 1

    def slice_of(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """This worker's part; the parts' sizes differ by one at most."""
        return np.array_split(items, self.world)[self.rank]

    @classmethod
    def all(cls, world: int) -> "list[Part]":
        """The places of all workers."""
        return [cls(rank, world) for rank in range(world)]


ALONE = Part()


def this_worker() -> Part:
    """This process's place among the workers that a launcher has set up torch.distributed for."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Part(dist.get_rank(), dist.get_world_size())


# Tasks handed out for each worker: one at work and one waiting, so that a data set of any size
# needs the memory of a few tasks.
IN_FLIGHT = 2


class ParallelMap(Protocol):
    """Applies a function to items, and yields the results as they come, in any order.

    The function and the items must pickle. The first error ends the work.
    """

    def __call__(self, function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
        """Apply ``function`` to each of ``items``."""


def alone(function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
    """One after the other, in this process."""
    yield from map(function, items)


def processes(count: int, preload: Sequence[str] = ()) -> ParallelMap:
    """In ``count`` processes of this machine, which end with this one however it ends.

    Args:
        count: how many processes, of one thread each.
        preload: modules that the work will import, to be imported once and not by each process.

    Raises:
        PipelineError: (from the map) a process was killed.
    """
    if count == 1:
        return alone

    def pmap(function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
        # Forked from a process that has done the imports and has no threads: a fork of this one would
        # inherit the locks of Arrow's and Ray's.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*preload, function.__module__])
        pool = ProcessPoolExecutor(
            count, mp_context=context, initializer=_begin, initargs=(dict(os.environ),)
        )
        bystanders = set(multiprocessing.active_children())
        workers: set[BaseProcess] = set()
        pending: set[Future[R]] = set()

        def next_results() -> list[R]:
            # The pool may overlook the death of a process while it starts another: so it is watched.
            nonlocal pending
            while True:
                done, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
                if done:
                    return [future.result() for future in done]
                if any(worker.exitcode is not None for worker in workers):
                    raise BrokenProcessPool("a process ended while there was work for it")

        try:
            for item in items:
                pending.add(pool.submit(function, item))
                workers.update(set(multiprocessing.active_children()) - bystanders)
                if len(pending) == count * IN_FLIGHT:
                    yield from next_results()
            while pending:
                yield from next_results()
        except BrokenProcessPool as error:
            # One that was being started as the pool broke lives on, and the pool would wait for its end.
            for child in set(multiprocessing.active_children()) - bystanders:
                child.terminate()
            raise PipelineError(
                "a worker process was killed, perhaps because memory ran out",
                "run the same command again with fewer --workers; it continues where it stopped",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    return pmap


def limit_threads(count: int) -> None:
    """Give the numeric libraries of this process ``count`` threads, also those that are not imported yet."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:  # it has read the environment already
        sys.modules["torch"].set_num_threads(count)


def in_threads(
    count: int, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Generator[R, None, None]:
    """Apply a function to items in ``count`` threads; results come in the items' order.

    Args:
        count: threads.
        function: what to do.
        items: to what.
        ahead: results that may be under way or waiting.
    """
    pool = ThreadPoolExecutor(count)
    coming: deque[Future[R]] = deque()
    try:
        for item in items:
            coming.append(pool.submit(function, item))
            if len(coming) == ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(environment: dict[str, str]) -> None:
    # The fork server still has the environment that it was started in, before a key was set perhaps.
    os.environ.clear()
    os.environ.update(environment)
    limit_threads(1)  # there is a process for each core: more threads would only compete
    # Ctrl-C reaches the whole group: the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        # A worker would wait forever for the next task of a parent that was killed.
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
