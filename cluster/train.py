"""The train stage on Ray Train: the same function as inline, on workers that Ray sets up.

Checkpoints, resumption and progress are the stage's own and live in the run's folder, so Ray has
nothing to keep: a worker that died is started again and goes on from there.
"""

import time
from dataclasses import replace
from typing import Any

from cluster.session import Resources
from stages.errors import PipelineError
from stages.train import TrainingStopped, TrainJob, TrainResult, train

# A collective that waits longer has lost a worker or waits for a stuck loader.
COLLECTIVE_SECONDS = 600


def train_on_ray(job: TrainJob, workers: int, resources: Resources) -> TrainResult:
    """Train on ``workers`` workers, with a GPU each where the cluster has GPUs.

    Raises:
        PipelineError: the cluster is too small, or the training itself refused to go on.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

    cpus = cpus_per_worker(workers, resources)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "cpus": cpus},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=resources.gpus > 0, resources_per_worker={"CPU": cpus}
        ),
        torch_config=TorchConfig(timeout_s=COLLECTIVE_SECONDS),
        run_config=RunConfig(
            # A name of its own each time: Ray's snapshot of an earlier try is nothing we build on.
            name=f"{job.run_dir.name}-{time.time_ns()}",
            storage_path=str(job.run_dir / "ray"),
            failure_config=FailureConfig(max_failures=3, controller_failure_limit=3),
        ),
    )
    try:
        outcome = trainer.fit().return_value
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            if isinstance(failure, PipelineError):
                raise failure from error
        raise
    except TrainingFailedError as error:
        raise PipelineError(
            f"Ray could not run the training: {str(error).splitlines()[-1]}",
            "see the Ray dashboard's log of the run, or try --launcher inline",
        ) from error
    if isinstance(outcome, TrainingStopped):
        raise outcome
    assert isinstance(outcome, TrainResult)
    return outcome


def cpus_per_worker(workers: int, resources: Resources) -> int:
    """The CPUs that each of ``workers`` workers may take.

    Raises:
        PipelineError: there are fewer CPUs or GPUs than workers; Ray would wait for them for ever.
    """
    kind, have = ("GPUs", resources.gpus) if resources.gpus else ("CPUs", resources.cpus)
    if workers > have or workers > resources.cpus:
        raise PipelineError(
            f"{workers} workers need {workers} {kind} and the cluster has {have}",
            f"use --workers {min(have, resources.cpus)} or fewer, or a larger cluster",
        )
    return resources.cpus // workers


def _worker(config: dict[str, Any]) -> TrainResult | TrainingStopped:
    """Runs in each worker process."""
    import ray.train.torch
    import torch

    job: TrainJob = config["job"]
    cpus: int = config["cpus"]
    torch.set_num_threads(cpus)
    try:
        return train(replace(job, loader_processes=cpus), ray.train.torch.get_device())
    except TrainingStopped as stopped:
        # All workers stop alike and trying again would end alike: a result, not a failure.
        return stopped
