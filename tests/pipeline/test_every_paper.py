"""What every paper passes through at toy scale: train, stop, go on, be tested, be in the timeline."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.engine import launchers
from pipeline.engine.data import Prepared
from pipeline.engine.executor import Executor
from pipeline.engine.plan import trainings
from pipeline.engine.progress import Progress
from pipeline.engine.runs import RunContext, run_of
from pipeline.engine.workbench import open_tracker
from pipeline.engine.workspace import Workspace
from pipeline.flows.report import draw
from pipeline.papers import PAPERS
from stages.execution import Execution
from stages.job import RunFolder, TrainJob
from stages.load.samples import Dataset
from stages.paper import Paper
from stages.recipe import Ensemble
from stages.tasks.classification.recipe import Classification
from stages.train import train


def quick(recipe: Classification | Ensemble) -> Any:
    """Few steps, and tested with the centre crop alone."""
    if isinstance(recipe, Ensemble):
        members = tuple(replace(m, recipe=quick(m.recipe)) for m in recipe.members)
        return replace(recipe, members=members, protocols=("centre_crop",))
    start = recipe.start and replace(recipe.start, recipe=quick(recipe.start.recipe))
    return replace(
        recipe,
        start=start,
        epochs=2,
        batch_size=24,
        start_steps=1000,
        average_from=None if recipe.average_from is None else 1.0,
        protocols=("centre_crop",),
    )


class Killed(BaseException):
    """Ends a training as a signal would."""


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_it_trains_and_goes_on_to_the_same_bits(
    paper: Paper, dataset: Dataset, tmp_path: Path
) -> None:
    _, whole = paper.recipe("toy")
    recipe = quick(trainings(whole)[0][0])
    job = TrainJob(recipe, dataset.root, RunFolder(tmp_path / "whole"), seed=0)
    train(job)

    def kill(epoch: int) -> None:
        raise Killed

    stopped = replace(job, folder=RunFolder(tmp_path / "stopped"), checkpoint_seconds=0.0)
    with pytest.raises(Killed):
        train(stopped, on_epoch=kill)
    assert train(stopped).steps == 2 * (96 // 24)
    expected, found = load_file(job.folder.weights), load_file(stopped.folder.weights)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return Workspace.open(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def executor(workspace: Workspace) -> Iterator[Executor]:
    tracker = open_tracker(workspace, None)
    with Progress() as progress, launchers.start("inline") as launcher:
        yield Executor(workspace, tracker, progress, lambda: launcher, Execution())


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_it_is_tested_and_drawn(
    paper: Paper, dataset: Dataset, workspace: Workspace, executor: Executor
) -> None:
    name, recipe = paper.recipe("toy")
    data = {recipe.data: Prepared(dataset.root, dataset.info)}
    context = RunContext(paper, "toy", data, seed=0)
    (evaluation,) = executor.run(run_of(context, name, quick(recipe)))
    assert evaluation.n == 42
    with Progress() as progress:
        draw(workspace, open_tracker(workspace, None), progress)
    rows = csv.DictReader((workspace.report / "timeline.csv").open())
    found = [row for row in rows if row["kind"] == "reproduced" and row["paper"] == paper.name]
    own = [
        row
        for row in found
        if float(row["value"]) == pytest.approx(evaluation.figures["error_top1"].value)
    ]
    assert own
    assert {row["year"] for row in found} == {str(paper.year)}
    assert {row["scope"] for row in found} == {"small-scale"}
