"""Training: exact resumption, guards, and the same result whoever launches it."""

import contextlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import models
from stages.evaluate import evaluate_part
from stages.job import RunFolder, TrainingStopped, TrainJob, read_result
from stages.journal import Follower
from stages.load.augment.colour import Normalise
from stages.load.images import Images
from stages.load.samples import Dataset
from stages.recipe import (
    MomentumSGD,
    Optimiser,
    ParameterGroup,
    Plateau,
    Polynomial,
    Schedule,
    Start,
    Steps,
)
from stages.tasks.classification.batches import training_batches
from stages.tasks.classification.recipe import Classification
from stages.tasks.classification.score import correct_answers
from stages.tasks.task import Net
from stages.train import train
from stages.training import checkpoint
from stages.training.initialisation import PairedInitialisation
from tests.conftest import ROOT


def job(recipe: Classification, dataset: Dataset, folder: Path, **changes) -> TrainJob:
    return TrainJob(recipe, dataset.root, RunFolder(folder), seed=0, **changes)


@pytest.fixture(scope="module")
def finished(recipe: Classification, dataset: Dataset, tmp_path_factory) -> TrainJob:
    """An uninterrupted run."""
    one = job(recipe, dataset, tmp_path_factory.mktemp("run"))
    train(one)
    return one


def test_the_journal_tells_every_epoch_and_every_error(finished: TrainJob) -> None:
    records = list(Follower(finished.folder.journal).read())
    epochs = [record for record in records if record["kind"] == "epoch"]
    assert [record["epoch"] for record in epochs] == [0, 1, 2]
    assert all(record["n"] == 42 for record in epochs)
    assert all(0 <= record["error_top5"] <= record["error_top1"] <= 100 for record in epochs)
    steps = [record["step"] for record in records if record["kind"] == "step"]
    assert steps == list(range(1, 19))
    assert all(record["images_per_second"] > 0 for record in records if record["kind"] == "step")


def test_the_loss_falls(recipe: Classification, dataset: Dataset, tmp_path: Path) -> None:
    train(job(replace(recipe, epochs=15), dataset, tmp_path))
    losses = [r["loss"] for r in Follower(tmp_path / "journal.jsonl").read() if r["kind"] == "step"]
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])


def test_a_finished_run_is_not_trained_again(finished: TrainJob) -> None:
    before = finished.folder.weights.stat().st_mtime_ns
    assert train(finished) == read_result(finished.folder)
    assert finished.folder.weights.stat().st_mtime_ns == before


