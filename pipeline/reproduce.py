"""The main job: from a source of images to a measured error in the timeline, stage by stage.

Each stage leaves a finished thing in the workspace under a name made from what defines it. So asking
again finds it, and an interrupted command goes on where it was.
"""

import contextlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import launchers
from pipeline.launchers import Launcher
from pipeline.paper import Paper, Profile
from pipeline.papers.record import published_results
from pipeline.progress import Progress, duration
from pipeline.run import Options
from pipeline.shard import summary
from pipeline.tracking import EXPERIMENTS, Tracker, code_version
from pipeline.watch import Watch
from pipeline.workspace import Workspace
from stages import embedded
from stages.collate import collate
from stages.dataset import DatasetInfo, is_dataset, read_info
from stages.errors import PipelineError
from stages.estimate import probe
from stages.evaluate import Evaluation, default_device, read_evaluation, score
from stages.files import write_atomically
from stages.journal import Follower
from stages.loader import steps_per_epoch
from stages.recipe import Recipe, digest
from stages.shard import SHARD_BYTES, shard
from stages.sources import Source, check_source, open_source
from stages.train import TrainJob, read_result
from stages.workers import processes

EMBEDDED = f"embedded-{len(embedded.CLASSES)}"

# Seconds that starting Ray and its workers, testing and recording take on two cores (docs/results).
FIXED_SECONDS = {"ray": 60.0, "inline": 15.0}


@dataclass(frozen=True)
class Run:
    """One training: a recipe on a data set with a seed, and where it lives."""

    paper: Paper
    profile: Profile
    recipe: Recipe
    dataset: Path
    info: DatasetInfo
    seed: int

    @property
    def name(self) -> str:
        """Readable, and unique to what defines the run."""
        identity = digest([self.recipe.id, self.info.digest, self.seed])
        data = re.sub(r"[^A-Za-z0-9._-]+", "-", self.info.name)
        return f"{self.paper.name}-{self.profile}-{data}-seed{self.seed}-{identity}"

    @property
    def experiment(self) -> str:
        """Its experiment in the tracking store."""
        return f"{EXPERIMENTS}{self.paper.year}"

    @property
    def tags(self) -> dict[str, str]:
        """What a figure of this run must not travel without."""
        return {
            "paper": self.paper.name,
            "year": str(self.paper.year),
            "model": self.recipe.model,
            "profile": self.profile,
            "recipe": self.recipe.id,
            "dataset": self.info.name,
            "dataset_digest": self.info.digest,
            "seed": str(self.seed),
            "code": code_version(),
            "deviations": "\n".join(f"{item.what}: {item.why}" for item in self.recipe.deviations),
        }


@dataclass(frozen=True)
class Found:
    """The images that a command is about, before or after they were sharded.

    Attributes:
        dataset: where the data set is, or will be.
        source: what to make it from; None where it is finished.
        name: of the data set.
        counts: images in each split.
        classes: how many.
        bytes: that the shards will take; 0 where they are there.
    """

    dataset: Path
    source: Source | None
    name: str
    counts: dict[str, int]
    classes: int
    bytes: int


def reproduce(paper: Paper, options: Options) -> None:
    """Do for one paper what a command line of `pipeline.run` asks for.

    Raises:
        PipelineError: see the stages.
    """
    workspace = Workspace.open(options.workspace)
    with Progress() as progress:
        progress.line("plan", f"{paper.year} {paper.system}: {paper.title}")
        if options.data is not None:
            check_source(options.data)  # before anything is begun
        tracker = None if options.plan else open_tracker(workspace, options.tracking_uri)
        found = _find(options, workspace, progress)
        _, recipe = paper.recipe(options.profile)
        assert isinstance(recipe, Recipe)
        needed = _say_plan(recipe, found, options, progress)
        if tracker is None:
            return
        dataset = _shard(found, workspace, progress)
        run = Run(paper, options.profile, recipe, dataset, read_info(dataset), options.seed)
        with workspace.lock(run.name):
            evaluations = _train_and_evaluate(run, options, workspace, tracker, needed, progress)
        draw(workspace, tracker, progress)
        for evaluation in evaluations:
            progress.line("result", _sentence(run, evaluation))
        _say_where(workspace, tracker, run.experiment, progress)


