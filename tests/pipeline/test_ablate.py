"""Sweeps: paired trials through Tune as through this process, reused and resumed; and what is refused."""

import csv
import itertools
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import models
from pipeline.engine.arm_runs import arms_of
from pipeline.papers import CLAIMS
from pipeline.papers.alexnet.recipes import TOY_RECIPE
from stages.job import RunFolder
from stages.ledger.arms import scaled_rates
from stages.load.images import Images
from stages.load.samples import Dataset
from stages.tasks.classification.batches import training_batches
from stages.training.initialisation import PairedInitialisation
from stages.training.optim import rate_at
from stages.trial import Trial
from tests.conftest import ROOT, command

CLAIM = {claim.key: claim for claim in CLAIMS}


def sweep(source: Path, workspace: Path, *more: object) -> list[object]:
    chosen = ["--claims", "lrn,ten_crop", "--seeds", 2, "--data", source, "--workspace", workspace]
    return ["pipeline.ablate", "--paper", "alexnet", *chosen, *more]


def weights(seed: int, **knobs: object) -> dict[str, torch.Tensor]:
    with PairedInitialisation(seed):
        return models.create("alexnet", 6, **{**TOY_RECIPE.knobs, **knobs}).state_dict()


def test_arms_begin_alike_wherever_their_shapes_agree() -> None:
    with_it = weights(0)
    without_norm = weights(0, lrn=False)
    assert all(torch.equal(with_it[name], without_norm[name]) for name in with_it)
    without_layer = weights(0, remove=("conv4",))
    same = [n for n in without_layer if torch.equal(without_layer[n], with_it[n])]
    assert {"conv1.weight", "conv2.weight", "conv3.weight", "fc6.weight", "fc8.weight"} <= set(same)
    other_seed = weights(1)
    assert not any(torch.equal(with_it[n], other_seed[n]) for n in with_it if "weight" in n)


def test_equal_shapes_in_one_net_differ() -> None:
    with PairedInitialisation(0):
        state = models.create("resnet34").state_dict()
    alike = [value for value in state.values() if value.shape == (64, 64, 3, 3)]
    assert len(alike) == 6
    assert not any(torch.equal(one, other) for one, other in itertools.pairwise(alike))


def test_arms_see_the_same_images_in_the_same_way(dataset: Dataset) -> None:
    """The order and the crops are the seed's and the epoch's, whatever is trained."""
    arms = arms_of([CLAIM["alexnet/lrn"]], "toy", seeds=1)
    assert len(arms) == 2
    shown = []
    for arm in arms:
        images = Images.to_train(dataset.samples("train"), arm.recipe.augmentation)
        augmentation = arm.recipe.augmentation
        shown.append(list(training_batches(images, augmentation, batch_size=16, seed=3, epoch=1)))
    for one, other in zip(*shown, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.colour, other.colour)


def test_arms_that_two_claims_share_are_trained_once() -> None:
    claims = [CLAIM[f"alexnet/{name}"] for name in ("lrn", "overlap", "dropout", "ten_crop")]
    arms = arms_of(claims, "toy", seeds=None)
    assert len(arms) == 4
    shared = next(arm for arm in arms if arm.recipe.id == TOY_RECIPE.id)
    assert shared.protocols == ("ten_crop", "centre_crop")
    assert all(arm.seeds == 3 for arm in arms)


def test_networks_that_answer_together_need_runs_of_their_own() -> None:
    (claim,) = [c for c in CLAIMS if c.paper == "alexnet" and c.with_it and c.with_it.nets == 5]
    assert {arm.seeds for arm in arms_of([claim], "toy", seeds=2)} == {10}


def test_a_searched_rate_is_another_recipe() -> None:
    assert scaled_rates(TOY_RECIPE, 1.0).id == TOY_RECIPE.id
    doubled = scaled_rates(TOY_RECIPE, 2.0)
    assert doubled.id != TOY_RECIPE.id
    for before, after in zip(TOY_RECIPE.optimiser.groups, doubled.optimiser.groups, strict=True):
        for epoch in (0, 3, 14):
            rates = [
                group.factor * rate_at(group.schedule, epoch, epochs=15)
                for group in (before, after)
            ]
            assert rates[1] == pytest.approx(2 * rates[0])