def test_killed_anywhere_it_ends_with_the_same_bits(
    recipe: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    """SIGKILL the training process twice at whatever step it is, then let it end."""
    program = tmp_path / "go.py"
    program.write_text(
        "import sys, pickle, pathlib, torch\n"
        "from stages.train import train\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"  # another number, other bits
        "train(pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()))\n"
    )
    long = replace(recipe, epochs=20)
    finished = job(long, dataset, tmp_path / "whole")
    train(finished)
    run = job(long, dataset, tmp_path / "run", checkpoint_seconds=0.0)
    (tmp_path / "job").write_bytes(pickle.dumps(run))

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(program), str(tmp_path / "job")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    for wanted in (15, 50):
        process = start()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (state := checkpoint.latest(run.folder.checkpoints)) and state["step"] >= wanted:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert read_result(run.folder) is None
    assert start().wait(120) == 0
    expected = load_file(finished.folder.weights)
    found = load_file(run.folder.weights)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert epochs_of(run) == epochs_of(finished)
    losses = {
        r["step"]: r["loss"] for r in Follower(run.folder.journal).read() if r["kind"] == "step"
    }
    assert losses == {
        r["step"]: r["loss"]
        for r in Follower(finished.folder.journal).read()
        if r["kind"] == "step"
    }


def epochs_of(run: TrainJob) -> list[tuple[int, float]]:
    records = Follower(run.folder.journal).read()
    return [(r["epoch"], r["error_top1"]) for r in records if r["kind"] == "epoch"]


def test_another_seed_is_another_run(finished: TrainJob, dataset: Dataset, tmp_path: Path) -> None:
    other = replace(finished, seed=1, folder=RunFolder(tmp_path))
    train(other)
    a, b = load_file(finished.folder.weights), load_file(other.folder.weights)
    assert not torch.equal(a["conv1.weight"], b["conv1.weight"])


def test_a_net_that_does_not_start_is_stopped(
    recipe: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    frozen = MomentumSGD((ParameterGroup(".*", Steps(((0, 0.0),)), 0.0),))
    quiet = replace(
        recipe, optimiser=frozen, start_steps=5, knobs={**recipe.knobs, "preset": "paper"}
    )
    with pytest.raises(TrainingStopped, match="did not take off: after 5 steps"):
        train(job(quiet, dataset, tmp_path))
    assert read_result(RunFolder(tmp_path)) is None


def test_a_run_that_diverges_is_stopped(
    recipe: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    wild = MomentumSGD((ParameterGroup(".*", Steps(((0, 1e6),)), 0.0),))
    with pytest.raises(TrainingStopped, match="diverged"):
        train(job(replace(recipe, optimiser=wild), dataset, tmp_path))


@contextlib.contextmanager
def interrupted_in_step(step: int) -> Iterator[None]:
    """Ctrl-C once so many of this process's optimiser steps are done, before anything is noted."""
    steps = itertools.count(1)

    def stop(*_: object) -> None:
        if next(steps) == step:
            raise KeyboardInterrupt

    handle = register_optimizer_step_post_hook(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        handle.remove()


def flat(schedule: Schedule, **changes) -> Optimiser:
    """One rate for all parameters."""
    return MomentumSGD((ParameterGroup(".*", schedule, 5e-4),), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": flat(Plateau(1e-3, patience=2, threshold=100.0))},
        {"optimiser": flat(Polynomial(1e-3, 0.5), rate="outside", nesterov=True)},
        {"average_from": 0.5, "filter_rms": 0.02, "drop_last": False, "batch_size": 20},
    ],
    ids=["plateau", "nesterov", "averaged"],
)
def test_interrupted_twice_it_ends_as_if_it_had_not_been(
    recipe: Classification, dataset: Dataset, tmp_path: Path, changes
) -> None:
    """In the middle of an epoch and at the end of one, whatever belongs to the state."""
    changed = replace(recipe, epochs=4, **changes)
    whole = job(changed, dataset, tmp_path / "whole")
    train(whole)
    run = job(changed, dataset, tmp_path / "run", checkpoint_seconds=0.0)
    with interrupted_in_step(9):
        train(run)
    with interrupted_in_step(5):
        train(run)
    assert read_result(run.folder) is None
    train(run)
    starts = [r["step"] for r in Follower(run.folder.journal).read() if r["kind"] == "start"]
    assert starts == [0, 8, 12]
    expected, found = load_file(whole.folder.weights), load_file(run.folder.weights)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    kept = ("kind", "step", "epoch", "loss", "rate", "error_top1", "error_top5", "train_error_top1")
    assert journalled(run, *kept) == journalled(whole, *kept)


def test_a_checkpoint_of_the_earlier_layout_is_gone_on_from(
    guessing: Classification, counted: list[float], dataset: Dataset, tmp_path: Path
) -> None:
    """The classifier's state lay beside the loop's, and of the epoch's sums there were the right answers."""
    run = job(guessing, dataset, tmp_path, checkpoint_seconds=0.0)
    with interrupted_in_step(4):
        train(run)
    state = checkpoint.latest(run.folder.checkpoints)
    assert state is not None
    learner, (_, right) = state.pop("learner"), state.pop("totals")
    checkpoint.save(run.folder.checkpoints, {**state, **learner, "right": int(right)}, 3)
    train(run)
    starts = [r["step"] for r in Follower(run.folder.journal).read() if r["kind"] == "start"]
    assert starts == [0, 3]
    assert training_errors(run) == pytest.approx(counted)


def journalled(run: TrainJob, *names: str) -> list[dict[str, object]]:
    """What the journal says of steps and epochs."""
    records = [r for r in Follower(run.folder.journal).read() if r["kind"] != "start"]
    return [{name: r[name] for name in names if name in r} for r in records]


def test_the_rate_follows_the_validation_error(
    recipe: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    """The rule replayed by hand on the errors that the journal tells."""
    schedule = Plateau(1e-3, factor=0.5, drops=2, patience=1, threshold=2.0)
    run = job(replace(recipe, epochs=8, optimiser=flat(schedule)), dataset, tmp_path)
    train(run)
    records = list(Follower(run.folder.journal).read())
    errors = {r["epoch"]: r["error_top1"] for r in records if r["kind"] == "epoch"}
    rate, best = 1e-3, 101.0
    for epoch, error in errors.items():
        rates = {r["rate"] for r in records if r["kind"] == "step" and r["epoch"] == epoch}
        assert rates == {rate}, epoch
        if error <= best - 2.0:
            best = error
        else:
            rate = max(rate / 2, 0.25e-3)
    assert rate == 0.25e-3, "the schedule was never put to the test"


def test_averaging_is_the_mean_of_the_weights_after_each_step(
    recipe: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    """One step an epoch, so that runs of 3, 4 and 5 epochs hold the weights after those steps."""
    plain = replace(recipe, batch_size=96, optimiser=flat(Steps(((0, 1e-3),))))
    after = []
    for epochs in (3, 4, 5):
        one = job(replace(plain, epochs=epochs), dataset, tmp_path / str(epochs))
        train(one)
        after.append(load_file(one.folder.weights))
    averaged = job(replace(plain, epochs=5, average_from=2), dataset, tmp_path / "averaged")
    train(averaged)
    found = load_file(averaged.folder.weights)
    for name in found:
        mean = torch.stack([weights[name].double() for weights in after]).mean(dim=0)
        assert torch.allclose(found[name].double(), mean, rtol=0, atol=1e-7), name
    assert not torch.allclose(found["conv1.weight"], after[-1]["conv1.weight"], atol=1e-6)


def test_the_averaged_weights_are_validated(
    guessing: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    """The very last step changes the network much, and the mean of all steps little."""
    last_step = replace(guessing, optimiser=flat(Steps(((0, 0.0), (1.8, 0.1)))))
    plain = job(last_step, dataset, tmp_path / "plain")
    averaged = job(replace(last_step, average_from=0), dataset, tmp_path / "averaged")
    errors = []
    for run in (plain, averaged):
        train(run)
        table = evaluate_part([Net(run.recipe, run.folder.weights)], run.dataset, "centre_crop")
        errors.append(epochs_of(run)[-1][1])
        assert errors[-1] == pytest.approx(100 * np.mean(~correct_answers(table)[:, 0]))
    assert errors[0] != pytest.approx(errors[1])


def test_the_loss_counts_auxiliary_heads_and_smooths_labels(
    dataset: Dataset, recipe: Classification, tmp_path: Path
) -> None:
    """One step on all images, and the same step by hand."""
    knobs = {
        "width": 0.125,
        "image_size": 64,
        "aux_pool": "adaptive",
        "aux_dropout": 0.0,
        "dropout": 0.0,
    }
    one_step = replace(
        recipe,
        model="googlenet",
        knobs=knobs,
        batch_size=96,
        epochs=1,
        optimiser=MomentumSGD((ParameterGroup(".*", Steps(((0, 0.01),)), weight_decay=0.0),)),
        auxiliary_weight=0.3,
        label_smoothing=0.1,
    )
    run = job(one_step, dataset, tmp_path)
    train(run)

    model = at_first(one_step)
    ((inputs, labels),) = shown_in_training(one_step, dataset, epoch=0)

    def loss(scores: Tensor) -> Tensor:
        logs = scores.log_softmax(dim=1)
        right = logs[torch.arange(96), labels]
        return -(0.9 * right + 0.1 * logs.mean(dim=1)).mean()

    main, aux1, aux2 = (loss(scores) for scores in model(inputs))
    (main + 0.3 * aux1 + 0.3 * aux2).backward()
    weights = load_file(run.folder.weights)
    for name, parameter in model.named_parameters():
        assert parameter.grad.any(), name
        expected = parameter - 0.01 * parameter.grad
        assert torch.allclose(weights[name], expected, rtol=1e-5, atol=1e-7), name
    (record,) = (r for r in Follower(run.folder.journal).read() if r["kind"] == "step")
    assert record["loss"] == pytest.approx(main.item(), rel=1e-5)


def at_first(recipe: Classification) -> nn.Module:
    """The network that a run of seed 0 begins with."""
    with PairedInitialisation(0):
        return models.create(recipe.model, num_classes=6, **recipe.knobs)


def shown_in_training(
    recipe: Classification, dataset: Dataset, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The network's inputs and their labels, batch by batch."""
    images = Images.to_train(dataset.samples("train"), recipe.augmentation)
    normalise = Normalise(dataset, recipe.augmentation, torch.device("cpu"))
    for batch in training_batches(
        images, recipe.augmentation, batch_size=recipe.batch_size, seed=0, epoch=epoch
    ):
        yield normalise(batch.images, batch.colour, None), batch.labels


def test_filters_stay_within_their_root_mean_square(
    recipe: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    """After one step: what is larger is scaled back to the bound, what is smaller is left alone."""
    bound = 0.02
    one_step = replace(recipe, epochs=1, batch_size=96)
    free = job(one_step, dataset, tmp_path / "free")
    bounded = job(replace(one_step, filter_rms=bound), dataset, tmp_path / "bounded")
    train(free)
    train(bounded)
    before, after = load_file(free.folder.weights), load_file(bounded.folder.weights)
    convs = [name for name, weights in before.items() if weights.dim() == 4]
    rms = {name: before[name].square().mean(dim=(1, 2, 3)).sqrt() for name in convs}
    assert (
        min(each.min() for each in rms.values()) < bound < max(each.max() for each in rms.values())
    )
    for name in before:
        factor = (bound / rms[name]).clamp(max=1)[:, None, None, None] if name in convs else 1
        assert torch.allclose(after[name], before[name] * factor, rtol=1e-5, atol=0), name


# What the paper takes from net A (Simonyan and Zisserman 2014, section 3.1).
FROM_A = r"(conv1_1|conv2_1|conv3_1|conv3_2|fc\d)\..*"


@pytest.fixture(scope="module")
def vgg_a(recipe: Classification, dataset: Dataset, tmp_path_factory) -> TrainJob:
    small = replace(
        recipe,
        model="vgg_a",
        knobs={"width": 0.125, "image_size": 64},
        optimiser=flat(Steps(((0, 1e-4),))),
        batch_size=48,
        epochs=1,
    )
    one = job(small, dataset, tmp_path_factory.mktemp("vgg_a"))
    train(one)
    return one


def test_a_staged_start_takes_what_matches_and_nothing_else(
    vgg_a: TrainJob, dataset: Dataset, tmp_path: Path
) -> None:
    frozen = flat(Steps(((0, 0.0),)))
    deeper = replace(
        vgg_a.recipe, model="vgg_d", optimiser=frozen, start=Start(vgg_a.recipe, FROM_A)
    )
    assert deeper.ancestors == (vgg_a.recipe,)
    run = job(deeper, dataset, tmp_path, starts=(vgg_a.folder.weights,))
    train(run)
    trained, found = load_file(vgg_a.folder.weights), load_file(run.folder.weights)
    fresh = at_first(deeper).state_dict()
    taken = {name for name in fresh if torch.equal(found[name], trained.get(name, torch.empty(0)))}
    layers = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")
    assert taken == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert all(torch.equal(found[name], fresh[name]) for name in fresh.keys() - taken)


@pytest.mark.parametrize(
    ("changes", "pattern", "message"),
    [
        ({"knobs": {"width": 0.25, "image_size": 64}}, FROM_A, r"do not fit .*conv1_1\.weight"),
        ({"model": "alexnet", "knobs": {"width": 0.125, "image_size": 64}}, ".*", "conv1_1"),
        ({}, "fc8", "nothing matches fc8"),  # whole names are matched
    ],
    ids=["another width", "another network", "no match"],
)
def test_a_start_that_does_not_fit_is_refused(
    vgg_a: TrainJob, dataset: Dataset, tmp_path: Path, changes, pattern: str, message: str
) -> None:
    misfit = replace(vgg_a.recipe, start=Start(vgg_a.recipe, pattern), **changes)
    with pytest.raises(TrainingStopped, match=message):
        train(job(misfit, dataset, tmp_path, starts=(vgg_a.folder.weights,)))


def test_a_start_from_damaged_weights_is_refused(
    vgg_a: TrainJob, dataset: Dataset, tmp_path: Path
) -> None:
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(vgg_a.folder.weights.read_bytes()[:1000])
    staged = replace(vgg_a.recipe, start=Start(vgg_a.recipe))
    with pytest.raises(TrainingStopped, match="weights to start from cannot be loaded"):
        train(job(staged, dataset, tmp_path / "run", starts=(damaged,)))


@pytest.fixture(scope="module")
def guessing(recipe: Classification) -> Classification:
    """A network that never changes and whose guesses differ from image to image."""
    return replace(
        recipe,
        model="vgg_a",
        knobs={"width": 0.125, "image_size": 64, "dropout": 0.0},
        optimiser=flat(Steps(((0, 0.0),))),
        epochs=2,
    )


@pytest.fixture(scope="module")
def counted(guessing: Classification, dataset: Dataset) -> list[float]:
    """Its training error in each epoch, counted by hand over the very crops of that epoch."""
    model = at_first(guessing)
    errors = []
    for epoch in range(2):
        wrong = sum(
            int((model(inputs).argmax(dim=1) != labels).sum())
            for inputs, labels in shown_in_training(guessing, dataset, epoch)
        )
        errors.append(100 * wrong / 96)
    return errors


def training_errors(run: TrainJob) -> list[float]:
    records = [r for r in Follower(run.folder.journal).read() if r["kind"] == "epoch"]
    assert all(r["train_n"] == 96 for r in records)
    return [r["train_error_top1"] for r in records]


def test_the_training_error_is_counted_also_across_interruptions(
    guessing: Classification, counted: list[float], dataset: Dataset, tmp_path: Path
) -> None:
    run = job(guessing, dataset, tmp_path, checkpoint_seconds=0.0)
    for step in (4, 5):  # in the first epoch, and early in the second
        with interrupted_in_step(step):
            train(run)
    train(run)
    assert training_errors(run) == pytest.approx(counted)
