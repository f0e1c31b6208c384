"""Runs done and recorded: trained, tested, followed to the screen and to the tracking store.

Each run leaves a finished thing in the workspace under its own name. So asking again finds it, and an
interrupted command goes on where it was.
"""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal
from typing import Protocol as Interface

from pipeline.engine.launchers import Launcher
from pipeline.engine.progress import Progress, duration
from pipeline.engine.runs import Fusion, Run, Setting
from pipeline.engine.watch import Watch
from pipeline.engine.workspace import Workspace
from pipeline.tracking.store import Tracker
from stages.errors import PipelineError
from stages.evaluate import read_evaluation, score
from stages.execution import Execution
from stages.job import RunFolder, TrainJob, TrainResult, read_result
from stages.journal import Follower, Record
from stages.measurement import Evaluation, SearchMetric
from stages.recipe import Recipe, digest
from stages.storage import write_atomically
from stages.tasks.task import Net
from stages.trial import Trial

# What `Laboratory.best_rate` multiplies learning rates with, and the seed of its trainings.
RATE_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
SEARCH_SEED = 1_000_000

Redo = Literal["train", "evaluate"]

# Weights and velocities in float32, for two checkpoints, one being written, and the final weights.
CHECKPOINT_BYTES_PER_PARAMETER = 4 * (3 * 2 + 1)


class Recorded(Interface):
    """What has a folder in the workspace and a run in the tracking store."""

    @property
    def setting(self) -> Setting:
        """What it shares with others."""

    @property
    def recipe_name(self) -> str:
        """In the paper's file, or the network's own."""

    @property
    def name(self) -> str:
        """Its folder and its key."""

    @property
    def tags(self) -> dict[str, str]:
        """What its figures must not travel without."""

    @property
    def resolved(self) -> Mapping[str, object]:
        """What defines it, as plain data."""


