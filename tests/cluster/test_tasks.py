"""Work as Ray tasks: what fits, and a sweep whose trials have several workers."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.session import Resources
from cluster.tasks import ray_tasks
from pipeline.engine.launchers import start
from stages.errors import PipelineError
from stages.evaluate import evaluate_in_parts, read_evaluation
from stages.job import RunFolder, TrainJob
from stages.load.samples import Dataset
from stages.parallel import alone
from stages.tasks.classification.recipe import Classification
from stages.tasks.task import Net
from stages.trial import Trial


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "message"),
    [
        (5, 1, 0, "5 workers need 5 CPUs, but the cluster has room for 4"),
        (3, 2, 0, "3 workers need 6 CPUs, but the cluster has room for 2"),
        (2, 1, 1, "2 workers need 2 CPUs and as many GPUs, but the cluster has room for 1"),
    ],
)
def test_workers_that_do_not_fit_are_refused(
    workers: int, cpus: int, gpus: int, message: str
) -> None:
    resources = Resources(((3, 1), (1, 0))) if gpus or cpus == 1 else Resources(((2, 0), (3, 0)))
    with pytest.raises(PipelineError, match=message):
        ray_tasks(workers, resources, cpus, gpus)
    ray_tasks(workers - 1, resources, cpus, gpus)


@pytest.mark.slow
def test_trials_with_several_workers_are_tested_by_all_of_them(
    dataset: Dataset, recipe: Classification, tmp_path: Path
) -> None:
    """Each part of a test is a Ray task with the CPUs of one of the training's workers."""
    short = replace(recipe, epochs=1)
    trials = [
        Trial(TrainJob(short, dataset.root, RunFolder(tmp_path / str(seed)), seed), ("ten_crop",))
        for seed in (0, 1)
    ]
    with start("ray", workers=2) as launcher:
        assert launcher.sweep(trials, tmp_path / "scratch") == {}
        from ray.util.state import list_tasks

        tasks = list_tasks(
            filters=[("name", "=", "predict_part"), ("state", "=", "FINISHED")], detail=True
        )
        assert len(tasks) == 2 * 2
        assert all(task.required_resources["CPU"] == launcher.cpus for task in tasks)
    for trial in trials:
        here = RunFolder(tmp_path / "here" / trial.job.folder.root.name)
        net = Net(short, trial.job.folder.weights)
        evaluate_in_parts(
            [net], dataset.root, trial.protocols, here, pmap=alone, workers=1, processes=0
        )
        found, expected = (
            pq.read_table(folder.predictions("ten_crop")) for folder in (trial.job.folder, here)
        )
        assert found["key"] == expected["key"]
        assert found["answers"] == expected["answers"]
        evaluation = read_evaluation(trial.job.folder, "ten_crop")
        assert evaluation is not None
        assert evaluation == read_evaluation(here, "ten_crop")
