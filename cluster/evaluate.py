"""The evaluate stage as Ray tasks, each with its part of the validation set."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from cluster.session import Resources
from cluster.train import cpus_per_worker
from stages.errors import PipelineError
from stages.evaluate import evaluate_part
from stages.parallel import Part
from stages.tasks.task import Net


def evaluate_on_ray(
    nets: Sequence[Net],
    dataset: Path,
    protocols: Sequence[str],
    workers: int,
    resources: Resources,
) -> dict[str, list[pa.Table]]:
    """Each worker's answers under each protocol (see `stages.evaluate.evaluate_part`)."""
    import ray

    cpus = cpus_per_worker(workers, resources)
    task = ray.remote(num_cpus=cpus, num_gpus=1 if resources.gpus else 0)(_part)
    try:
        parts = ray.get(
            [
                task.remote(nets, dataset, protocols, Part(rank, workers), cpus)
                for rank in range(workers)
            ]
        )
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PipelineError):
            raise error.cause from error
        raise
    return {protocol: [part[protocol] for part in parts] for protocol in protocols}


def _part(
    nets: Sequence[Net],
    dataset: Path,
    protocols: Sequence[str],
    part: Part,
    cpus: int,
) -> dict[str, pa.Table]:
    """Runs in a worker process."""
    import torch

    torch.set_num_threads(cpus)
    return {
        protocol: evaluate_part(nets, dataset, protocol, part=part, processes=cpus)
        for protocol in protocols
    }
