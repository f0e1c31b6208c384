"""Killed at any moment and run again, sharding ends with the same bytes and keeps what was finished."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stages.dataset import is_dataset
from stages.shard import shard
from stages.sources import open_source
from tests.conftest import ROOT
from tests.stages.shard.test_shard import contents

SHARD_BYTES = 20_000


def start(
    source: Path, destination: Path, workers: int, shard_bytes: int = SHARD_BYTES
) -> subprocess.Popen[str]:
    options = ["--shard-bytes", str(shard_bytes), "--workers", str(workers)]
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.shard", str(source), str(destination), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_killed_at_random_moments(source: Path, tmp_path: Path, workers: int) -> None:
    one_image = 1  # to a shard: there is enough to do for several runs
    shard(open_source(source), tmp_path / "whole", shard_bytes=one_image)
    destination = tmp_path / "killed"
    draw = random.Random(workers)
    finished: dict[str, int] = {}
    for _ in range(2):
        run = start(source, destination, workers, one_image)
        # Once there is a shard more than the runs before have left, a moment more.
        while run.poll() is None and len(_work(destination)) <= len(finished):
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.03))
        children = psutil.Process(run.pid).children(recursive=True) if run.poll() is None else []
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, "workers outlive the command"
        assert not is_dataset(destination), "it ended before it was killed"
        for name, changed in finished.items():
            assert (destination / name).stat().st_mtime_ns == changed, (
                "a finished shard was touched"
            )
        left = len(finished)
        finished = {
            name: (destination / name).stat().st_mtime_ns
            for name in (path.name.removesuffix(".jsonl") for path in _work(destination))
        }
        assert len(finished) > left, "nothing was done between the kills"
    run = start(source, destination, workers, one_image)
    assert run.wait(120) == 0, run.communicate()
    assert contents(destination) == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


def test_killed_after_each_shard_and_at_the_very_end(source: Path, tmp_path: Path) -> None:
    found = open_source(source)
    shard(found, tmp_path / "whole", shard_bytes=SHARD_BYTES)
    whole = contents(tmp_path / "whole")
    destination = tmp_path / "stopped"

    class StoppedError(Exception):
        pass

    def stop(what: str, done: int, of: int) -> None:
        raise StoppedError

    stops = 0
    while not is_dataset(destination):
        try:
            shard(found, destination, shard_bytes=SHARD_BYTES, progress=stop if stops < 40 else _go)
        except StoppedError:
            stops += 1
    assert stops == 40
    assert contents(destination) == whole

    # As it is between the removal of the work files and the last renaming.
    (destination / "dataset.json").rename(destination / "_dataset.json")
    assert not is_dataset(destination)
    shard(found, destination, shard_bytes=SHARD_BYTES)
    assert contents(destination) == whole


def test_a_killed_worker_is_told(source: Path, tmp_path: Path) -> None:
    run = start(source, tmp_path / "data", 2)
    command = psutil.Process(run.pid)
    workers: list[psutil.Process] = []
    while not workers:  # they are children of the process that they are forked from
        time.sleep(0.005)
        workers = [child for server in command.children() for child in server.children()]
    workers[0].kill()
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "a worker process was killed" in stderr


def _work(destination: Path) -> list[Path]:
    return list((destination / "_work").glob("[!.]*.jsonl"))


def _go(what: str, done: int, of: int) -> None:
    """Do not stop."""
