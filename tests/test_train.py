"""Training: exact resumption, guards, and the same result whoever launches it."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages import checkpoint
from stages.dataset import Dataset
from stages.journal import Follower
from stages.recipe import Optimiser, ParameterGroup, Recipe, Steps
from stages.train import TrainingStopped, TrainJob, read_result, train
from tests.conftest import ROOT


def job(recipe: Recipe, dataset: Dataset, folder: Path, **changes) -> TrainJob:
    return TrainJob(recipe, dataset.root, folder, seed=0, **changes)


@pytest.fixture(scope="module")
def finished(recipe: Recipe, dataset: Dataset, tmp_path_factory) -> TrainJob:
    """An uninterrupted run."""
    one = job(recipe, dataset, tmp_path_factory.mktemp("run"))
    train(one)
    return one


def test_the_journal_tells_every_epoch_and_every_error(finished: TrainJob) -> None:
    records = list(Follower(finished.journal).read())
    epochs = [record for record in records if record["kind"] == "epoch"]
    assert [record["epoch"] for record in epochs] == [0, 1, 2]
    assert all(record["n"] == 42 for record in epochs)
    assert all(0 <= record["error_top5"] <= record["error_top1"] <= 100 for record in epochs)
    steps = [record["step"] for record in records if record["kind"] == "step"]
    assert steps == list(range(1, 19))
    assert all(record["images_per_second"] > 0 for record in records if record["kind"] == "step")


def test_the_loss_falls(recipe: Recipe, dataset: Dataset, tmp_path: Path) -> None:
    train(job(replace(recipe, epochs=15), dataset, tmp_path))
    losses = [r["loss"] for r in Follower(tmp_path / "journal.jsonl").read() if r["kind"] == "step"]
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])


def test_a_finished_run_is_not_trained_again(finished: TrainJob) -> None:
    before = finished.weights.stat().st_mtime_ns
    assert train(finished) == read_result(finished.run_dir)
    assert finished.weights.stat().st_mtime_ns == before


def test_killed_anywhere_it_ends_with_the_same_bits(
    recipe: Recipe, dataset: Dataset, tmp_path: Path
) -> None:
    """SIGKILL the training process twice at whatever step it is, then let it end."""
    program = tmp_path / "go.py"
    program.write_text(
        "import sys, pickle, pathlib\n"
        "from stages.train import train\n"
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
            if (state := checkpoint.latest(run.run_dir / "checkpoints")) and state[
                "step"
            ] >= wanted:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert read_result(run.run_dir) is None
    assert start().wait(120) == 0
    expected = load_file(finished.weights)
    found = load_file(run.weights)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert epochs_of(run) == epochs_of(finished)
    losses = {r["step"]: r["loss"] for r in Follower(run.journal).read() if r["kind"] == "step"}
    assert losses == {
        r["step"]: r["loss"] for r in Follower(finished.journal).read() if r["kind"] == "step"
    }


def epochs_of(run: TrainJob) -> list[tuple[int, float]]:
    records = Follower(run.journal).read()
    return [(r["epoch"], r["error_top1"]) for r in records if r["kind"] == "epoch"]


def test_another_seed_is_another_run(finished: TrainJob, dataset: Dataset, tmp_path: Path) -> None:
    other = replace(finished, seed=1, run_dir=tmp_path)
    train(other)
    a, b = load_file(finished.weights), load_file(other.weights)
    assert not torch.equal(a["conv1.weight"], b["conv1.weight"])


def test_a_net_that_does_not_start_is_stopped(
    recipe: Recipe, dataset: Dataset, tmp_path: Path
) -> None:
    frozen = Optimiser((ParameterGroup(".*", Steps(((0, 0.0),)), 0.0),))
    quiet = replace(
        recipe, optimiser=frozen, start_steps=5, knobs={**recipe.knobs, "preset": "paper"}
    )
    with pytest.raises(TrainingStopped, match="did not start: after 5 steps"):
        train(job(quiet, dataset, tmp_path))
    assert read_result(tmp_path) is None


def test_a_run_that_diverges_is_stopped(recipe: Recipe, dataset: Dataset, tmp_path: Path) -> None:
    wild = Optimiser((ParameterGroup(".*", Steps(((0, 1e6),)), 0.0),))
    with pytest.raises(TrainingStopped, match="diverged"):
        train(job(replace(recipe, optimiser=wild), dataset, tmp_path))


def test_two_workers_train_like_one(
    finished: TrainJob, recipe: Recipe, dataset: Dataset, tmp_path: Path
) -> None:
    """Data-parallel over gloo, without dropout, whose noise is each worker's own."""
    still = replace(recipe, knobs={**recipe.knobs, "dropout": 0.0}, epochs=1)
    alone = job(still, dataset, tmp_path / "alone")
    train(alone)
    pair = job(still, dataset, tmp_path / "pair")
    torch.multiprocessing.spawn(_worker, args=(2, pair, str(tmp_path / "meet")), nprocs=2)
    one, two = load_file(alone.weights), load_file(pair.weights)
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-4), name
    records = [json.loads(line) for line in pair.journal.read_text().splitlines()]
    assert next(r for r in records if r["kind"] == "epoch")["n"] == 42


def _worker(rank: int, world: int, pair: TrainJob, meet: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{meet}", rank=rank, world_size=world)
    train(pair)
    torch.distributed.barrier()
    os._exit(0)  # an orderly end races with gloo's threads; what is tested is on the disk by now