def open_tracker(workspace: Workspace, uri: str | None) -> Tracker:
    """The tracking store that the user named, or else the workspace's own."""
    with workspace.lock("tracking", wait=True):  # two first commands must not both make the tables
        return Tracker(uri) if uri else Tracker(workspace.tracking_uri, workspace.artifacts)


def draw(workspace: Workspace, tracker: Tracker, progress: Progress) -> None:
    """Make timeline and report anew from the tracking store."""
    measurements = tracker.measurements()
    with workspace.lock("report", wait=True):
        collate(measurements, published_results(), workspace.report)
    progress.line(
        "collate",
        f"timeline and report from {len(measurements)} measurements in {workspace.report}",
    )


def _embedded(workspace: Workspace, progress: Progress) -> str:
    source = workspace.sources / EMBEDDED
    with workspace.lock(EMBEDDED):
        if not source.is_dir():
            progress.line("shard", f"painting the embedded images into {source}")
            embedded.generate(source)
    return str(source)


def _find(options: Options, workspace: Workspace, progress: Progress) -> Found:
    where = options.data or _embedded(workspace, progress)
    dataset = Path(where).absolute() if is_dataset(Path(where)) else workspace.dataset(where)
    if options.force == "shard" and not options.plan and options.data != str(dataset):
        shutil.rmtree(dataset, ignore_errors=True)
    if is_dataset(dataset):
        progress.line("shard", f"finished before, skipped: {dataset}")
        info = read_info(dataset)
        return Found(dataset, None, info.name, info.counts, len(info.classes), 0)
    source = open_source(where)
    counts = {
        split: sum(image.split == split for image in source.images) for split in ("train", "val")
    }
    size = sum(image.size for image in source.images)
    return Found(dataset, source, source.name, counts, len(source.classes), size)


