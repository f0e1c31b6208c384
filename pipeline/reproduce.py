"""The main job: from a source of images to a measured error in the timeline, stage by stage.

Each stage leaves a finished thing in the workspace under a name made from what defines it. So asking
again finds it, and an interrupted command goes on where it was.
"""

import contextlib
import json
import os
import shutil
import sys
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
from pipeline.tracking import Tracker, code_version
from pipeline.watch import Watch
from pipeline.workspace import Workspace
from stages import embedded
from stages.collate import collate
from stages.dataset import DatasetInfo, is_dataset, read_info
from stages.errors import PipelineError
from stages.estimate import Probe, probe
from stages.evaluate import Evaluation, default_device, read_evaluation, score
from stages.files import write_atomically
from stages.journal import Follower
from stages.loader import steps_per_epoch
from stages.recipe import Recipe, digest
from stages.shard import SHARD_BYTES, shard
from stages.sources import check_source, open_source
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
        return f"{self.paper.name}-{self.profile}-{self.info.name}-seed{self.seed}-{identity}"

    @property
    def experiment(self) -> str:
        """Its experiment in the tracking store."""
        return f"ilsvrc/{self.paper.year}"

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
        dataset = _shard(options, workspace, progress)
        recipe = paper.recipes[options.profile]
        run = Run(paper, options.profile, recipe, dataset, read_info(dataset), options.seed)
        _say_plan(run, options, progress)
        if tracker is None:
            return
        with workspace.lock(run.name):
            evaluations = _train_and_evaluate(run, options, workspace, tracker, progress)
        draw(workspace, tracker, progress)
        for evaluation in evaluations:
            progress.line("result", _sentence(run, evaluation))
        _say_where(workspace, tracker, run.experiment, progress)


def open_tracker(workspace: Workspace, uri: str | None) -> Tracker:
    """The tracking store that the user named, or else the workspace's own."""
    return Tracker(uri) if uri else Tracker(workspace.tracking_uri, workspace.artifacts)


def draw(workspace: Workspace, tracker: Tracker, progress: Progress) -> None:
    """Make timeline and report anew from the tracking store."""
    measurements = tracker.measurements()
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


def _shard(options: Options, workspace: Workspace, progress: Progress) -> Path:
    source = options.data or _embedded(workspace, progress)
    if is_dataset(Path(source)):
        progress.line("shard", f"{source} is a finished data set: used as it is")
        return Path(source).absolute()
    dataset = workspace.dataset(source)
    with workspace.lock(dataset.name):
        if options.force == "shard":
            shutil.rmtree(dataset, ignore_errors=True)
        if is_dataset(dataset):
            progress.line("shard", f"finished before, skipped: {dataset}")
            return dataset
        progress.line("shard", f"{source} -> {dataset}")
        found = open_source(source)
        # No more processes than shards: a small set is done before they have started.
        shards = sum(image.size for image in found.images) // SHARD_BYTES
        run = processes(max(1, min(shards, os.cpu_count() or 1)))
        info = shard(found, dataset, run=run, progress=progress.count)
        for line in summary(info):
            progress.line("shard", line)
    return dataset


def _say_plan(run: Run, options: Options, progress: Progress) -> None:
    recipe, counts = run.recipe, run.info.counts
    steps = recipe.epochs * steps_per_epoch(counts["train"], recipe.batch_size, recipe.drop_last)
    measured = probe(recipe, len(run.info.classes), default_device())
    _check_room(measured, options, run)
    training = steps * measured.seconds_per_step
    total = training + FIXED_SECONDS[options.launcher]
    progress.line(
        "plan",
        f"train {recipe.model} ({measured.parameters:,} parameters, profile {run.profile}) on "
        f"{run.info.name} ({counts['train']:,} images, {len(run.info.classes)} classes): "
        f"{recipe.epochs} epochs, {steps:,} steps of {recipe.batch_size}; "
        f"then test with {' and '.join(recipe.protocols)} on {counts['val']:,} images",
    )
    progress.line(
        "plan",
        f"about {duration(total)}: {duration(training)} of training at "
        f"{1000 * measured.seconds_per_step:.0f} ms a step (measured now on this machine's "
        f"{measured.device}, one worker), the rest to start, test and record",
    )


