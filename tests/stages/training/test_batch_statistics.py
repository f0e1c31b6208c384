"""What batch normalisation normalises by: pieces of a batch in training, averages in a test."""

import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.papers.resnet import recipes as resnet
from stages.augmentation import Augmentation
from stages.errors import PipelineError
from stages.execution import Execution
from stages.job import RunFolder, TrainJob
from stages.load.augment.colour import Normalise
from stages.load.images import Images
from stages.load.samples import Dataset
from stages.parallel import ALONE
from stages.recipe import MomentumSGD, ParameterGroup, Steps
from stages.tasks.classification.batches import training_batches
from stages.tasks.classification.learner import ClassificationLearner
from stages.tasks.classification.recipe import Classification
from stages.train import train
from stages.training.batch_statistics import freeze, take_true_statistics

RUNNING = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def small() -> Classification:
    """A net with batch normalisation, and batches of 32 in pieces of 8."""
    published = resnet.RECIPES["paper"]["cifar20"]
    assert isinstance(published, Classification)
    return replace(
        published,
        knobs={"depth": 8},
        augmentation=Augmentation(36, 32, mean="channel", unit_variance=True),
        optimiser=MomentumSGD((ParameterGroup(".*", Steps(((0, 0.02),)), 1e-4),)),
        batch_size=32,
        epochs=2,
        batch_norm_images=8,
        true_statistics=64,
    )


def job(recipe: Classification, dataset: Dataset, folder: Path, **changes) -> TrainJob:
    return TrainJob(recipe, dataset.root, RunFolder(folder), seed=0, **changes)


def trained(recipe: Classification, dataset: Dataset, folder: Path) -> dict[str, torch.Tensor]:
    one = job(recipe, dataset, folder)
    train(one)
    return load_file(one.folder.weights)


def running(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name.endswith(RUNNING[:2])}


def test_true_statistics_are_the_mean_over_batches() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
    for _ in range(5):
        net(torch.randn(8, 3, 6, 6))
    batches = [torch.randn(8, 3, 6, 6) + 2 * i for i in range(3)]
    maps = [net[0](batch) for batch in batches]
    take_true_statistics(net, batches)
    means = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    variances = torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0)
    torch.testing.assert_close(net[1].running_mean, means)
    torch.testing.assert_close(net[1].running_var, variances)
    assert net[1].momentum == 0.1  # training can go on
    assert not net.training

    before = nn.Linear(2, 2)
    state = {name: value.clone() for name, value in before.state_dict().items()}
    take_true_statistics(before, [torch.randn(1, 2)])
    assert all(torch.equal(before.state_dict()[name], state[name]) for name in state)


def test_frozen_norms_use_their_averages_and_their_scales_go_on_learning() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    freeze(net)
    x = torch.randn(8, 3, 6, 6) + 3
    torch.testing.assert_close(
        net(x), net[1].weight.view(1, 4, 1, 1) * net[0](x), atol=1e-3, rtol=1e-3
    )
    assert not net[1].running_mean.any()
    net(x).sum().backward()
    assert net[1].bias.grad.any()
    net.train()(x)
    assert net[1].running_mean.any()


def test_the_saved_averages_are_those_of_a_further_epoch(
    small: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    true = trained(small, dataset, tmp_path / "true")
    averaged = trained(replace(small, true_statistics=None), dataset, tmp_path / "running")
    for name in true:
        same = torch.equal(true[name], averaged[name])
        assert same == (not name.endswith(RUNNING)), name
    # 64 images are eight pieces of 8 of the epoch that would come next.
    samples, augmentation = dataset.samples("train"), small.augmentation
    pieces = training_batches(
        Images.to_train(samples, augmentation), augmentation, batch_size=8, seed=0, epoch=2
    )
    normalise = Normalise(dataset, augmentation, torch.device("cpu"))
    weight = true["conv1.weight"]
    maps = [
        nn.functional.conv2d(normalise(piece.images), weight, padding=1)
        for piece in itertools.islice(pieces, 8)
    ]
    expected = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    torch.testing.assert_close(true["bn1.running_mean"], expected, rtol=1e-4, atol=1e-4)
    assert int(true["bn1.num_batches_tracked"]) == 8


def test_interrupted_it_ends_with_the_same_averages(
    small: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop(epoch: int) -> None:
        raise Stop

    whole = trained(small, dataset, tmp_path / "whole")
    stopped = job(small, dataset, tmp_path / "stopped", checkpoint_seconds=0.0)
    with pytest.raises(Stop):
        train(stopped, on_epoch=stop)
    train(stopped)
    found = load_file(stopped.folder.weights)
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_pieces_are_the_same_for_any_number_of_workers(
    small: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    """So the averages of the saved net, which one worker takes, are the same as well."""
    alone = trained(small, dataset, tmp_path / "alone")
    two = job(small, dataset, tmp_path / "two")
    meet = str(tmp_path / "meet")
    torch.multiprocessing.spawn(_worker, args=(2, two, meet), nprocs=2)
    found = load_file(two.folder.weights)
    for name in alone:
        assert torch.allclose(found[name].double(), alone[name].double(), rtol=1e-3, atol=1e-3), (
            name
        )
    whole = trained(replace(small, batch_norm_images=None), dataset, tmp_path / "whole")
    differences = [(whole[n] - alone[n]).abs().max() for n in alone if n.endswith("conv1.weight")]
    assert max(differences) > 0.003


def _worker(rank: int, world: int, one: TrainJob, meet: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{meet}", rank=rank, world_size=world)
    train(one)
    torch.distributed.barrier()
    os._exit(0)  # an orderly end races with gloo's threads


def test_what_would_change_the_pieces_is_refused(small: Classification) -> None:
    assert small.at_once(Execution(), 1) == small.at_once(Execution(micro_batch=8), 4) == 8
    assert replace(small, batch_norm_images=None).at_once(Execution(micro_batch=5), 3) == 5
    with pytest.raises(PipelineError, match=r"micro-batches of 16 .* over 8") as raised:
        small.at_once(Execution(micro_batch=16), 1)
    assert raised.value.fix == "omit --micro-batch"
    with pytest.raises(PipelineError, match="3 workers cannot share batches of 32") as raised:
        small.at_once(Execution(), 3)
    assert raised.value.fix == "use a number of workers out of 1, 2, 4"
    for changes in ({"batch_norm_images": 12}, {"drop_last": False}):
        with pytest.raises(ValueError, match="is not made of pieces"):
            replace(small, **changes)


def test_frozen_late_the_averages_stay(
    small: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    recipe = replace(small, freeze_norm_from=1)
    one = job(recipe, dataset, tmp_path)
    learner = ClassificationLearner(one, recipe, torch.device("cpu"), ALONE)
    states = []
    for epoch in (0, 1):
        before = {n: v.clone() for n, v in learner.descent.model.state_dict().items()}
        for step, batch in enumerate(learner.batches(epoch, 0)):
            learner.step(batch, 3 * epoch + step)
        learner.validate(epoch, [0.0, 0.0])
        after = learner.descent.model.state_dict()
        states.append({n for n in after if not torch.equal(after[n], before[n])})
    moved, moved_late = states
    assert {n for n in moved if n.endswith(RUNNING)} != set()
    assert not any(n.endswith(RUNNING) for n in moved_late)
    assert "bn1.weight" in moved_late
