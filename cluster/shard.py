"""Independent work of the shard and verify stages as Ray tasks, on every CPU of a cluster."""

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from cluster.session import Resources
from stages.errors import PipelineError
from stages.parallel import IN_FLIGHT, Runner

T = TypeVar("T")
R = TypeVar("R")


def ray_tasks(workers: int | None, resources: Resources) -> Runner:
    """A runner of Ray tasks of one CPU each.

    All nodes must see the source and the destination under the same names. A task whose node is lost is
    done again elsewhere.

    Args:
        workers: at most so many at a time; by default as many as the cluster has CPUs.
        resources: of the cluster.

    Raises:
        PipelineError: there are fewer CPUs than workers; Ray would leave the difference waiting.
    """
    count = workers or resources.cpus
    if count > resources.cpus:
        raise PipelineError(
            f"{count} workers need {count} CPUs and the cluster has {resources.cpus}",
            f"use --workers {resources.cpus} or fewer, or a larger cluster",
        )

    def run(function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
        import ray

        task = ray.remote(num_cpus=1, max_retries=3)(function)
        pending: list[Any] = []
        try:
            for item in items:
                pending.append(task.remote(item))
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

    return run