class Laboratory:
    """Does runs, one after the other.

    Args:
        workspace: where they live.
        tracker: where they are recorded.
        progress: where they are shown.
        launcher: where they are computed.
        execution: how.
        redo: a finished stage to do again; of the runs that are asked for, not of those they start from.
    """

    def __init__(
        self,
        workspace: Workspace,
        tracker: Tracker,
        progress: Progress,
        launcher: Launcher,
        execution: Execution,
        redo: Redo | None = None,
    ) -> None:
        self._workspace, self._tracker, self._progress = workspace, tracker, progress
        self._launcher, self._execution, self._redo = launcher, execution, redo

    def run(self, run: Run | Fusion) -> list[Evaluation]:
        """Train what is not trained and test what is not tested.

        Raises:
            PipelineError: see the stages.
        """
        if isinstance(run, Run):
            weights = self.train(run, self._redo)
            return self.test(run, [Net(run.recipe, weights)], run.protocols)
        nets = []
        for run_of_member, member in zip(run.members, run.ensemble.members, strict=True):
            weights = self.train(run_of_member, self._redo)
            nets.append(Net(member.recipe, weights, member.weight))
            # The gain of averaging is over the best member by the same protocol.
            self.test(run_of_member, nets[-1:], run.protocols)
        if self._redo is not None:
            self._tracker.forget(run.name, evaluations_only=False)
            shutil.rmtree(self._folder(run).root, ignore_errors=True)
        return self.test(run, nets, run.protocols)

    def train(self, run: Run, redo: Redo | None = None) -> Path:
        """Train a run, after the one it starts from; returns its weights."""
        start = None if run.parent is None else self.train(run.parent)
        folder = self._folder(run)
        with self._workspace.lock(run.name):
            if redo is not None:
                self._tracker.forget(run.name, evaluations_only=redo == "evaluate")
                undone = folder.root if redo == "train" else folder.evaluations
                shutil.rmtree(undone, ignore_errors=True)
            job = self._job(run, start)
            command, training = self._register(run)
            finished = read_result(folder)
            with (
                self._recorded([] if finished else [command, training]),
                Watch(
                    {training: job.folder.journal},
                    lambda _, record: self._progress.record(record),
                    self._tracker,
                    self._warn,
                ),
            ):
                if finished is None:
                    self._progress.line("train", f"{run.recipe_name}: {run.name}")
                    result = self._launcher.train(job)
            self._tracker.trained(training, list(Follower(job.folder.journal).read()))
        if finished is None:
            self._say_trained(result)
        else:
            self._progress.line(
                "train", f"finished before ({finished.steps:,} steps), skipped: {folder.root}"
            )
        return job.folder.weights

    def sweep(self, runs: Sequence[Run], protocols: Sequence[Sequence[str]]) -> dict[str, str]:
        """Do many runs at a time; what is finished is not repeated.

        Args:
            runs: each once.
            protocols: what each is tested with.

        Returns:
            What went wrong, by the run's name.

        Raises:
            PipelineError: no trial fits the cluster, or one of the runs is being worked on elsewhere.
        """
        starts = [None if run.parent is None else self.train(run.parent) for run in runs]
        with contextlib.ExitStack() as locks:
            todo: dict[str, tuple[Run, Trial]] = {}  # by the run in the tracking store
            done: dict[str, tuple[Run, Trial]] = {}
            parents: set[str] = set()
            for run, start, wanted in zip(runs, starts, protocols, strict=True):
                locks.enter_context(self._workspace.lock(run.name))
                parent, training = self._register(run)
                trial = Trial(self._job(run, start), tuple(wanted))
                finished = read_result(trial.job.folder) is not None and not trial.missing
                (done if finished else todo)[training] = run, trial
                parents |= set() if finished else {parent}
            self._progress.line(
                "sweep", f"{len(todo)} trials to run, {len(done)} finished before and reused"
            )
            failed = self._run_trials(todo, sorted(parents)) if todo else {}
            for training, (run, trial) in (todo | done).items():
                if run.name in failed:
                    continue
                self._tracker.trained(training, list(Follower(trial.job.folder.journal).read()))
                for protocol in trial.protocols:
                    if evaluation := read_evaluation(trial.job.folder, protocol):
                        answers = trial.job.folder.predictions(protocol)
                        self._tracker.evaluation(training, evaluation, answers)
        return failed

    def best_rate(self, run: Run, arm: Callable[[float], Recipe], metric: SearchMetric) -> float:
        """The factor on an arm's learning rates that gives the lowest error; searched once and kept.

        Args:
            run: of the arm as it stands. The search has a seed of its own, which no verdict uses.
            arm: the arm's recipe at a factor.
            metric: the error that is to be low.

        Raises:
            PipelineError: no factor trains.
        """
        folder = self._workspace.root / "searches" / run.name
        kept = folder / f"{metric}.json"
        with self._workspace.lock(f"search-{run.name}"):
            if not kept.is_file():
                start = None if run.parent is None else self.train(run.parent)
                jobs = [
                    TrainJob(
                        arm(factor),
                        run.setting.dataset,
                        RunFolder(folder / f"{factor:g}"),
                        SEARCH_SEED,
                        start=start,
                        execution=self._execution,
                    )
                    for factor in RATE_FACTORS
                ]
                errors = self._launcher.search(jobs, self._workspace.root / "sweeps", metric)
                found = dict(zip(map(str, RATE_FACTORS), errors, strict=True))
                write_atomically(kept, json.dumps(found, indent=1) + "\n")
                for job in jobs:
                    shutil.rmtree(job.folder.root, ignore_errors=True)
        found = json.loads(kept.read_text())
        best = min(found, key=lambda factor: found[factor])
        if not math.isfinite(found[best]):
            kept.unlink()
            raise PipelineError(
                f"{run.recipe_name} trains at none of the rates times {', '.join(found)}",
                "leave it out of --claims, or search by hand",
            )
        self._tracker.searched(
            run.setting.experiment, run.name, run.tags, arm(float(best)).id, metric, found
        )
        said = ", ".join(f"x{factor}: {error:.1f} %" for factor, error in found.items())
        self._progress.line("search", f"{run.recipe_name}: rates x{best} ({said})")
        return float(best)

    def _run_trials(
        self, trials: Mapping[str, tuple[Run, Trial]], parents: Sequence[str]
    ) -> dict[str, str]:
        ended = 0

        def show(training: str, record: Record) -> None:
            nonlocal ended
            run, trial = trials[training]
            if record["kind"] == "epoch" and record["epoch"] + 1 == trial.job.recipe.epochs:
                ended += 1
                self._progress.line(
                    "sweep",
                    f"{ended}/{len(trials)} trained: {run.recipe_name}, seed {run.setting.seed}: "
                    f"centre-crop error top-1 {record['error_top1']:.1f} %, "
                    f"top-5 {record['error_top5']:.1f} % (n={record['n']:,})",
                )

        journals = {training: trial.job.folder.journal for training, (_, trial) in trials.items()}
        names = {training: run.name for training, (run, _) in trials.items()}
        with (
            self._recorded([*parents, *trials]),
            Watch(journals, show, self._tracker, self._warn),
        ):
            scratch = self._workspace.root / "sweeps"
            wrong = self._launcher.sweep([trial for _, trial in trials.values()], scratch)
        failed = {}
        for place, training in enumerate(trials):
            if place in wrong:
                failed[names[training]] = wrong[place]
                self._tracker.end(training, "FAILED")
        return failed

    def test(
        self, run: Recorded, nets: Sequence[Net], protocols: Sequence[str]
    ) -> list[Evaluation]:
        """Test what is not tested; returns all.

        Args:
            run: whose figures they are.
            nets: its networks.
            protocols: how.

        Raises:
            PipelineError: weights that cannot be loaded.
        """
        folder = self._folder(run)
        dataset, info = run.setting.dataset, run.setting.info
        with self._workspace.lock(run.name):
            command, parent = self._register(run)
            missing = [name for name in protocols if read_evaluation(folder, name) is None]
            if missing:
                what = f"{len(nets)} networks, " if len(nets) > 1 else ""
                self._progress.line(
                    "evaluate",
                    f"{what}{' and '.join(missing)} on {info.counts['val']:,} validation images",
                )
                with self._recorded([command, parent]):
                    parts = self._launcher.evaluate(nets, dataset, missing)
                    for protocol in missing:
                        score(parts[protocol], dataset, protocol, folder)
            else:
                self._progress.line("evaluate", f"finished before, skipped: {folder.evaluations}")
            evaluations = [found for name in protocols if (found := read_evaluation(folder, name))]
            for evaluation in evaluations:
                answers = folder.predictions(evaluation.protocol)
                self._tracker.evaluation(parent, evaluation, answers)
        return evaluations

    def _job(self, run: Run, start: Path | None) -> TrainJob:
        return TrainJob(
            run.recipe,
            run.setting.dataset,
            self._folder(run),
            run.setting.seed,
            start=start,
            execution=self._execution,
        )

    def _warn(self, text: str) -> None:
        self._progress.line("track", text)

    def _folder(self, run: Recorded) -> RunFolder:
        return self._workspace.run(run.name)

    def _register(self, run: Recorded) -> tuple[str, str]:
        """The run's command and its own run in the tracking store."""
        setting, folder = run.setting, self._folder(run)
        resolved = run.resolved
        tags = {**run.tags, "born": _born(folder)}
        write_atomically(
            folder.description, json.dumps({"recipe": resolved, **tags}, indent=1) + "\n"
        )
        command = self._tracker.command(
            setting.experiment,
            f"{setting.paper.year} {setting.profile} {setting.info.name}",
            digest([setting.paper.name, setting.profile, setting.info.digest]),
            {
                "paper": setting.paper.name,
                "year": str(setting.paper.year),
                "profile": setting.profile,
            },
        )
        own = self._tracker.training(
            command,
            run.name,
            resolved,
            setting.info,
            tags | {k: str(v) for k, v in asdict(self._execution).items()},
        )
        return command, own

    @contextlib.contextmanager
    def _recorded(self, runs: Sequence[str]) -> Iterator[None]:
        """Mark the runs as under way, and then how they ended."""
        for run_id in runs:
            self._tracker.begin(run_id)
        try:
            yield
        except BaseException as error:
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            # The error under way says more than a store that is gone.
            with contextlib.suppress(PipelineError):
                for run_id in runs:
                    self._tracker.end(run_id, status)
            raise
        for run_id in runs:
            self._tracker.end(run_id)

    def _say_trained(self, result: TrainResult) -> None:
        self._progress.line(
            "train",
            f"{result.steps:,} steps in {duration(result.seconds)}, "
            f"{result.images_per_second:,.0f} images/s",
        )


def _born(folder: RunFolder) -> str:
    """When a run's folder was made: a folder made anew is another run to the tracking store."""
    path = folder.description
    if path.is_file():
        return str(json.loads(path.read_text())["born"])
    folder.root.mkdir(parents=True, exist_ok=True)
    return str(time.time_ns())
