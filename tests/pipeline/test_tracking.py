"""Runs recorded in a real MLflow store, and what is read back from it."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from pipeline.engine.watch import Watch
from pipeline.papers.alexnet.recipes import TOY_RECIPE
from pipeline.tracking.store import Tracker
from stages.errors import PipelineError
from stages.journal import Journal
from stages.load.samples import Dataset
from stages.measurement import Evaluation, Interval
from stages.metrics import METRICS, Metric

TAGS = {
    "paper": "alexnet",
    "year": "2012",
    "model": "alexnet",
    "nets": "1",
    "profile": "toy",
    "recipe_name": "authors",
    "recipe": TOY_RECIPE.id,
    "dataset": "slice-6",
    "dataset_digest": "0123456789ab",
    "num_classes": "6",
    "seed": "0",
    "code": "abc",
    "deviations": "small: fast\nshort: fast",
}
RESULT = Evaluation(
    "ten_crop",
    42,
    {"error_top1": Interval(50.0, 35.5, 64.5), "error_top5": Interval(10.0, 3.0, 20.0)},
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def tracker(store: Path) -> Tracker:
    return Tracker(f"sqlite:///{store}/mlflow.db", store / "artifacts")


def begin(tracker: Tracker, dataset: Dataset, name: str) -> tuple[str, str]:
    command = tracker.command("ilsvrc/2012", "2012 toy", f"key of {name}", {"paper": "alexnet"})
    return command, tracker.training(command, name, TOY_RECIPE.resolved(), dataset.info, TAGS)


def client(store: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")


def test_runs_nest_and_carry_recipe_and_data(
    tracker: Tracker, store: Path, dataset: Dataset
) -> None:
    command, training = begin(tracker, dataset, "nest")
    run = client(store).get_run(training)
    assert run.data.tags["mlflow.parentRunId"] == command
    assert run.data.params["batch_size"] == str(TOY_RECIPE.batch_size)
    assert run.data.params["augmentation.crop"] == "64"
    assert run.data.params["optimiser.groups.0.factor"] == "2.0"
    assert run.data.params["optimiser.groups.1.weight_decay"] == "0.0005"
    assert run.inputs.dataset_inputs[0].dataset.digest == dataset.info.digest


def test_the_same_training_is_the_same_run(tracker: Tracker, dataset: Dataset) -> None:
    assert begin(tracker, dataset, "same") == begin(tracker, dataset, "same")


def test_a_measurement_comes_back_with_all_that_belongs_to_it(
    tracker: Tracker, dataset: Dataset, tmp_path: Path
) -> None:
    _, training = begin(tracker, dataset, "measured")
    answers = tmp_path / "ten_crop.parquet"
    answers.write_bytes(b"answers")
    for _ in range(2):  # asked twice, recorded once
        tracker.evaluation(training, RESULT, answers)
    found = [m for m in tracker.measurements() if m.run_name == "measured"]
    assert {(m.metric, m.value, m.ci_low, m.ci_high) for m in found} == {
        ("error_top1", 50.0, 35.5, 64.5),
        ("error_top5", 10.0, 3.0, 20.0),
    }
    for m in found:
        assert (m.protocol, m.profile, m.dataset, m.n, m.num_classes) == (
            "ten_crop",
            "toy",
            "slice-6",
            42,
            6,
        )
        assert (m.code_version, m.seed, m.year) == ("abc", 0, 2012)
        assert (m.recipe, m.model, m.nets) == ("authors", "alexnet", 1)
        assert m.deviations == ("small: fast", "short: fast")
        assert m.finished_at


def test_an_unknown_metric_leaves_the_store_readable(
    tracker: Tracker, store: Path, dataset: Dataset, tmp_path: Path
) -> None:
    """A later version's detections may be in the same store: they are skipped, and no report fails."""
    _, training = begin(tracker, dataset, "unknown")
    (tmp_path / "map.parquet").touch()
    result = Evaluation("map_voc07", 42, {"someone_s_map": Interval(58.5, 57.0, 60.0)})
    tracker.evaluation(training, result, tmp_path / "map.parquet")
    assert not [m for m in tracker.measurements() if m.run_name == "unknown"]
    (run,) = client(store).search_runs(
        [client(store).get_run(training).info.experiment_id], "tags.protocol = 'map_voc07'"
    )
    assert run.data.metrics["someone_s_map"] == 58.5


