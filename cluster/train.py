"""The train stage on Ray Train: the same function as inline, on workers that Ray sets up.

The stage itself handles checkpoints, resumption and progress, in the run's folder, so Ray has nothing to
keep: a worker that died is restarted and resumes from there.
"""

import shutil
import time
from typing import Any

from cluster.session import Resources
from stages.errors import PipelineError
from stages.job import TrainingStopped, TrainJob, TrainResult
from stages.parallel import limit_threads
from stages.train import train

# A collective operation that waits longer has lost a worker or is waiting for a stuck loader.
COLLECTIVE_SECONDS = 600


def train_on_ray(
    job: TrainJob, workers: int, resources: Resources, cpus: int | None = None
) -> TrainResult:
    """Train on some workers, with a GPU each if the cluster has GPUs.

    Args:
        job: what to train.
        workers: how many.
        resources: what the cluster has.
        cpus: CPUs of each worker; by default as many as it can have.

    Raises:
        PipelineError: the cluster is too small, or the training itself refused to continue.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

    cpus = cpus or cpus_per_worker(workers, resources)
    storage = job.folder.scratch
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "cpus": cpus},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=resources.gpus > 0, resources_per_worker={"CPU": cpus}
        ),
        torch_config=TorchConfig(timeout_s=COLLECTIVE_SECONDS),
        run_config=RunConfig(
            # A new name each time, since nothing relies on Ray's snapshot of an earlier attempt.
            name=f"{job.folder.root.name}-{time.time_ns()}",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=3, controller_failure_limit=3),
        ),
    )
    try:
        outcome = trainer.fit().return_value
    except WorkerGroupError as error:
        failures = sorted(
            error.worker_failures.values(), key=lambda e: not isinstance(e, PipelineError)
        )
        raise failures[0] from error
    except TrainingFailedError as error:
        raise PipelineError(
            f"Ray could not run the training: {str(error).splitlines()[-1]}",
            "see the Ray dashboard's log of the run, or try --launcher inline",
        ) from error
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    if isinstance(outcome, PipelineError):
        raise outcome
    assert isinstance(outcome, TrainResult)
    return outcome


def cpus_per_worker(workers: int, resources: Resources) -> int:
    """The most CPUs that each of ``workers`` workers may take.

    Raises:
        PipelineError: they do not fit even with one CPU each; Ray would wait for them forever.
    """
    most = max((cpus for cpus, _ in resources.nodes), default=0)
    for cpus in range(most, 0, -1):
        if resources.room(cpus) >= workers:
            return cpus
    kind = "a GPU and a CPU" if resources.gpus else "a CPU"
    fits = resources.room(1)
    raise PipelineError(
        f"{workers} workers with {kind} each do not fit: the cluster has room for {fits}",
        f"use --workers {fits}, or a larger cluster" if fits else "join a cluster with free CPUs",
    )


def _worker(config: dict[str, Any]) -> TrainResult | PipelineError:
    """Runs in each worker process."""
    import ray.train.torch

    job: TrainJob = config["job"]
    cpus: int = config["cpus"]
    limit_threads(cpus)
    try:
        return train(job.on_cpus(cpus), ray.train.torch.get_device())
    except PipelineError as error:
        # If all workers stop for the same reason, a retry would too: return it as a result, not a failure.
        if isinstance(error, TrainingStopped) or ray.train.get_context().get_world_size() == 1:
            return error
        raise
