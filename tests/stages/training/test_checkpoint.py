"""Damaged checkpoints are never loaded; a journal's reader misses and repeats nothing."""

import random
from pathlib import Path

import torch

from stages.journal import Follower, Journal
from stages.training import checkpoint


def saved(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.save(folder, {"step": step, "weights": torch.full((1000,), float(step))}, step)


def test_the_newest_comes_back_and_old_ones_go(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    state = checkpoint.latest(tmp_path)
    assert state is not None
    assert state["step"] == 3
    assert state["weights"].eq(3).all()
    assert len(list(tmp_path.glob("*.pt"))) == checkpoint.KEPT


def test_none_yet(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    newest = tmp_path / "step-000000002.pt"
    good = newest.read_bytes()
    for place in random.Random(0).sample(range(len(good)), 100):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        newest.write_bytes(bad)
        state = checkpoint.latest(tmp_path)
        assert state is not None
        assert state["step"] == 1
    newest.write_bytes(good[:-10])
    assert checkpoint.latest(tmp_path)["step"] == 1
    newest.unlink()
    assert checkpoint.latest(tmp_path)["step"] == 1


def test_a_broken_index_is_no_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (tmp_path / "index.json").write_text("[{")
    assert checkpoint.latest(tmp_path) is None


def test_leftovers_of_a_killed_save_are_swept(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (tmp_path / ".step-000000002.pt.partial").write_bytes(b"half")
    (tmp_path / "step-000000002.pt").write_bytes(b"whole but not in the index")
    saved(tmp_path, 3)
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.json",
        "step-000000001.pt",
        "step-000000003.pt",
    }


def test_a_follower_reads_a_growing_journal_once(tmp_path: Path) -> None:
    journal, follower = Journal(tmp_path / "j"), Follower(tmp_path / "j")
    assert list(follower.read()) == []
    journal.write("step", 1, loss=3.0)
    assert [record["loss"] for record in follower.read()] == [3.0]
    journal.write("step", 2, loss=2.0)
    journal.write("epoch", 2, error_top5=50.0)
    assert [record["kind"] for record in follower.read()] == ["step", "epoch"]
    assert list(follower.read()) == []


def test_steps_repeated_after_a_kill_are_told_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    for step in (1, 2, 3):
        journal.write("step", step)
    journal.close()
    with (tmp_path / "j").open("a") as file:
        file.write('{"kind": "step", "st')  # killed in the middle of a line
    again = Journal(tmp_path / "j")
    for step in (2, 3, 4):
        again.write("step", step)
    assert [record["step"] for record in Follower(tmp_path / "j").read()] == [1, 2, 3, 4]
