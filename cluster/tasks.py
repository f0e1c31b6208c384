"""Independent pieces of work as Ray tasks: shards to write or check, parts of a test."""

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from cluster.session import Resources
from stages.errors import PipelineError
from stages.parallel import IN_FLIGHT, ParallelMap, limit_threads

T = TypeVar("T")
R = TypeVar("R")


def ray_tasks(
    workers: int | None, resources: Resources, cpus: int = 1, gpus: float = 0
) -> ParallelMap:
    """A parallel map whose workers are Ray tasks.

    All nodes must see the files that the work refers to under the same paths. A task whose node is lost is
    run again elsewhere.

    Args:
        workers: how many tasks run in parallel; by default as many as the cluster has room for.
        resources: what the cluster has.
        cpus: CPUs that each task takes, and its number of threads.
        gpus: GPUs that each task takes.

    Raises:
        PipelineError: the workers do not fit; Ray would leave the rest waiting.
    """
    room = resources.room(cpus, gpus=gpus > 0)
    count = workers or room
    if not 0 < count <= room:
        count = max(1, count)
        also = " and as many GPUs" if gpus else ""
        raise PipelineError(
            f"{count} workers need {count * cpus} CPUs{also}, but the cluster has room for {room}",
            f"use --workers {room} or fewer, or a larger cluster"
            if room
            else "join a cluster with free CPUs",
        )

    def pmap(function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
        import ray

        def task(item: T) -> R:
            limit_threads(cpus)
            return function(item)

        remote = ray.remote(task).options(
            name=_name(function),
            num_cpus=cpus,
            num_gpus=gpus,
            max_retries=3,
            # By default a task that is started within a Tune trial would go into the trial's own placement
            # group, where it never fits.
            scheduling_strategy="DEFAULT",
        )
        pending: list[Any] = []
        try:
            for item in items:
                pending.append(remote.remote(item))
                if len(pending) == count * IN_FLIGHT:
                    done, pending = ray.wait(pending)
                    yield ray.get(done[0])
            while pending:
                done, pending = ray.wait(pending)
                yield ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PipelineError):
                raise error.cause from error
            raise
        finally:
            for reference in pending:
                ray.cancel(reference)

    return pmap


def _name(function: Callable[..., Any]) -> str:
    """What Ray's dashboard calls the task."""
    function = getattr(function, "func", function)  # of a partial
    return str(getattr(function, "__name__", "task"))
