"""The pipeline on a real Ray cluster on this machine."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from stages.training import checkpoint
from tests.conftest import ROOT, command


def weights(workspace: Path) -> dict[str, torch.Tensor]:
    (folder,) = (workspace / "runs").iterdir()
    return load_file(folder / "weights.safetensors")


def run(source: Path, workspace: Path, *more: object) -> list[object]:
    return ["pipeline.run", "--year", 2012, "--data", source, "--workspace", workspace, *more]


def test_two_workers_from_archives_to_timeline(source: Path, tmp_path: Path) -> None:
    done = command(*run(source, tmp_path, "--workers", 2, "--debug"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 2 workers (cpu)" in done.stdout
    assert "epoch 15/15 done" in done.stdout
    assert "n=42" in done.stdout
    rows = list(csv.DictReader((tmp_path / "report" / "timeline.csv").open()))
    assert {row["n"] for row in rows if row["kind"] == "reproduced"} == {"42"}
    (folder,) = (tmp_path / "runs").iterdir()
    for protocol in ("ten_crop", "centre_crop"):
        assert json.loads((folder / "evaluations" / f"{protocol}.json").read_text())["n"] == 42


@pytest.mark.slow
def test_a_killed_driver_leaves_no_worker_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, killed = (
        # The embedded images: a slice's training is over before its first checkpoint.
        ["pipeline.run", "--year", "2012", "--workspace", str(tmp_path / name)]
        for name in ("whole", "killed")
    )
    assert command(*whole).returncode == 0
    arguments = [sys.executable, "-m", *killed]
    driver = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if any(checkpoint.latest(folder) for folder in tmp_path.glob("killed/runs/*/checkpoints")):
            break
        time.sleep(0.05)
    cluster = psutil.Process(driver.pid).children(recursive=True)
    names = {process: process.name() for process in cluster}
    assert any("raylet" in name for name in names.values())
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    # Ray's two agents look for their raylet only now and then, and end a minute or two later.
    mine = [process for process, name in names.items() if "Agent" not in name]
    _, alive = psutil.wait_procs(mine, timeout=60)
    assert not alive
    again = command(*killed)
    assert again.returncode == 0, again.stderr
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_a_submitted_job(source: Path, tmp_path: Path) -> None:
    """As `make ray` and the README have it: log streamed, exit code the job's, outputs kept."""
    workspace = tmp_path / "workspace"
    head = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cluster.head",
            "--workspace",
            str(workspace),
            "--dashboard-port",
            "8299",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert head.stdout is not None
        assert "Ray is ready" in head.stdout.readline()
        assert (ROOT / ".ray" / "token").stat().st_mode & 0o777 == 0o600
        settings = subprocess.run(
            ["bash", "-c", ". .ray/env && env -0"], cwd=ROOT, capture_output=True, check=True
        ).stdout.decode()
        environment = dict(line.split("=", 1) for line in settings.split("\0") if line)

        def submit(*arguments: object) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [
                    "ray",
                    "job",
                    "submit",
                    "--working-dir",
                    ".",
                    "--",
                    "python",
                    "-m",
                    *map(str, arguments),
                ],
                cwd=ROOT,
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                timeout=400,
            )

        done = submit("pipeline.run", "--year", 2012, "--data", source)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "epoch 15/15 done" in done.stdout
        assert (workspace / "report" / "index.html").is_file()
        failed = submit("pipeline.run", "--year", 2012, "--data", "/nowhere")
        assert failed.returncode != 0
        assert "/nowhere does not exist" in failed.stdout
        unauthorised = {**os.environ, **environment, "RAY_AUTH_TOKEN_PATH": "/dev/null"}
        stranger = subprocess.run(
            ["ray", "job", "list"], cwd=ROOT, env=unauthorised, capture_output=True
        )
        assert stranger.returncode != 0
    finally:
        head.terminate()
        head.wait(90)
