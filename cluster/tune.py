"""A sweep on Ray Tune: each trial is a whole training by the train stage, and nothing stops one early.

The stages themselves handle the trials' checkpoints and results, in the runs' folders: Tune decides when and
where a trial runs, and a killed sweep resumes when it is rerun.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.session import Resources
from cluster.tasks import ray_tasks
from cluster.train import train_on_ray
from stages.errors import PipelineError
from stages.job import TrainJob
from stages.metrics import METRICS
from stages.parallel import limit_threads
from stages.trial import Trial, evaluate_trial, run_search, run_trial


def concurrency(workers: int, trials_per_gpu: int, resources: Resources) -> int:
    """How many trials run in parallel.

    Raises:
        PipelineError: not even one fits.
    """
    room = resources.room(1)
    if resources.gpus and workers == 1:
        room = min(resources.cpus, resources.gpus * trials_per_gpu)
    if room < workers:
        raise PipelineError(
            f"a trial of {workers} workers does not fit: the cluster has room for {room}",
            f"use --workers {room}" if room else "join a cluster with free CPUs",
        )
    return room // workers


def sweep_on_ray(
    trials: Sequence[Trial],
    scratch: Path,
    resources: Resources,
    *,
    workers: int = 1,
    trials_per_gpu: int = 1,
) -> Mapping[int, str]:
    """Run all trials.

    A trial with one worker runs in Tune's own process for it, which is kept for the next trial: starting
    Ray Train inside it would cost half a minute each time. With several workers each trial is a Ray Train
    run inside Tune, and its tests are Ray tasks on the resources that the training's workers had.

    Args:
        trials: the sweep.
        scratch: a folder that every machine can access, for what Tune writes; emptied afterwards.
        resources: what the cluster has.
        workers: data-parallel workers of each trial.
        trials_per_gpu: trials with one worker that share a GPU.

    Returns:
        What went wrong, by the trial's index in ``trials``.

    Raises:
        PipelineError: not even one trial fits.
    """
    from ray import tune

    at_once = concurrency(workers, trials_per_gpu, resources)
    cpus = max(1, resources.cpus // (at_once * workers))
    storage = scratch / f"tune-{time.time_ns()}"
    # A trial that is itself a Ray Train run needs next to nothing: its workers take the CPUs and GPUs. But
    # it must request something.
    needs: dict[str, float] = {"memory": 1 << 20}
    if workers == 1:
        needs = {"cpu": cpus, "gpu": 1 / trials_per_gpu if resources.gpus else 0}
    trainable = tune.with_parameters(
        _trial, trials=list(trials), workers=workers, cpus=cpus, resources=resources
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, needs),
        param_space={"trial": tune.grid_search(list(range(len(trials))))},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once, reuse_actors=workers == 1),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(storage),
            verbose=0,
            # A process that died is restarted, and its training resumes from its checkpoint.
            failure_config=tune.FailureConfig(max_failures=3),
        ),
    )
    try:
        results = tuner.fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    failed = {}
    for result in results:
        message = str(result.error) if result.error else (result.metrics or {}).get("error", "")
        if message:
            failed[int(result.config["trial"])] = message
    return failed


def search_on_ray(
    jobs: Sequence[TrainJob],
    scratch: Path,
    resources: Resources,
    metric: str,
    *,
    trials_per_gpu: int = 1,
) -> list[float]:
    """Train all jobs, but stop those that fall behind early (ASHA).

    For the choice of a learning rate only; what is stopped early proves nothing.

    Args:
        jobs: identical except for what is searched.
        scratch: see `sweep_on_ray`.
        resources: what the cluster has.
        metric: the name of the figure to optimise.
        trials_per_gpu: see `sweep_on_ray`.

    Returns:
        What each reported last (see `stages.trial.run_search`); infinitely bad if no epoch was
        finished.

    Raises:
        PipelineError: not even one fits.
    """
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    at_once = concurrency(1, trials_per_gpu, resources)
    cpus = max(1, resources.cpus // at_once)
    storage = scratch / f"tune-{time.time_ns()}"
    epochs = max(job.recipe.epochs for job in jobs)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_searched, jobs=list(jobs), cpus=cpus, metric=metric),
            {"cpu": cpus, "gpu": 1 / trials_per_gpu if resources.gpus else 0},
        ),
        param_space={"job": tune.grid_search(list(range(len(jobs))))},
        tune_config=tune.TuneConfig(
            metric="figure",
            mode="min" if METRICS[metric].better == "lower" else "max",
            scheduler=ASHAScheduler(
                time_attr="epoch",
                max_t=epochs,
                grace_period=max(1, epochs // 4),
                reduction_factor=2,
            ),
            max_concurrent_trials=at_once,
        ),
        run_config=tune.RunConfig(
            name="search", storage_path=str(storage), verbose=0, callbacks=[_silence()]
        ),
    )
    try:
        results = tuner.fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    figures = [METRICS[metric].worst] * len(jobs)
    for result in results:
        if result.metrics and "figure" in result.metrics:
            figures[int(result.metrics["job"])] = float(result.metrics["figure"])
    return figures


def _silence() -> Any:
    """Replaces the callback that prints which trials the scheduler stopped, even if not verbose."""
    from ray.tune.progress_reporter import TrialProgressCallback

    class Silence(TrialProgressCallback):
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            pass

    return Silence()


def _searched(config: dict[str, int], jobs: list[TrainJob], cpus: int, metric: str) -> None:
    """Runs in Tune's process for a trial."""
    from ray import tune

    limit_threads(cpus)

    def report(epoch: int, figure: float) -> None:
        tune.report({"epoch": epoch, "figure": figure, "job": config["job"]})

    run_search(jobs[config["job"]].on_cpus(cpus), metric, report)


def _trial(
    config: dict[str, int], trials: list[Trial], workers: int, cpus: int, resources: Resources
) -> dict[str, Any]:
    """Runs in Tune's process for a trial."""
    trial = trials[config["trial"]].on_cpus(cpus)
    try:
        if workers == 1:
            limit_threads(cpus)
            run_trial(trial)
        else:
            train_on_ray(trial.job, workers, resources, cpus=cpus)
            pmap = ray_tasks(workers, resources, cpus, gpus=1 if resources.gpus else 0)
            evaluate_trial(trial, pmap, workers)
    except PipelineError as error:
        return {"error": str(error)}  # a retry would fail in the same way
    return {"error": ""}