def _check_room(measured: Probe, options: Options, run: Run) -> None:
    # Weights and velocity in float32, for two checkpoints, one being written, and the final weights.
    needed = measured.parameters * 4 * (3 * 2 + 1) + (100 << 20)
    free = shutil.disk_usage(run.dataset).free
    if free < needed:
        raise PipelineError(
            f"the run needs {needed / 2**30:.1f} GiB for checkpoints and the workspace's disk "
            f"has {free / 2**30:.1f} GiB",
            "free some room, or point --workspace at a larger disk",
        )


def _train_and_evaluate(
    run: Run, options: Options, workspace: Workspace, tracker: Tracker, progress: Progress
) -> list[Evaluation]:
    folder = workspace.run(run.name)
    results = folder / "evaluations"
    if options.force == "train":
        shutil.rmtree(folder, ignore_errors=True)
    if options.force == "evaluate":
        shutil.rmtree(results, ignore_errors=True)
    if options.force in ("train", "evaluate"):
        tracker.forget(run.name, evaluations_only=options.force == "evaluate")
    folder.mkdir(parents=True, exist_ok=True)
    described = {"recipe": run.recipe.resolved(), **run.tags}
    write_atomically(folder / "run.json", json.dumps(described, indent=1) + "\n")

    job = TrainJob(run.recipe, run.dataset, folder, run.seed)
    command = tracker.command(
        run.experiment,
        f"{run.paper.year} {run.profile} {run.info.name}",
        digest([run.paper.name, run.profile, run.info.digest]),
        {"paper": run.paper.name, "year": str(run.paper.year), "profile": run.profile},
    )
    training = tracker.training(command, run.name, run.recipe.resolved(), run.info, run.tags)
    with contextlib.ExitStack() as stack:
        launcher = _Lazy(options, stack)
        with _recorded(tracker, [command, training]):
            _train(job, tracker, training, launcher, progress)
        missing = [name for name in run.recipe.protocols if read_evaluation(results, name) is None]
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
        result for name in run.recipe.protocols if (result := read_evaluation(results, name))
    ]
    for evaluation in evaluations:
        tracker.evaluation(
            training, evaluation, len(run.info.classes), results / f"{evaluation.protocol}.parquet"
        )
    return evaluations


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
    """Mark the runs' end in the tracking store, whatever it is."""
    try:
        yield
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        for run_id in runs:
            with contextlib.suppress(
                Exception
            ):  # the error under way says more than a store that is gone
                tracker.end(run_id, status)
        raise
    for run_id in runs:
        tracker.end(run_id)


def _train(
    job: TrainJob, tracker: Tracker, training: str, launcher: _Lazy, progress: Progress
) -> None:
    finished = read_result(job.run_dir)
    show = progress.record
    if finished is not None:
        progress.line(
            "train", f"finished before ({finished.steps:,} steps), skipped: {job.run_dir}"
        )

        def show(record: object) -> None:
            """What is only sent again is not shown again."""

    follower = Follower(job.journal, tracker.last_step(training))
    with Watch(follower, show, tracker, training, lambda text: progress.line("track", text)):
        if finished is None:
            finished = launcher.get().train(job)
            progress.line(
                "train",
                f"{finished.steps:,} steps in {duration(finished.seconds)}, "
                f"{finished.images_per_second:,.0f} images/s",
            )


def _sentence(run: Run, evaluation: Evaluation) -> str:
    classes = len(run.info.classes)
    errors = [
        f"top-{k} error {found.value:.1f} % [{found.low:.1f}, {found.high:.1f}] "
        f"(chance {100 * (1 - k / classes):.1f} %)"
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
