"""The same training however it is computed: by how many workers, in what pieces, in what precision."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import read_provenance
from stages.execution import Execution
from stages.job import RunFolder, TrainingStopped, TrainJob
from stages.journal import Follower
from stages.load.samples import Dataset
from stages.recipe import MomentumSGD, ParameterGroup, Steps
from stages.tasks.classification.recipe import Classification
from stages.train import train


@pytest.fixture(scope="module")
def still(recipe: Classification) -> Classification:
    """Without dropout, whose noise is each worker's own; batches that no number of workers divides.

    96 images are five batches of 19 and one image, which leaves a second worker without any.
    """
    return replace(
        recipe,
        knobs={**recipe.knobs, "dropout": 0.0},
        batch_size=19,
        drop_last=False,
        epochs=2,
    )


@pytest.fixture(scope="module")
def alone(still: Classification, dataset: Dataset, tmp_path_factory) -> TrainJob:
    """One worker, whole batches, float32."""
    job = TrainJob(still, dataset.root, RunFolder(tmp_path_factory.mktemp("alone")), seed=0)
    train(job)
    return job


@pytest.fixture(scope="module")
def pairs(alone: TrainJob, tmp_path_factory) -> dict[str, TrainJob]:
    """The same by two workers over gloo: 10 and 9 images a step, 1 and none in an epoch's last."""
    folder = tmp_path_factory.mktemp("pairs")
    jobs = {
        "whole": replace(alone, folder=RunFolder(folder / "whole")),
        # 4 + 4 + 2 and 4 + 4 + 1 images, then 1 and none
        "micro": replace(
            alone, folder=RunFolder(folder / "micro"), execution=Execution(micro_batch=4)
        ),
        "begun alone": replace(alone, folder=RunFolder(folder / "begun"), checkpoint_seconds=0.0),
    }
    with pytest.raises(_StoppedError):
        train(jobs["begun alone"], on_epoch=_stop)
    meet = str(folder / "meet")
    torch.multiprocessing.spawn(_worker, args=(2, list(jobs.values()), meet), nprocs=2)
    return jobs


class _StoppedError(Exception):
    """Nobody catches it: as good as killed."""


def _stop(epoch: int) -> None:
    raise _StoppedError


def _worker(rank: int, world: int, jobs: list[TrainJob], meet: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{meet}", rank=rank, world_size=world)
    for job in jobs:
        train(job)
    torch.distributed.barrier()
    os._exit(0)  # an orderly end races with gloo's threads; what is tested is on the disk by now


def epochs_of(job: TrainJob) -> list[dict[str, float]]:
    records = [r for r in Follower(job.folder.journal).read() if r["kind"] == "epoch"]
    kept = ("error_top1", "error_top5", "train_error_top1", "train_n", "n")
    return [{name: record[name] for name in kept} for record in records]


def assert_same(one: TrainJob, other: TrainJob) -> None:
    """To what float32 sums in another order differ by."""
    expected, found = load_file(one.folder.weights), load_file(other.folder.weights)
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=1e-5, atol=1e-5), name
    assert epochs_of(other) == epochs_of(one)


@pytest.mark.parametrize("kind", ["whole", "micro"])
def test_two_workers_train_like_one(alone: TrainJob, pairs: dict[str, TrainJob], kind: str) -> None:
    assert_same(alone, pairs[kind])
    (start,) = (r for r in Follower(pairs[kind].folder.journal).read() if r["kind"] == "start")
    assert start["world"] == 2
    assert [record["n"] for record in epochs_of(pairs[kind])] == [42, 42]
    assert [record["train_n"] for record in epochs_of(pairs[kind])] == [96, 96]


def test_two_workers_go_on_where_one_stopped(alone: TrainJob, pairs: dict[str, TrainJob]) -> None:
    assert_same(alone, pairs["begun alone"])
    starts = [
        r for r in Follower(pairs["begun alone"].folder.journal).read() if r["kind"] == "start"
    ]
    assert [(start["world"], start["step"]) for start in starts] == [(1, 0), (2, 5)]


@pytest.mark.parametrize("size", [5, 17, 1000])
def test_micro_batches_train_like_the_whole(alone: TrainJob, size: int, tmp_path: Path) -> None:
    micro = replace(alone, folder=RunFolder(tmp_path), execution=Execution(micro_batch=size))
    train(micro)
    assert_same(alone, micro)


def falls(job: TrainJob) -> bool:
    losses = [r["loss"] for r in Follower(job.folder.journal).read() if r["kind"] == "step"]
    assert all(torch.isfinite(torch.tensor(losses)))
    return sum(losses[-6:]) < 0.9 * sum(losses[:6])


@pytest.mark.parametrize(
    "execution",
    [Execution(precision="bf16"), Execution(channels_last=True)],
    ids=["bf16", "channels_last"],
)
def test_the_loss_falls_in_every_way_to_compute(
    recipe: Classification, dataset: Dataset, tmp_path: Path, execution: Execution
) -> None:
    job = TrainJob(
        replace(recipe, epochs=12), dataset.root, RunFolder(tmp_path), seed=0, execution=execution
    )
    train(job)
    assert falls(job)
    assert {w.dtype for w in load_file(job.folder.weights).values()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.parametrize("keep", [0, 1 << 30])
def test_the_loss_falls_with_images_that_a_gpu_decoded(
    recipe: Classification, dataset: Dataset, tmp_path: Path, keep: int, monkeypatch
) -> None:
    monkeypatch.setattr("stages.load.images.KEEP_DECODED", keep)
    execution = Execution(decode="gpu")
    job = TrainJob(
        replace(recipe, epochs=12), dataset.root, RunFolder(tmp_path), seed=0, execution=execution
    )
    train(job)
    assert falls(job)


@pytest.mark.slow
def test_compiled_it_trains_like_uncompiled(alone: TrainJob, tmp_path: Path) -> None:
    compiled = replace(alone, folder=RunFolder(tmp_path), execution=Execution(compile=True))
    train(compiled)
    expected, found = load_file(alone.folder.weights), load_file(compiled.folder.weights)
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-4), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_cannot_decode(alone: TrainJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped, match="this worker has none") as raised:
        train(replace(alone, folder=RunFolder(tmp_path), execution=Execution(decode="gpu")))
    assert "omit --decode" in raised.value.fix


def test_how_it_is_computed_is_told_and_defines_nothing(alone: TrainJob, tmp_path: Path) -> None:
    once = replace(
        alone.recipe,
        epochs=1,
        batch_size=96,
        optimiser=MomentumSGD((ParameterGroup(".*", Steps(((0, 1e-4),)), 0.0),)),
    )
    execution = Execution("bf16", channels_last=True, micro_batch=48)
    job = replace(alone, recipe=once, folder=RunFolder(tmp_path), execution=execution)
    train(job)
    start = json.loads(job.folder.journal.read_text().splitlines()[0])
    recorded = {
        name: start[name] for name in ("precision", "compile", "channels_last", "micro_batch")
    }
    assert recorded == {
        "precision": "bf16",
        "compile": False,
        "channels_last": True,
        "micro_batch": 48,
    }
    assert read_provenance(job.folder.weights).recipe == once.id
    assert not set(recorded) & set(once.resolved())
