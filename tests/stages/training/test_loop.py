"""The loop with a learner that is no classifier: two networks against each other on random points."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from stages.execution import Execution
from stages.job import RunFolder, TrainingStopped, TrainJob
from stages.journal import Follower
from stages.parallel import ALONE, Part
from stages.recipe import MomentumSGD, ParameterGroup, Recipe, Steps
from stages.training import checkpoint
from stages.training.descent import Descent, Forward
from stages.training.loop import fit

EPOCHS, STEPS, ITEMS, NOISE = 3, 4, 12, 5
OPTIMISER = MomentumSGD((ParameterGroup(".*", Steps(((0, 0.05), (2, 0.02))), 0.0),), rate="outside")


@dataclass(frozen=True)
class Points:
    """One worker's part of a batch of points in the plane."""

    real: Tensor
    global_size: int

    @property
    def size(self) -> int:
        return len(self.real)

    def piece(self, start: int, count: int) -> "Points":
        return replace(self, real=self.real[start : start + count])

    def stand_in(self) -> "Points":
        return replace(self, real=torch.zeros(1, 2))

    def to(self, device: torch.device) -> "Points":
        return replace(self, real=self.real.to(device))


class Adversaries:
    """A generator and a discriminator, each with a descent of its own in every step."""

    device = torch.device("cpu")
    epochs, steps_per_epoch, items_per_epoch = EPOCHS, STEPS, STEPS * ITEMS

    def __init__(self, part: Part = ALONE, execution: Execution | None = None) -> None:
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(NOISE, 8), nn.Tanh(), nn.Linear(8, 2))
        discriminator = nn.Sequential(
            nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1)
        )
        options = {"epochs": EPOCHS, "part": part, "execution": execution or Execution()}
        self.part = part
        self.generator = Descent(generator, OPTIMISER, average_from=1.0, **options)
        self.discriminator = Descent(discriminator, OPTIMISER, **options)

    def batches(self, epoch: int, first_step: int) -> Iterator[Points]:
        for descent in (self.generator, self.discriminator):
            descent.begin_epoch()
        points = np.random.default_rng(epoch).normal(2.0, 0.5, (STEPS, ITEMS, 2))
        for real in torch.from_numpy(points).float()[first_step:]:
            yield Points(real[torch.from_numpy(self.part.slice_of(np.arange(ITEMS)))], ITEMS)

    def step(self, batch: Points, step: int) -> tuple[Tensor, Mapping[str, float]]:
        epoch = step / STEPS
        told_apart, rate = self.discriminator.step(batch, self._tell_apart, epoch)
        deceived, _ = self.generator.step(batch, self._deceive, epoch)
        return torch.cat([told_apart, deceived]), {"rate": rate}

    def _tell_apart(self, network: Forward, piece: Points) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            fake = self.generator.model(torch.randn(piece.size, NOISE))
        return self._loss(network(piece.real), network(fake))

    def _deceive(self, network: Forward, piece: Points) -> tuple[Tensor, Tensor]:
        scores = self.discriminator.model(network(torch.randn(piece.size, NOISE)))
        return self._loss(scores, scores[:0])

    def _loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of what should be called real and what should be called fake, summed."""
        loss = F.softplus(-real).sum() + F.softplus(fake).sum()
        return loss, loss.detach().double()[None]

    def check(self, steps: range, loss: float) -> None:
        pass

    def validate(self, epoch: int, totals: Sequence[float]) -> Mapping[str, float]:
        told_apart, deceived = (total / self.items_per_epoch for total in totals)
        return {"told_apart": told_apart, "deceived": deceived}

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.generator.state(),
            "discriminator": self.discriminator.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.generator.load(state["generator"])
        self.discriminator.load(state["discriminator"])

    def save(self, path: Path) -> None:
        networks = nn.ModuleList([self.generator.tested, self.discriminator.tested])
        save_file(networks.state_dict(), path)


def job(folder: Path, **changes: Any) -> TrainJob:
    recipe = Recipe(model="adversaries", epochs=EPOCHS, protocols=())
    folder.mkdir()
    return TrainJob(recipe, folder, RunFolder(folder), seed=7, **changes)


def records(run: TrainJob, *names: str) -> list[dict[str, Any]]:
    """What the journal says of steps and epochs."""
    journal = [r for r in Follower(run.folder.journal).read() if r["kind"] != "start"]
    return [{name: r[name] for name in names if name in r} for r in journal]


KEPT = ("kind", "step", "epoch", "loss", "rate", "told_apart", "deceived")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """A run that nothing interrupted."""
    run = job(tmp_path_factory.mktemp("adversaries") / "whole")
    result = fit(Adversaries(), run, ALONE, on_epoch=None)
    assert result.steps == EPOCHS * STEPS
    return run


@contextmanager
def killed_after(descents: int) -> Iterator[None]:
    """End the training as a signal would, once so many single descents are done."""
    counted = itertools.count(1)

    def kill(*_: object) -> None:
        if next(counted) == descents:
            raise KeyboardInterrupt

    handle = register_optimizer_step_post_hook(kill)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        handle.remove()


def test_two_descents_in_one_step_train_both_networks(whole: TrainJob) -> None:
    before = Adversaries()
    trained = load_file(whole.folder.weights)
    for place, descent in enumerate((before.generator, before.discriminator)):
        for name, initial in descent.model.state_dict().items():
            assert not torch.equal(trained[f"{place}.{name}"], initial), name
    epochs = [r for r in records(whole, *KEPT) if r["kind"] == "epoch"]
    assert [r["epoch"] for r in epochs] == [0, 1, 2]
    assert all(r["told_apart"] > 0 and r["deceived"] > 0 for r in epochs)
    # What is generated moves towards the real points, whose mean is (2, 2).
    after = Adversaries().generator.model
    after.load_state_dict(
        {name.removeprefix("0."): v for name, v in trained.items() if name.startswith("0.")}
    )
    noise = torch.randn(1000, NOISE)
    away = [(model(noise).mean(dim=0) - 2).norm() for model in (before.generator.model, after)]
    assert away[1] < away[0]


@pytest.mark.parametrize(
    "descents",
    [11, 12, 16],
    ids=["between a step's two descents", "within an epoch", "before a validation"],
)
def test_killed_anywhere_both_networks_end_with_the_same_bits(
    whole: TrainJob, tmp_path: Path, descents: int
) -> None:
    run = job(tmp_path / "run", checkpoint_seconds=0.0)
    with killed_after(descents):
        fit(Adversaries(), run, ALONE, on_epoch=None)
    reached = checkpoint.latest(run.folder.checkpoints)
    assert reached is not None
    assert reached["step"] == (descents - 1) // 2
    again = Adversaries()
    fit(again, run, ALONE, on_epoch=None)
    expected, found = load_file(whole.folder.weights), load_file(run.folder.weights)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert records(run, *KEPT) == records(whole, *KEPT)


def test_every_epoch_is_reported_and_a_check_can_end_it(tmp_path: Path) -> None:
    class Impatient(Adversaries):
        def check(self, steps: range, loss: float) -> None:
            if steps.stop > STEPS:
                raise TrainingStopped(f"step {steps.stop} is one too many", "be patient")

    heard: list[int] = []
    run = job(tmp_path / "run")
    with pytest.raises(TrainingStopped, match="step 5 is one too many"):
        fit(Impatient(), run, ALONE, on_epoch=heard.append)
    assert heard == [1]
    assert not run.folder.weights.exists()


def test_micro_batches_sum_up_to_the_same_gradients(tmp_path: Path) -> None:
    """Without anything random in the loss, two descents of 12 points are those of 5, 5 and 2."""

    def loss(network: Forward, piece: Points) -> tuple[Tensor, Tensor]:
        value = network(piece.real).square().sum()
        return value, value.detach().double()[None]

    batch = next(Adversaries().batches(0, 0))
    descended = []
    for execution in (Execution(), Execution(micro_batch=5)):
        descent = Adversaries(execution=execution).discriminator
        descent.model.eval()
        sums, rate = descent.step(batch, loss, epoch=2.0)
        assert rate == 0.02
        descended.append((sums, descent.model.state_dict()))
    (sums, state), (other_sums, other_state) = descended
    assert other_sums.item() == pytest.approx(sums.item())
    assert all(torch.allclose(other_state[name], state[name], atol=1e-7) for name in state)
