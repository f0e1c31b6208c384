"""Checkpoints that are whole or absent.

An index, replaced atomically after each file is on disk, names the checkpoints and their SHA-256. A
damaged or half-written file is never loaded: the one before it is.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from stages.storage import write_atomically

KEPT = 2


def save(folder: Path, state: dict[str, Any], step: int) -> None:
    """Write a checkpoint and drop all but the newest ones.

    Args:
        folder: where checkpoints live; it is created where it is missing.
        state: tensors and plain values in dicts and lists, nothing that needs pickle to load.
        step: global step that the state has reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{step:09d}.pt"
    partial = folder / f".{name}.partial"
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(folder / name)
    entry = {"file": name, "step": step, "sha256": _sha256(folder / name)}
    earlier = [item for item in _index(folder) if item["step"] < step]
    entries = [*earlier[-(KEPT - 1) :], entry]
    write_atomically(folder / "index.json", json.dumps(entries, indent=1) + "\n")
    newest = {item["file"] for item in entries}
    for path in folder.glob("*.pt*"):
        if path.name not in newest:
            path.unlink()


def latest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is undamaged, on the CPU, or None where there is none."""
    for item in reversed(_index(folder)):
        path = folder / item["file"]
        if path.is_file() and _sha256(path) == item["sha256"]:
            return _in_todays_layout(torch.load(path, map_location="cpu", weights_only=True))
    return None


def _in_todays_layout(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of the time when all learners were classifiers, and their state lay beside the loop's.

    Only the correct answers were kept of the sums.
    """
    if "right" not in state:
        return state
    return {**state, "totals": [0.0, state["right"]], "learner": state}


def _index(folder: Path) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = json.loads((folder / "index.json").read_text())
        return entries
    except (OSError, ValueError):
        return []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
