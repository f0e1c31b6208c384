"""Several networks tested as one; runs that need others first."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models import load_network
from pipeline.engine import launchers
from pipeline.engine.data import Prepared
from pipeline.engine.executor import Executor, Redo
from pipeline.engine.progress import Progress
from pipeline.engine.runs import EnsembleRun, Run, RunContext, run_of
from pipeline.engine.workbench import open_tracker
from pipeline.engine.workspace import Workspace
from pipeline.tracking.store import Tracker
from stages.evaluate import evaluate_part, read_evaluation
from stages.execution import Execution
from stages.job import RunFolder, TrainJob
from stages.journal import Follower
from stages.load.augment.colour import Normalise
from stages.load.samples import Dataset
from stages.measurement import Measurement
from stages.paper import Paper
from stages.recipe import Ensemble, Member, MomentumSGD, ParameterGroup, Start, Steps
from stages.tasks.classification.predict import Prediction, fuse
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import Classification
from stages.tasks.classification.score import correct_answers
from stages.tasks.task import Net
from stages.train import train

PROTOCOLS = ("ten_crop", "centre_crop")


def test_fusing_is_the_weighted_mean() -> None:
    indices, labels = torch.tensor([0, 1]), torch.tensor([1, 0])
    one = Prediction(indices, labels, torch.tensor([[0.7, 0.3], [0.2, 0.8]]))
    two = Prediction(indices, labels, torch.tensor([[0.1, 0.9], [0.6, 0.4]]))
    fused = fuse([one, two], [3.0, 1.0])
    assert torch.allclose(fused.probabilities, torch.tensor([[0.55, 0.45], [0.3, 0.7]]))
    assert torch.equal(fused.indices, indices)
    assert torch.equal(fused.labels, labels)
    equal = fuse([one, two], [1.0, 1.0])
    assert torch.allclose(equal.probabilities, torch.tensor([[0.4, 0.6], [0.4, 0.6]]))


@pytest.fixture(scope="module")
def quick(recipe: Classification) -> Classification:
    """Three steps at a rate that changes the network."""
    rates = MomentumSGD((ParameterGroup(".*", Steps(((0, 2e-3),)), 5e-4),))
    return replace(recipe, batch_size=32, epochs=1, optimiser=rates, protocols=PROTOCOLS)


@pytest.fixture(scope="module")
def nets(quick: Classification, dataset: Dataset, tmp_path_factory) -> list[Net]:
    """Two networks, each tested on images of another size."""
    larger = replace(quick, augmentation=replace(quick.augmentation, resize=96))
    found = []
    for seed, (recipe, weight) in enumerate([(quick, 3.0), (larger, 1.0)]):
        job = TrainJob(recipe, dataset.root, RunFolder(tmp_path_factory.mktemp("member")), seed)
        train(job)
        found.append(Net(recipe, job.folder.weights, weight))
    return found


def by_hand(nets: list[Net], dataset: Dataset, index: int) -> torch.Tensor:
    """The weighted mean of the networks' probabilities of one image's centre crop."""
    mean = torch.zeros(6)
    for net in nets:
        model, _ = load_network(net.weights)
        views = Views("centre_crop", net.origin.shown)
        (crop,) = views(views.images(dataset.samples("val"))[index])
        shown = Normalise(dataset, net.origin.augmentation, torch.device("cpu"))(crop)
        with torch.inference_mode():
            mean += net.weight * model.eval()(shown)[0].softmax(dim=0)
    return mean / sum(net.weight for net in nets)


def test_an_ensemble_averages_probabilities_each_net_by_its_own_views(
    nets: list[Net], dataset: Dataset
) -> None:
    table = evaluate_part(nets, dataset.root, "centre_crop")
    assert table["index"].to_pylist() == list(range(42))
    for row in table.to_pylist()[::10]:
        expected = by_hand(nets, dataset, row["index"]).topk(5)
        assert row["probabilities"] == pytest.approx(expected.values.tolist(), abs=1e-5)
        assert row["answers"] == expected.indices.tolist()
    one = evaluate_part(nets[:1], dataset.root, "centre_crop")
    assert one["probabilities"] != table["probabilities"]


def test_an_ensemble_of_one_is_that_one(nets: list[Net], dataset: Dataset) -> None:
    alone = evaluate_part([replace(nets[0], weight=1.0)], dataset.root, "ten_crop")
    for weighted in ([nets[0]], [nets[0], nets[0]]):
        table = evaluate_part(weighted, dataset.root, "ten_crop")
        assert table["answers"] == alone["answers"]
        assert np.allclose(
            table["probabilities"].combine_chunks().flatten(),
            alone["probabilities"].combine_chunks().flatten(),
            atol=1e-6,
        )


@pytest.fixture(scope="module")
def paper(quick: Classification) -> Paper:
    frozen = MomentumSGD((ParameterGroup(".*", Steps(((0, 0.0),)), 0.0),))
    first = replace(quick, batch_size=48)
    return Paper(
        name="fusion",
        year=2014,
        title="",
        system="",
        headline="",
        built_of="",
        hardware="",
        recipes={
            "toy": {
                "both": Ensemble((Member(quick, weight=3.0), Member(quick, seed=1)), PROTOCOLS),
                "single": quick,
                "first": first,
                "staged": replace(quick, optimiser=frozen, start=Start(first)),
            }
        },
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def tracker(workspace: Workspace, empty_store: Path) -> Tracker:
    shutil.copy(empty_store, workspace.root)
    return open_tracker(workspace, None)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory) -> Path:
    """A tracking store whose tables are made, which takes seconds."""
    made = Workspace.open(tmp_path_factory.mktemp("store"))
    open_tracker(made, None)
    return made.root / "mlflow.db"


class Bench:
    """An executor in this process, and what it left behind."""

    def __init__(
        self, paper: Paper, dataset: Dataset, workspace: Workspace, tracker: Tracker
    ) -> None:
        data = {"imagenet": Prepared(dataset.root, dataset.info)}
        self.context = RunContext(paper, "toy", data, seed=0)
        self.workspace, self.tracker = workspace, tracker

    def run(self, name: str, redo: Redo | None = None) -> Run | EnsembleRun:
        run = run_of(self.context, *self.context.paper.recipe("toy", name))
        with launchers.start("inline") as launcher, Progress() as progress:
            executor = Executor(
                self.workspace, self.tracker, progress, lambda: launcher, Execution(), redo
            )
            self.evaluations = executor.run(run)
        return run

    def begun(self) -> dict[str, int]:
        """How often each training was begun."""
        folders = (self.workspace.root / "runs").iterdir()
        journals = {f.name: f / "journal.jsonl" for f in folders if (f / "journal.jsonl").exists()}
        return {
            name: sum(record["kind"] == "start" for record in Follower(path).read())
            for name, path in journals.items()
        }

    def measured(self) -> list[Measurement]:
        return [m for m in self.tracker.measurements() if m.split == "val"]


@pytest.fixture
def bench(
    paper: Paper, dataset: Dataset, workspace: Workspace, tracker: Tracker
) -> Iterator[Bench]:
    return Bench(paper, dataset, workspace, tracker)


def test_an_ensembles_members_are_trained_once_and_it_is_measured_as_one(
    bench: Bench, dataset: Dataset
) -> None:
    fusion = bench.run("both")
    members = {run.name: 1 for run in fusion.members}
    assert bench.begun() == members
    found = bench.measured()
    assert sorted((m.nets, m.seed, m.protocol, m.metric) for m in found) == sorted(
        (nets, seed, protocol, metric)
        for nets, seed in ((1, 0), (1, 1), (2, 0))
        for protocol in PROTOCOLS
        for metric in ("error_top1", "error_top5")
    )
    both = {(m.protocol, m.metric): m for m in found if m.nets == 2}
    assert both["ten_crop", "error_top1"].model == "alexnet + alexnet"
    assert both["ten_crop", "error_top1"].recipe == "both"

    first, second = (bench.workspace.run(name).weights for name in members)
    nets = [Net(fusion.members[0].recipe, first, 3.0), Net(fusion.members[1].recipe, second)]
    for evaluation in bench.evaluations:
        right = correct_answers(evaluate_part(nets, dataset.root, evaluation.protocol))
        assert evaluation.figures["error_top1"].value == pytest.approx(100 * np.mean(~right[:, 0]))
        assert (
            both[evaluation.protocol, "error_top1"].value == evaluation.figures["error_top1"].value
        )

    # Asked again, nothing is repeated; a member asked for alone is there, too.
    bench.run("both")
    single = bench.run("single")
    assert single.name in members
    assert bench.begun() == members
    assert sorted(bench.measured()) == sorted(found)

    # Tested again, nothing is trained and nothing is measured double.
    bench.run("both", redo="evaluate")
    assert bench.begun() == members
    assert sorted((m.nets, m.seed, m.protocol, m.metric, m.value) for m in bench.measured()) == (
        sorted((m.nets, m.seed, m.protocol, m.metric, m.value) for m in found)
    )


def test_a_run_that_starts_from_another_waits_for_it(bench: Bench) -> None:
    staged = bench.run("staged")
    (first,) = staged.parents
    assert first.recipe_name == "first"
    assert bench.begun() == {first.name: 1, staged.name: 1}
    before, after = (load_file(bench.workspace.run(run.name).weights) for run in (first, staged))
    assert all(torch.equal(before[name], after[name]) for name in before)
    folder = bench.workspace.run(first.name)
    assert read_evaluation(folder, "ten_crop") is None, "nobody asked for the first one's error"

    bench.run("staged")
    bench.run("staged", redo="train")  # not what it starts from
    assert bench.begun() == {first.name: 1, staged.name: 1}
    bench.run("first")
    assert bench.begun() == {first.name: 1, staged.name: 1}
    assert {m.recipe for m in bench.measured()} == {"first", "staged"}


def test_a_run_may_start_from_a_run_on_other_data(
    quick: Classification, dataset: Dataset, paper: Paper, tmp_path: Path, workspace: Workspace,
    tracker: Tracker,
) -> None:  # fmt: skip
    """Each is named by its own recipe, its own data and the seed, and trained on its own data."""
    other = Dataset(shutil.copytree(dataset.root, tmp_path / "other"))
    first = replace(quick, data="other", batch_size=48)
    recipe = replace(quick, start=Start(first))
    assert recipe.roles == {"imagenet", "other"}
    info = replace(other.info, name="other", digest="0" * 12)
    data = {
        "imagenet": Prepared(dataset.root, dataset.info),
        "other": Prepared(other.root, info),
    }
    staged = Run(RunContext(paper, "toy", data, seed=0), "staged", recipe)
    (parent,) = staged.parents
    assert (parent.data.info.name, staged.data.info.name) == ("other", dataset.info.name)
    assert parent.name.startswith("fusion-toy-other-seed0-")
    with launchers.start("inline") as launcher, Progress() as progress:
        executor = Executor(workspace, tracker, progress, lambda: launcher, Execution())
        executor.run(staged)
    assert workspace.run(parent.name).weights.is_file()
    assert workspace.run(staged.name).weights.is_file()
    tags = {m.run_name: m.dataset for m in tracker.measurements() if m.split == "train"}
    assert tags == {parent.name: "other", staged.name: dataset.info.name}


def test_a_run_is_named_by_its_data_and_not_by_their_role(
    quick: Classification, dataset: Dataset, paper: Paper
) -> None:
    here = Prepared(dataset.root, dataset.info)
    there = Prepared(dataset.root, replace(dataset.info, digest="0" * 12))
    staged = replace(quick, start=Start(replace(quick, data="other")))
    assert staged.id == replace(quick, start=Start(quick)).id

    def name(recipe: Classification, **data: Prepared) -> str:
        return Run(RunContext(paper, "toy", data, seed=0), "staged", recipe).name

    usual = name(replace(quick, start=Start(quick)), imagenet=here)
    assert name(staged, imagenet=here, other=here) == usual
    assert name(staged, imagenet=here, other=there) != usual
    assert name(quick, imagenet=there) != name(quick, imagenet=here)
