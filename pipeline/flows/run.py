"""The main job: from a source of images to a measured error in the timeline, stage by stage.

Each stage leaves a finished thing in the workspace under a name made from what defines it. So asking
again finds it, and an interrupted command goes on where it was.
"""

import contextlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.engine import launchers
from pipeline.engine.data import check, find, made
from pipeline.engine.executor import Laboratory, Recorded
from pipeline.engine.plan import Planner
from pipeline.engine.progress import Progress
from pipeline.engine.runs import Fusion, Run, Setting, run_of
from pipeline.engine.workspace import Workspace
from pipeline.flows.report import read_ledger
from pipeline.papers import PAPERS
from pipeline.papers.record import published_results
from pipeline.run import Options
from pipeline.tracking.store import Tracker
from stages.dataset import read_info
from stages.errors import PipelineError
from stages.ledger.entries import Ledger
from stages.measurement import Evaluation
from stages.paper import Paper
from stages.report.write import collate

# A network has clearly learned where even the upper end of its error's interval is below this share of the
# error of guessing.
LEARNED = 0.9


def reproduce(papers: Sequence[Paper], options: Options) -> None:
    """Do for some papers what a command line of `pipeline.run` asks for.

    Raises:
        PipelineError: see the stages; of several papers, after all were tried.
    """
    workspace = Workspace.open(options.workspace)
    with Progress() as progress, contextlib.ExitStack() as stack:
        check(options.data)
        tracker = None if options.plan else open_tracker(workspace, options.tracking_uri)
        redo = options.force == "shard" and not options.plan
        found = find(options.data, workspace, progress, redo=redo)
        planner = Planner(options, found.counts, found.classes, found.bytes)
        profile = options.profile
        if options.seconds is not None:
            profile = planner.fitting(papers, options.seconds, progress)
        steps = planner.say(papers, profile, progress)
        if tracker is None:
            return
        dataset = made(found, workspace, progress)
        _check_room(planner.checkpoint_bytes(steps), workspace)
        inline = options.launcher == "inline"
        launcher = launchers.inline() if inline else launchers.on_ray(options.workers)
        laboratory = Laboratory(
            workspace,
            tracker,
            progress,
            launchers.Lazy(launcher, stack),
            options.execution,
            None if options.force == "shard" else options.force,
        )
        info = read_info(dataset)
        runs = [
            run_of(
                Setting(paper, profile, dataset, info, options.seed),
                *paper.recipe(profile, options.recipe),
            )
            for paper in papers
        ]
        wrong = {}
        if len(runs) > 1 and profile == "toy" and options.workers is None and not options.force:
            wrong = _side_by_side(runs, laboratory)
        results: list[tuple[Run | Fusion, Evaluation]] = []
        failed = []
        for run in runs:
            told = [wrong[one.name] for one in run.members if one.name in wrong]
            try:
                if not told:
                    results += [(run, evaluation) for evaluation in laboratory.run(run)]
            except PipelineError as error:
                if len(runs) == 1:
                    raise
                told = [str(error)]
            if told:
                failed.append(run.setting.paper.name)
                progress.line("error", f"{failed[-1]}: {told[0]}")
        draw(workspace, tracker, progress)
        for run, evaluation in results:
            progress.line("result", sentence(run, evaluation))
        _say_where(workspace, tracker, runs[-1].setting.experiment, progress)
    if failed:
        raise PipelineError(
            f"{len(failed)} of {len(runs)} papers did not end: {', '.join(failed)}",
            "the lines above say why; the same command goes on with them and skips the others",
        )


def _side_by_side(runs: Sequence[Run | Fusion], laboratory: Laboratory) -> dict[str, str]:
    """Do the trainings of several papers as a sweep, which keeps every core busy and its processes.

    Returns:
        What went wrong, by the training's name.
    """
    wanted: dict[str, tuple[Run, Sequence[str]]] = {}
    for run in runs:
        for one in run.members:
            if one.parent is None:
                wanted[one.name] = one, run.protocols
            else:  # it follows by itself
                wanted.setdefault(one.parent.name, (one.parent, ()))
    return laboratory.sweep(*zip(*wanted.values(), strict=True))


def open_tracker(workspace: Workspace, uri: str | None) -> Tracker:
    """The tracking store that the user named, or else the workspace's own."""
    with workspace.lock("tracking", wait=True):  # two first commands must not both make the tables
        return Tracker(uri) if uri else Tracker(workspace.tracking_uri, workspace.artifacts)


def draw(workspace: Workspace, tracker: Tracker, progress: Progress) -> Ledger:
    """Make timeline, ledger and report anew from the tracking store; returns the ledger."""
    measurements = tracker.measurements()
    ledger = read_ledger(tracker, measurements)
    with workspace.lock("report", wait=True):
        collate(measurements, published_results(), workspace.report, ledger, PAPERS)
    progress.line(
        "collate",
        f"timeline, ledger and report from {len(measurements)} measurements in {workspace.report}",
    )
    return ledger


def _check_room(needed: int, workspace: Workspace) -> None:
    free = shutil.disk_usage(workspace.root).free
    if free < needed + (100 << 20):
        raise PipelineError(
            f"the run needs {needed / 2**30:.1f} GiB for checkpoints and the workspace's disk "
            f"has {free / 2**30:.1f} GiB",
            "free some room, or point --workspace at a larger disk",
        )


def sentence(run: Recorded, evaluation: Evaluation) -> str:
    """A result in one line."""
    setting = run.setting
    classes = len(setting.info.classes)
    errors = [
        f"top-{k} error {found.value:.1f} % [{found.low:.1f}, {found.high:.1f}] "
        f"(chance {100 * max(0, 1 - k / classes):.1f} %)"
        for k, found in (
            (1, evaluation.figures["error_top1"]),
            (5, evaluation.figures["error_top5"]),
        )
    ]
    learned = evaluation.figures["error_top1"].high < LEARNED * 100 * (1 - 1 / classes)
    return (
        f"{setting.paper.name} {run.recipe_name}, profile {setting.profile}, {setting.info.name}, "
        f"{evaluation.protocol}, n={evaluation.n:,}: {'; '.join(errors)}: "
        f"{'learned' if learned else 'NOT clearly better than guessing'}"
    )


def _say_where(workspace: Workspace, tracker: Tracker, experiment: str, progress: Progress) -> None:
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
