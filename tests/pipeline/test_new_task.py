"""A task that exists in these tests alone goes from its recipe to the report and the ledger.

`tests/pipeline/box_regression.py` holds all of it. In the product it would take one ``case`` of
`stages.tasks.task_of`, another of `correct_items` for a metric that is counted item by item, and one row for
each metric in `stages.metrics.METRICS`, which stand in for themselves here.
"""

import csv
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pipeline.engine.command_line import Where
from pipeline.engine.plan import Planner, wanted_of
from pipeline.engine.runs import Run, RunContext
from pipeline.engine.workbench import Workbench
from pipeline.flows.evaluate import evaluate_own
from pipeline.flows.report import read_ledger, sentence
from pipeline.papers.record import published_results
from stages import embedded, tasks
from stages.errors import PipelineError
from stages.execution import Execution
from stages.ledger.arms import recipe_of
from stages.ledger.entries import make_ledger
from stages.measurement import Measurement
from stages.metrics import METRICS
from stages.recipe import Pretrained, Recipe
from stages.report.write import Report, write_report
from stages.tasks.task import Task
from tests.pipeline.box_regression import (
    CLAIM,
    CLAIM_FOUND,
    FOUND,
    OVERLAP,
    PAPER,
    BoxRegression,
    BoxTask,
    found_items,
)

SEEDS = 3


@pytest.fixture(scope="module")
def the_one_case() -> Iterator[None]:
    """What a new task adds to the product."""
    known, known_items = tasks.task_of, tasks.correct_items

    def task_of(origin: Recipe | Pretrained) -> Task:
        match origin:
            case BoxRegression():
                return BoxTask()
        return known(origin)

    def correct_items(
        origin: Recipe, metric: str, predictions: Sequence[pa.Table]
    ) -> NDArray[np.bool_]:
        match origin:
            case BoxRegression():
                return found_items(predictions[0])
        return known_items(origin, metric, predictions)

    with pytest.MonkeyPatch.context() as patch:
        for module in list(sys.modules.values()):
            if getattr(module, "task_of", None) is known:
                patch.setattr(module, "task_of", task_of)
            if getattr(module, "correct_items", None) is known_items:
                patch.setattr(module, "correct_items", correct_items)
        for metric in (OVERLAP, FOUND):
            patch.setitem(METRICS, metric.name, metric)
        yield


@pytest.fixture(scope="module")
def bench(the_one_case: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A workspace in which both arms of the claim were trained and tested."""
    source = tmp_path_factory.mktemp("source") / "embedded-24"
    embedded.generate(source, train_per_class=16, val_per_class=7)
    workspace = tmp_path_factory.mktemp("workspace")
    where = Where(workspace=workspace, data=(str(source),), launcher="inline")
    with Workbench(where) as bench:
        data = bench.prepared(PAPER.roles)
        runs = [
            Run(
                RunContext(PAPER, "toy", data, seed),
                arm.name,
                recipe_of(CLAIM, arm, [PAPER], "toy"),
            )
            for seed in range(SEEDS)
            for arm in CLAIM.arms("toy")
        ]
        assert bench.executor.sweep(runs, [run.protocols for run in runs]) == {}
        yield bench


@pytest.fixture(scope="module")
def measurements(bench: Workbench) -> list[Measurement]:
    return bench.tracker.measurements()


@pytest.fixture(scope="module")
def report(
    bench: Workbench, measurements: list[Measurement], tmp_path_factory: pytest.TempPathFactory
) -> Report:
    ledger = make_ledger([CLAIM], [PAPER], measurements)
    out = tmp_path_factory.mktemp("report")
    return write_report(measurements, published_results(), out, ledger, [PAPER])


def test_its_figures_come_back_from_the_store(measurements: list[Measurement]) -> None:
    assert {(m.metric, m.protocol, m.n) for m in measurements} == {
        ("mean_iou", "whole_image", 168),
        ("objects_found", "whole_image", 168),
    }
    assert len(measurements) == 2 * 2 * SEEDS
    for m in measurements:
        if m.metric == OVERLAP.name:
            assert 0 < m.ci_low < m.value < m.ci_high < 100


def test_every_item_has_its_prediction(bench: Workbench, measurements: list[Measurement]) -> None:
    folder = bench.workspace.run(measurements[0].run_name)
    table = pq.read_table(folder.predictions("whole_image"))
    assert table.column_names == ["key", "index", "box", "overlap"]
    assert len(set(table["key"].to_pylist())) == 168


def test_a_higher_figure_confirms_its_claim(measurements: list[Measurement]) -> None:
    (entry,) = make_ledger([CLAIM], [PAPER], measurements).entries
    assert entry.verdict == "confirmed"
    assert entry.effect is not None
    assert entry.effect.value > 0
    assert entry.effect.pairs == SEEDS
    assert entry.images is None  # an overlap is neither right nor wrong


def test_its_items_are_compared_one_by_one(
    bench: Workbench, measurements: list[Measurement]
) -> None:
    ledger = read_ledger(bench.tracker, measurements, [CLAIM_FOUND], [PAPER])
    (entry,) = ledger.entries
    assert entry.effect is not None
    assert entry.images is not None
    assert entry.images.low < entry.effect.value < entry.images.high
    assert (entry.images.images, len(entry.images.mcnemar)) == (168, SEEDS)


def test_a_file_of_its_weights_is_tested(
    bench: Workbench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = Run(RunContext(PAPER, "toy", bench.prepared(PAPER.roles), 0), *PAPER.recipe("toy"))
    where = Where(workspace=tmp_path, data=(str(run.data.folder),), launcher="inline")
    weights = bench.workspace.run(run.name).weights
    evaluate_own(where, PAPER, None, weights, profile="toy", protocols=("whole_image",))
    assert "mean overlap" in capsys.readouterr().out
    with pytest.raises(PipelineError, match="no scales to choose"):
        evaluate_own(
            where, PAPER, None, weights, profile="toy", protocols=("whole_image",), scales=(32,)
        )


def test_it_stands_in_the_report_and_the_tables(report: Report) -> None:
    text = " ".join(" ".join(ET.fromstring(report.html.read_text()).itertext()).split())
    assert "overlap in percent, measured for" in text
    assert "58.5" in text  # what its paper published
    assert CLAIM.statement in text
    with report.csv.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["kind"] == "reproduced"]
    # The arm with one epoch only tests the claim and is no reproduction of the paper's.
    assert {row["metric"] for row in rows} == {"mean_iou", "objects_found"}
    assert len(rows) == 2 * SEEDS
    with report.ledger_csv.open(newline="") as lines:
        (claim,) = csv.DictReader(lines)
    assert (claim["verdict"], claim["metric"], claim["published"]) == (
        "confirmed",
        "mean_iou",
        "8.0",
    )
    assert "points of overlap gained" in (report.html.parent / "forest-boxes.svg").read_text()


def test_asking_again_finds_it(bench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(RunContext(PAPER, "toy", bench.prepared(PAPER.roles), 0), *PAPER.recipe("toy"))
    (evaluation,) = bench.executor.run(run)
    said = capsys.readouterr().out
    assert said.count("finished before") == 2
    assert "mean overlap" in sentence(run, evaluation)


def test_a_plan_counts_it(bench: Workbench, the_one_case: None) -> None:
    where = Where(launcher="inline")
    planner = Planner(where, Execution(), bench.located)
    (step,) = planner.print_plan_of_papers(wanted_of([PAPER], "toy", None), bench.progress)
    assert step.cost.steps == 12 * (384 // 16)
