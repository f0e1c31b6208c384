"""What a command prints and draws at its end: the ledger, the timeline, the report, and where they are."""

import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.engine.progress import Progress
from pipeline.engine.runs import AnyRun
from pipeline.engine.workspace import Workspace
from pipeline.papers import CLAIMS, PAPERS
from pipeline.papers.record import published_results
from pipeline.tracking.store import Tracker
from stages.claim import Claim
from stages.errors import PipelineError
from stages.ledger.entries import Ledger, make_ledger
from stages.measurement import Evaluation, Measurement
from stages.metrics import METRICS
from stages.paper import Paper
from stages.report.write import write_report

# A network has clearly learned if even the upper end of its error's interval is below this share of the error
# of guessing.
LEARNED = 0.9


def read_ledger(
    tracker: Tracker,
    measurements: Iterable[Measurement],
    claims: Iterable[Claim] = CLAIMS,
    papers: Sequence[Paper] = PAPERS,
) -> Ledger:
    """The ledger of the claims, from a store's measurements and the predictions kept with them."""

    @cache
    def predictions(measurement: Measurement) -> pa.Table | None:
        try:
            return pq.read_table(tracker.predictions(measurement))
        except PipelineError:  # a server whose artifacts cannot be fetched from here
            return None

    return make_ledger(claims, papers, measurements, predictions, tracker.searches())


def draw(workspace: Workspace, tracker: Tracker, progress: Progress) -> Ledger:
    """Redraw timeline, ledger and report from the tracking store; returns the ledger."""
    measurements = tracker.measurements()
    ledger = read_ledger(tracker, measurements)
    with workspace.lock("report", wait=True):
        write_report(measurements, published_results(), workspace.report, ledger, PAPERS)
    progress.line(
        "collate",
        f"timeline, ledger and report from {len(measurements)} measurements in {workspace.report}",
    )
    return ledger


def sentence(run: AnyRun, evaluation: Evaluation) -> str:
    """A result in one line."""
    context, info = run.context, run.data.info
    classes = len(info.classes)
    figures, learned = [], ""
    for name, figure in evaluation.figures.items():
        if name not in METRICS:
            continue
        metric = METRICS[name]
        words = (
            f"{metric.words} {figure.value:.1f} {metric.unit} [{figure.low:.1f}, {figure.high:.1f}]"
        )
        chance = metric.chance(classes)
        if chance is not None:
            words += f" (chance {chance:.1f} {metric.unit})"
            if not learned:  # the first error decides
                better = figure.high < LEARNED * chance
                learned = ": learned" if better else ": NOT clearly better than guessing"
        figures.append(words)
    return (
        f"{context.paper.name} {run.recipe_name}, profile {context.profile}, {info.name}, "
        f"{evaluation.protocol}, n={evaluation.n:,}: {'; '.join(figures)}{learned}"
    )


def print_where(
    workspace: Workspace, tracker: Tracker, experiment: str, progress: Progress
) -> None:
    """Print where the results are and how to open them."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    for what, path in (("report", "index.html"), ("timeline", "timeline.png")):
        file = workspace.report / path
        progress.line(what, f"{file}\n{'':9} open it: {python} -m webbrowser {file.as_uri()}")
    where = tracker.experiment_url(experiment)
    if tracker.uri == workspace.tracking_uri:
        where += f"\n{'':9} serve it: {python} -m pipeline.dashboard --workspace {workspace.root}"
    progress.line("dashboard", where)