def _shard(found: Found, workspace: Workspace, progress: Progress) -> Path:
    if found.source is None:
        return found.dataset
    with workspace.lock(found.dataset.name):
        progress.line("shard", f"{found.name} -> {found.dataset}")
        # No more processes than shards: a small set is done before they have started.
        run = processes(max(1, min(found.bytes // SHARD_BYTES, os.cpu_count() or 1)))
        info = shard(found.source, found.dataset, run=run, progress=progress.count)
        for line in summary(info):
            progress.line("shard", line)
    return found.dataset


def _say_plan(recipe: Recipe, found: Found, options: Options, progress: Progress) -> int:
    """Say what will be done; returns the bytes that training needs on the disk."""
    counts = found.counts
    steps = recipe.epochs * steps_per_epoch(counts["train"], recipe.batch_size, recipe.drop_last)
    measured = probe(recipe, found.classes, default_device())
    # Weights and velocity in float32, for two checkpoints, one being written, and the final weights.
    checkpoints = measured.parameters * 4 * (3 * 2 + 1)
    training = steps * measured.seconds_per_step
    total = training + FIXED_SECONDS[options.launcher]
    progress.line(
        "plan",
        f"train {recipe.model} ({measured.parameters:,} parameters, profile {options.profile}) on "
        f"{found.name} ({counts['train']:,} images, {found.classes} classes): "
        f"{recipe.epochs} epochs, {steps:,} steps of {recipe.batch_size}; "
        f"then test with {' and '.join(recipe.protocols)} on {counts['val']:,} images",
    )
    progress.line(
        "plan",
        f"about {duration(total)}: {duration(training)} of training at "
        f"{1000 * measured.seconds_per_step:.0f} ms a step (measured now on this machine's "
        f"{measured.device}, one worker, loading left out), the rest to start, test and record",
    )
    progress.line(
        "plan",
        f"disk: {found.bytes / 2**30:.1f} GiB of shards to write, "
        f"up to {checkpoints / 2**30:.1f} GiB of checkpoints",
    )
    return checkpoints


def _check_room(needed: int, workspace: Workspace) -> None:
    free = shutil.disk_usage(workspace.root).free
    if free < needed + (100 << 20):
        raise PipelineError(
            f"the run needs {needed / 2**30:.1f} GiB for checkpoints and the workspace's disk "
            f"has {free / 2**30:.1f} GiB",
            "free some room, or point --workspace at a larger disk",
        )


def _train_and_evaluate(
    run: Run,
    options: Options,
    workspace: Workspace,
    tracker: Tracker,
    needed: int,
    progress: Progress,
) -> list[Evaluation]:
    folder = workspace.run(run.name)
    results = folder / "evaluations"
    if options.force in ("train", "evaluate"):
        tracker.forget(run.name, evaluations_only=options.force == "evaluate")
        shutil.rmtree(folder if options.force == "train" else results, ignore_errors=True)
    tags = {**run.tags, "born": _born(folder)}
    described = {"recipe": run.recipe.resolved(), **tags}
    write_atomically(folder / "run.json", json.dumps(described, indent=1) + "\n")

    job = TrainJob(run.recipe, run.dataset, folder, run.seed)
    command = tracker.command(
        run.experiment,
        f"{run.paper.year} {run.profile} {run.info.name}",
        digest([run.paper.name, run.profile, run.info.digest]),
        {"paper": run.paper.name, "year": str(run.paper.year), "profile": run.profile},
    )
    training = tracker.training(command, run.name, run.recipe.resolved(), run.info, tags)
    finished = read_result(folder)
    missing = [name for name in run.recipe.protocols if read_evaluation(results, name) is None]
    with contextlib.ExitStack() as stack:
        if finished is None or missing:
            stack.enter_context(_recorded(tracker, [command, training]))
        launcher = _Lazy(options, stack)
        with Watch(
            Follower(job.journal),
            progress.record,
            tracker,
            training,
            lambda text: progress.line("track", text),
        ):
            if finished is None:
                _check_room(needed, workspace)
                result = launcher.get().train(job)
        if finished is None:
            progress.line(
                "train",
                f"{result.steps:,} steps in {duration(result.seconds)}, "
                f"{result.images_per_second:,.0f} images/s",
            )
        else:
            progress.line("train", f"finished before ({finished.steps:,} steps), skipped: {folder}")
        if missing:
            progress.line(
                "evaluate",
                f"{' and '.join(missing)} on {run.info.counts['val']:,} validation images",
            )
            parts = launcher.get().evaluate(run.recipe, run.dataset, job.weights, missing)
            for protocol in missing:
                score(parts[protocol], run.dataset, protocol, results)
        else:
            progress.line("evaluate", f"finished before, skipped: {results}")
    evaluations = [
        found for name in run.recipe.protocols if (found := read_evaluation(results, name))
    ]
    for evaluation in evaluations:
        tracker.evaluation(
            training, evaluation, len(run.info.classes), results / f"{evaluation.protocol}.parquet"
        )
    return evaluations


def _born(folder: Path) -> str:
    """When a run's folder was made: a folder made anew is another run to the tracking store."""
    path = folder / "run.json"
    if path.is_file():
        return str(json.loads(path.read_text())["born"])
    folder.mkdir(parents=True, exist_ok=True)
    return str(time.time_ns())


class _Lazy:
    """The launcher, started when it is first needed: a command that finds all finished starts no Ray."""

    def __init__(self, options: Options, stack: contextlib.ExitStack) -> None:
        self._options, self._stack = options, stack
        self._launcher: Launcher | None = None

    def get(self) -> Launcher:
        if self._launcher is None:
            inline = self._options.launcher == "inline"
            entered = launchers.inline() if inline else launchers.on_ray(self._options.workers)
            self._launcher = self._stack.enter_context(entered)
        return self._launcher


@contextlib.contextmanager
def _recorded(tracker: Tracker, runs: list[str]) -> Iterator[None]:
    """Mark the runs as under way, and then how they ended."""
    for run_id in runs:
        tracker.begin(run_id)
    try:
        yield
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        # The error under way says more than a store that is gone.
        with contextlib.suppress(PipelineError):
            for run_id in runs:
                tracker.end(run_id, status)
        raise
    for run_id in runs:
        tracker.end(run_id)


def _sentence(run: Run, evaluation: Evaluation) -> str:
    classes = len(run.info.classes)
    errors = [
        f"top-{k} error {found.value:.1f} % [{found.low:.1f}, {found.high:.1f}] "
        f"(chance {100 * max(0, 1 - k / classes):.1f} %)"
        for k, found in ((1, evaluation.error_top1), (5, evaluation.error_top5))
    ]
    return (
        f"{run.paper.name}, profile {run.profile}, {run.info.name}, {evaluation.protocol}, "
        f"n={evaluation.n:,}: {'; '.join(errors)}"
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