def test_a_known_metric_is_read_back(
    tracker: Tracker, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precision = Metric("map", "mAP", "mAP", "average precision", better="higher")
    monkeypatch.setitem(METRICS, "map", precision)
    _, training = begin(tracker, dataset, "known")
    (tmp_path / "map.parquet").touch()
    result = Evaluation("map_voc07", 42, {"map": Interval(58.5, 57.0, 60.0)})
    tracker.evaluation(training, result, tmp_path / "map.parquet")
    (measured,) = (m for m in tracker.measurements() if m.run_name == "known")
    assert (measured.metric, measured.value, measured.ci_high) == ("map", 58.5, 60.0)


def test_what_is_forced_is_set_aside(tracker: Tracker, dataset: Dataset, tmp_path: Path) -> None:
    _, first = begin(tracker, dataset, "forced")
    (tmp_path / "a").touch()
    tracker.evaluation(first, RESULT, tmp_path / "a")
    tracker.forget("forced", evaluations_only=True)
    assert not [m for m in tracker.measurements() if m.run_name == "forced"]
    assert begin(tracker, dataset, "forced")[1] == first
    tracker.forget("forced", evaluations_only=False)
    assert begin(tracker, dataset, "forced")[1] != first


def test_a_journal_reaches_the_store_once(
    tracker: Tracker, store: Path, dataset: Dataset, tmp_path: Path
) -> None:
    _, training = begin(tracker, dataset, "journal")
    journal = Journal(tmp_path / "j")
    shown = []

    def follow() -> Watch:
        return Watch(
            {training: tmp_path / "j"},
            lambda run, record: shown.append(record),
            tracker,
            pytest.fail,
        )

    with follow():
        for step in range(1, 2501):  # more than one request's worth
            journal.write("step", step, loss=1 / step, rate=0.01, images_per_second=5.0, epoch=0)
        journal.write("epoch", 2500, error_top1=40.0, error_top5=9.0, n=42, epoch=0)
    with follow():  # a second command sends all again, and the store keeps it once
        pass
    history = client(store).get_metric_history(training, "loss")
    assert [m.step for m in history] == list(range(1, 2501))
    assert history[99].value == pytest.approx(0.01)
    assert client(store).get_metric_history(training, "error_top5.centre_crop")[0].value == 9.0
    assert len(shown) == 2 * 2501


@pytest.mark.parametrize(
    "uri",
    ["http://127.0.0.1:1", "sqlite:////proc/nowhere/mlflow.db", "http://user:secret@127.0.0.1:1"],
)
def test_a_store_that_is_not_there(uri: str) -> None:
    with pytest.raises(PipelineError, match="cannot be reached") as raised:
        Tracker(uri)
    assert "secret" not in str(raised.value)


@pytest.mark.slow
def test_a_server_that_dies_stops_no_training_and_loses_no_point(
    dataset: Dataset, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def serve() -> subprocess.Popen:
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
        command += ["--artifacts-destination", str(tmp_path / "artifacts")]
        server = subprocess.Popen(
            command,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return server
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the MLflow server did not start")

    def end(server: subprocess.Popen) -> None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    server = serve()
    uri = f"http://127.0.0.1:{port}"
    tracker = Tracker(uri)
    _, training = begin(tracker, dataset, "outage")
    journal, warnings = Journal(tmp_path / "j"), []
    with Watch({training: tmp_path / "j"}, lambda run, record: None, tracker, warnings.append):
        journal.write("step", 1, loss=1.0)
        time.sleep(4.5)
        end(server)
        journal.write("step", 2, loss=0.5)
        deadline = time.monotonic() + 60
        while not warnings and time.monotonic() < deadline:
            time.sleep(0.2)
    assert any("the training continues" in text for text in warnings)
    server = serve()
    try:
        tracker = Tracker(uri)
        with Watch({training: tmp_path / "j"}, lambda run, record: None, tracker, pytest.fail):
            pass
        history = mlflow.MlflowClient(uri).get_metric_history(training, "loss")
        assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5)]
    finally:
        end(server)


def test_the_recipe_id_names_what_changes_the_numbers() -> None:
    assert replace(TOY_RECIPE, deviations=()).id == TOY_RECIPE.id
    assert replace(TOY_RECIPE, batch_size=33).id != TOY_RECIPE.id
    assert replace(TOY_RECIPE, knobs={**TOY_RECIPE.knobs, "dropout": 0.4}).id != TOY_RECIPE.id
