"""The command line as a user meets it: the whole pipeline on real images, and what it says to bad input."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.dataset import is_dataset
from stages.sources import TRAIN_ARCHIVE
from tests.conftest import ROOT, command


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A year on a slice of real images with the inline launcher, where Ray cannot be imported."""
    workspace = tmp_path_factory.mktemp("workspace")
    program = (
        "import runpy, sys\n"
        "sys.modules['ray'] = None  # any import of it fails\n"
        "sys.argv = ['pipeline.run', *sys.argv[1:]]\n"
        "runpy.run_module('pipeline.run', run_name='__main__')\n"
    )
    arguments = ["--year", "2012", "--data", str(source), "--workspace", str(workspace)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--launcher", "inline", "--debug"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace, done


def test_it_says_what_it_does(run) -> None:
    _, done = run
    text = done.stdout
    assert "96 train + 42 val images of 6 classes" in text
    assert re.search(r"plan +about \d+ (s|min)", text)
    assert re.search(
        r"epoch \d+/\d+ done: top-1 error [\d.]+ %, top-5 error [\d.]+ % \(centre_crop, n=42\)",
        text,
    )
    assert re.search(
        r"ten_crop, n=42: top-1 error [\d.]+ % \[[\d.]+, [\d.]+\] \(chance 83.3 %\)", text
    )
    for what in ("index.html", "timeline.png", "pipeline.dashboard"):
        assert what in text
    assert "\x1b[" not in text, "no terminal codes into a pipe"


def test_what_it_leaves(run) -> None:
    workspace, _ = run
    (dataset,) = (workspace / "datasets").iterdir()
    assert is_dataset(dataset)
    (folder,) = (workspace / "runs").iterdir()
    assert folder.name.startswith("alexnet-toy-slice-6-seed0-")
    left = {path.name for path in folder.iterdir()}
    assert left == {
        "run.json",
        "journal.jsonl",
        "result.json",
        "weights.safetensors",
        "evaluations",
    }
    rows = list(csv.DictReader((workspace / "report" / "timeline.csv").open()))
    reproduced = [row for row in rows if row["kind"] == "reproduced"]
    assert {(row["protocol"], row["metric"]) for row in reproduced} == {
        (protocol, metric)
        for protocol in ("ten_crop", "centre_crop")
        for metric in ("error_top1", "error_top5")
    }
    assert {row["scope"] for row in reproduced} == {"small-scale"}
    assert {row["n"] for row in reproduced} == {"42"}
    assert (workspace / "report" / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_again_it_finds_everything_finished(run, source: Path) -> None:
    workspace, _ = run
    again = command(
        "pipeline.run",
        "--year",
        2012,
        "--data",
        source,
        "--workspace",
        workspace,
        "--launcher",
        "ray",
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished before") == 3
    assert "epoch 1/" not in again.stdout
    rows = list(csv.DictReader((workspace / "report" / "timeline.csv").open()))
    assert sum(row["kind"] == "reproduced" for row in rows) == 4


def test_images_named_by_their_role_are_the_same_run(run, source: Path) -> None:
    again = command(
        *("pipeline.run", "--year", 2012, "--data", f"imagenet={source}"),
        *("--workspace", run[0], "--launcher", "inline"),
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished before") == 3


def test_force_redoes_one_stage(run, source: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "copy"
    shutil.copytree(run[0], workspace)
    forced = command(
        "pipeline.run", "--year", 2012, "--data", source, "--workspace", workspace, "--launcher", "inline",
        "--force", "evaluate",
    )  # fmt: skip
    assert forced.returncode == 0, forced.stderr
    assert forced.stdout.count("finished before") == 2
    assert "ten_crop and centre_crop on 42 validation images" in forced.stdout
    rows = list(csv.DictReader((workspace / "report" / "timeline.csv").open()))
    assert sum(row["kind"] == "reproduced" for row in rows) == 4


def test_several_papers_are_trained_side_by_side(source: Path, tmp_path: Path) -> None:
    """GoogLeNet beside VGG's net A; D starts from A's weights and follows."""
    year = ["--year", 2014, "--data", source, "--workspace", tmp_path, "--launcher", "inline"]
    done = command("pipeline.run", *year)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 trials to run, 0 finished before and reused" in done.stdout
    assert len(list((tmp_path / "runs").glob("*/weights.safetensors"))) == 3
    rows = list(csv.DictReader((tmp_path / "report" / "timeline.csv").open()))
    reproduced = [row for row in rows if row["kind"] == "reproduced"]
    assert {row["paper"] for row in reproduced} == {"googlenet", "vgg"}
    again = command("pipeline.run", *year)
    assert "0 trials to run, 2 finished before and reused" in again.stdout
    assert "epoch 1/" not in again.stdout


def test_the_timeline_comes_from_the_store_alone(run, tmp_path: Path) -> None:
    workspace, _ = run
    before = (workspace / "report" / "timeline.csv").read_bytes()
    for name in ("mlflow.db", "mlartifacts"):
        shutil.copytree(
            workspace / name, tmp_path / name
        ) if name == "mlartifacts" else shutil.copy(workspace / name, tmp_path / name)
    done = command("pipeline.timeline", "--workspace", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "timeline.csv").read_bytes() == before
    for name in ("index.html", "timeline.svg", "timeline.png"):
        assert (tmp_path / "report" / name).stat().st_size > 5000


def test_a_finished_data_set_is_taken_as_it_is(run, tmp_path: Path) -> None:
    (dataset,) = (run[0] / "datasets").iterdir()
    done = command(
        "pipeline.run", "--year", 2012, "--data", dataset, "--workspace", tmp_path, "--plan"
    )
    assert done.returncode == 0, done.stderr
    assert "finished before, skipped" in done.stdout
    assert not (tmp_path / "datasets").exists()


@pytest.mark.parametrize(
    "module", ["pipeline.run", "pipeline.timeline", "pipeline.dashboard", "cluster.head"]
)
def test_help_is_light(module: str) -> None:
    program = (
        "import runpy, sys, contextlib, io\n"
        f"sys.argv = ['{module}', '--help']\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as text:\n"
        f"    runpy.run_module('{module}', run_name='__main__')\n"
        "assert 'workspace' in text.getvalue()\n"
        "heavy = [m for m in ('torch', 'ray', 'mlflow') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def _truncated(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    data = (folder / TRAIN_ARCHIVE).read_bytes()
    (folder / TRAIN_ARCHIVE).write_bytes(data[: len(data) // 2])
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--year", 2031], "the year 2031 has no winner"),
        (["--year", 2011], r"2011 \(Fisher vectors\) is planned"),
        (["--paper", "alexnett"], "did you mean alexnet"),
        ([], "for example --year 2012"),
        (["--yaer", 2012], "(?s)[Pp]erhaps.*--year"),
        (["--year", 2012, "--profile", "tiny"], "toy"),
        (["--year", 2012, "--data", "{tmp}/nowhere"], "does not exist"),
        (["--year", 2012, "--data", "{tmp}"], "contains no data set in a known layout"),
        (["--year", 2012, "--data", "{truncated}"], "truncated|damaged"),
        (["--year", 2012, "--launcher", "inline", "--workers", 2], "leave --workers out"),
        (["--year", 2012, "--workers", 0], "use 1 or more"),
        (["--year", 2012, "--seed", -1], "use 0 or more"),
        (["--year", 2013, "--paper", "alexnet"], "no paper 'alexnet' of 2013"),
        (["--year", 2012, "--tracking-uri", "http://127.0.0.1:1"], "start the MLflow server"),
        (["--year", 2012, "--workspace", "/proc/nothing"], "cannot be written"),
        (["--year", 2012, "--workspace", "s3://bucket/x"], "is a URL"),
    ],
)
def test_bad_input_is_one_message_with_its_remedy(
    arguments, message: str, source: Path, tmp_path: Path
) -> None:
    places = {"tmp": str(tmp_path / "empty"), "truncated": str(tmp_path / "truncated")}
    (tmp_path / "empty").mkdir()
    if "{truncated}" in arguments:
        _truncated(source, tmp_path / "truncated")
    filled = [str(a).format(**places) for a in arguments]
    if "--workspace" not in filled:
        filled += ["--workspace", str(tmp_path / "ws")]
    done = command("pipeline.run", *filled)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for kind in ("datasets", "runs"):
        left = list((tmp_path / "ws" / kind).iterdir()) if (tmp_path / "ws" / kind).exists() else []
        assert left == []


def test_debug_shows_the_trace(tmp_path: Path) -> None:
    done = command("pipeline.run", "--year", 2031, "--workspace", tmp_path, "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_run_that_another_process_holds_is_left_alone(run, source: Path) -> None:
    import fcntl

    workspace, _ = run
    (lock,) = (workspace / "locks").glob("alexnet-*")
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = command("pipeline.run", "--year", 2012, "--data", source, "--workspace", workspace)
    assert done.returncode == 2
    assert "is being worked on by process" in done.stderr


def test_ray_that_is_not_there(source: Path, tmp_path: Path) -> None:
    done = command(
        "pipeline.run",
        "--year",
        2012,
        "--data",
        source,
        "--workspace",
        tmp_path,
        RAY_ADDRESS="127.0.0.1:1",
    )
    assert done.returncode == 2, done.stderr
    assert "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1" in done.stderr
    assert "make ray" in done.stderr


def test_more_workers_than_the_machine_has(source: Path, tmp_path: Path) -> None:
    done = command(
        "pipeline.run", "--year", 2012, "--data", source, "--workspace", tmp_path, "--workers", 500
    )
    assert done.returncode == 2, done.stderr
    assert "500 workers with a CPU each do not fit: the cluster has room for" in done.stderr


def test_a_workspace_leaves_what_it_finds(source: Path, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    done = command(
        "pipeline.run", "--year", 2012, "--data", source, "--workspace", tmp_path, "--plan"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".gitignore").read_text() == "mine\n"
    assert not (tmp_path / "datasets").exists(), "a plan writes no shard"
    assert re.search(r"plan +disk: [\d.]+ [GM]iB of shards", done.stdout)


def test_a_timeline_of_nothing_is_refused(tmp_path: Path) -> None:
    done = command("pipeline.timeline", "--workspace", tmp_path)
    assert done.returncode == 2
    assert "has no runs yet" in done.stderr