@pytest.fixture(scope="module")
def swept(source: Path, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep of real trials through Ray Tune: two arms, two seeds."""
    workspace = tmp_path_factory.mktemp("sweep")
    done = command(*sweep(source, workspace, "--debug"))
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace, done


def test_a_sweep_through_tune(swept) -> None:
    workspace, done = swept
    assert "4 trials to run, 0 finished before and reused" in done.stdout
    assert "4/4 trained" in done.stdout
    assert len(list((workspace / "runs").glob("*/weights.safetensors"))) == 4
    assert len(list((workspace / "runs").glob("*/evaluations/ten_crop.parquet"))) == 4
    assert not list((workspace / "sweeps").iterdir()), "Tune leaves nothing behind"
    verdicts = [line for line in done.stdout.splitlines() if line.startswith("verdict")]
    assert any("alexnet/lrn" in line and "2 of 3 pairs" in line for line in verdicts)
    assert any("alexnet/ten_crop" in line for line in verdicts)


def test_the_ledger_holds_the_pairs(swept) -> None:
    workspace, _ = swept
    rows = list(csv.DictReader((workspace / "report" / "ledger.csv").open()))
    (lrn,) = [row for row in rows if (row["paper"], row["claim"]) == ("alexnet", "lrn")]
    assert lrn["verdict"] == "inconclusive", "two seeds are fewer than the claim asks for"
    assert lrn["seeds"] == "0 1"
    assert lrn["pairs"] == "2"
    assert lrn["n_images"] == "42"
    untouched = [row for row in rows if (row["paper"], row["claim"]) == ("alexnet", "overlap")]
    assert [row["verdict"] for row in untouched] == ["not run"]


def test_asked_again_nothing_is_trained(swept, source: Path) -> None:
    workspace, _ = swept
    before = {p: p.stat().st_mtime_ns for p in (workspace / "runs").glob("*/weights.safetensors")}
    again = command(*sweep(source, workspace, "--launcher", "inline"))
    assert again.returncode == 0, again.stderr
    assert "0 trials to run, 4 finished before and reused" in again.stdout
    assert before == {
        p: p.stat().st_mtime_ns for p in (workspace / "runs").glob("*/weights.safetensors")
    }


def test_the_papers_own_run_is_an_arm(swept, source: Path) -> None:
    workspace, _ = swept
    done = command(
        *("pipeline.run", "--year", 2012, "--data", source, "--workspace", workspace),
        *("--launcher", "inline"),
    )
    assert done.returncode == 0, done.stderr
    assert "train     finished before" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--paper", "alexnet", "--claims", "lnr"], "did you mean lrn"),
        (["--paper", "alexnett"], "did you mean alexnet"),
        (["--paper", "alexnet", "--seeds", 0], "use 1 or more"),
        (["--paper", "alexnet", "--launcher", "inline", "--workers", 2], "leave --workers out"),
    ],
)
def test_bad_input_is_one_message_with_its_remedy(arguments, message: str, tmp_path: Path) -> None:
    done = command("pipeline.ablate", *arguments, "--workspace", tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_sweep_goes_on(source: Path, tmp_path: Path) -> None:
    """What was finished is kept, what was under way goes on, and the figures are those of no kill."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert command(*sweep(source, whole)).returncode == 0
    arguments = [sys.executable, "-m", *map(str, sweep(source, killed))]
    driver = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not list(killed.glob("runs/*/result.json")):
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    finished = {p: p.stat().st_mtime_ns for p in killed.glob("runs/*/result.json")}
    assert finished
    again = command(*sweep(source, killed))
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    figures = [
        [
            {k: row[k] for k in ("paper", "claim", "verdict", "effect", "pairs")}
            for row in csv.DictReader((workspace / "report" / "ledger.csv").open())
        ]
        for workspace in (whole, killed)
    ]
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_trials_of_two_workers(source: Path, tmp_path: Path) -> None:
    """Ray Train inside Tune, where two CPUs leave room for one trial at a time."""
    done = command(*sweep(source, tmp_path, "--workers", 2, "--debug"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4/4 trained" in done.stdout


@pytest.mark.slow
def test_a_search_gives_each_arm_its_own_rate(source: Path, tmp_path: Path) -> None:
    done = command(*sweep(source, tmp_path, "--search", "--debug"))
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("search")]
    assert len(said) == 2
    assert all(re.search(r"rates x[\d.]+ \(x0.125: ", line) for line in said)
    rows = list(csv.DictReader((tmp_path / "report" / "ledger.csv").open()))
    (lrn,) = [row for row in rows if (row["paper"], row["claim"]) == ("alexnet", "lrn")]
    assert lrn["rates_searched"] == "True"


def test_a_failing_trial_stops_no_other(dataset: Dataset, recipe, tmp_path: Path) -> None:
    from pipeline.engine.launchers import start
    from stages.job import TrainJob

    wild = scaled_rates(replace(recipe, epochs=1), 1e9)
    good = replace(recipe, epochs=1)
    trials = [
        Trial(TrainJob(one, dataset.root, RunFolder(tmp_path / name), 0), ("centre_crop",))
        for name, one in (("wild", wild), ("good", good))
    ]
    with start("inline") as launcher:
        failed = launcher.sweep(trials, tmp_path)
    assert list(failed) == [0]
    assert "diverged" in failed[0]
    assert trials[1].missing == []
    assert trials[1].job.folder.weights.is_file()


def test_a_search_tells_what_each_job_reached(dataset: Dataset, recipe, tmp_path: Path) -> None:
    """The last validation error, or the mean training error of the epochs; infinity of what diverged."""
    from pipeline.engine.launchers import start
    from stages.job import TrainJob
    from stages.journal import Follower

    good = replace(recipe, epochs=2)
    for metric in ("error_top1", "train_error_top1"):
        jobs = [
            TrainJob(one, dataset.root, RunFolder(tmp_path / metric / name), 0)
            for name, one in (("wild", scaled_rates(good, 1e9)), ("good", good))
        ]
        with start("inline") as launcher:
            wild, reached = launcher.search(jobs, tmp_path, metric)
        assert wild == float("inf")
        epochs = [
            r[metric] for r in Follower(jobs[1].folder.journal).read() if r["kind"] == "epoch"
        ]
        assert len(epochs) == 2
        assert reached == (epochs[-1] if metric == "error_top1" else sum(epochs) / 2)
        with start("inline") as launcher:  # as after a kill, when a job had ended
            assert launcher.search(jobs, tmp_path, metric) == [wild, reached]
