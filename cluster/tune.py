"""A sweep on Ray Tune: each trial is a whole training by the train stage, and nothing stops one early.

The trials' checkpoints and results are the stages' own and live in the runs' folders: Tune decides when
and where a trial runs, and asking for a killed sweep again continues it.
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
from stages.evaluate import evaluate_in_parts
from stages.job import TrainJob
from stages.metrics import METRICS
from stages.parallel import limit_threads
from stages.tasks.task import Net
from stages.trial import Trial, run_search, run_trial


def concurrency(workers: int, trials_per_gpu: int, resources: Resources) -> int:
    """How many trials run at the same time.

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
    run inside Tune, and its tests are Ray tasks on what the training's workers had.

    Args:
        trials: the sweep.
        scratch: a folder that every machine sees, for what Tune writes; emptied afterwards.
        resources: what the cluster has.
        workers: data-parallel workers of each trial.
        trials_per_gpu: trials with one worker that share a GPU.

    Returns:
        What went wrong, by the trial's place in ``trials``.

    Raises:
        PipelineError: not even one trial fits.
    """
    from ray import tune

    at_once = concurrency(workers, trials_per_gpu, resources)
    cpus = max(1, resources.cpus // (at_once * workers))
    storage = scratch / f"tune-{time.time_ns()}"
    # A trial that is itself a Ray Train run holds next to nothing: its workers take the CPUs and GPUs. It
    # may not ask for nothing at all.
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
            # A process that died is started again, and its training continues from its checkpoint.
            failure_config=tune.FailureConfig(max_failures=3),
        ),
    )
    try:
        results = tuner.fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    failed = {}
    for result in results:
        said = str(result.error) if result.error else (result.metrics or {}).get("error", "")
        if said:
            failed[int(result.config["trial"])] = said
    return failed


def search_on_ray(
    jobs: Sequence[TrainJob],
    scratch: Path,
    resources: Resources,
    metric: str,
    *,
    trials_per_gpu: int = 1,
) -> list[float]:
    """Train all jobs, but stop early (ASHA) those that fall behind.

    For the choice of a learning rate only; what is stopped early proves nothing.

    Args:
        jobs: alike but for what is searched.
        scratch: see `sweep_on_ray`.
        resources: what the cluster has.
        metric: what should be low.
        trials_per_gpu: see `sweep_on_ray`.

    Returns:
        What each reported last (see `stages.trial.run_search`); infinity where no epoch was finished.

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
            metric="error",
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
    errors = [METRICS[metric].worst] * len(jobs)
    for result in results:
        if result.metrics and "error" in result.metrics:
            errors[int(result.metrics["job"])] = float(result.metrics["error"])
    return errors


def _silence() -> Any:
    """Takes the place of the callback that says which trials a scheduler let end, verbose or not."""
    from ray.tune.progress_reporter import TrialProgressCallback

    class Silence(TrialProgressCallback):
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            pass

    return Silence()


def _searched(config: dict[str, int], jobs: list[TrainJob], cpus: int, metric: str) -> None:
    """Runs in Tune's process for a trial."""
    from ray import tune

    limit_threads(cpus)

    def report(epoch: int, error: float) -> None:
        tune.report({"epoch": epoch, "error": error, "job": config["job"]})

    run_search(jobs[config["job"]].on_cpus(cpus), metric, report)


def _trial(
    config: dict[str, int], trials: list[Trial], workers: int, cpus: int, resources: Resources
) -> dict[str, Any]:
    """Runs in Tune's process for a trial."""
    trial = trials[config["trial"]]
    job = trial.job.on_cpus(cpus)
    try:
        if workers == 1:
            limit_threads(cpus)
            run_trial(Trial(job, trial.protocols))
        else:
            train_on_ray(job, workers, resources, cpus=cpus)
            evaluate_in_parts(
                [Net(job.recipe, job.folder.weights)],
                job.dataset,
                trial.missing,
                job.folder,
                pmap=ray_tasks(workers, resources, cpus, gpus=1 if resources.gpus else 0),
                workers=workers,
                processes=cpus,
            )
    except PipelineError as error:
        return {"error": str(error)}  # trying again would end the same way
    return {"error": ""}
