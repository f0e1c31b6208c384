"""Trains, tests and records runs; progress goes to the terminal and to the tracking store.

Each run leaves finished files in the workspace under its own name. So a rerun finds them, and an interrupted
command resumes where it stopped.
"""

import contextlib
import functools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.engine.launchers import Launcher
from pipeline.engine.progress import Progress, duration, figures
from pipeline.engine.runs import AnyRun, EnsembleRun, Run
from pipeline.engine.watch import Watch
from pipeline.engine.workspace import Workspace
from pipeline.tracking.store import Tracker
from stages.errors import PipelineError
from stages.evaluate import evaluate_in_parts, read_evaluation
from stages.execution import Execution
from stages.job import RunFolder, TrainJob, TrainResult, read_result
from stages.journal import Follower, Record
from stages.measurement import Evaluation
from stages.recipe import digest
from stages.storage import write_atomically
from stages.tasks.task import Net
from stages.trial import Trial

Redo = Literal["train", "evaluate"]

# Receives a run and a new record of its journal.
Show = Callable[[AnyRun, Record], None]


@dataclass
class Recording:
    """Runs that the tracking store shows as running.

    Attributes:
        ids: the entries' ids in the tracking store, by the runs' names.
        failed: names of the runs that failed, whose entries will be marked as failed.
    """

    ids: Mapping[str, str]
    failed: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Executor:
    """Trains, tests and records runs.

    Attributes:
        workspace: where they live.
        tracker: where they are recorded.
        progress: where they are shown.
        launcher: returns what computes them; called when there is something to compute.
        execution: how they are computed.
        redo: a finished stage to redo, for the requested runs and not for those they start from.
    """

    workspace: Workspace
    tracker: Tracker
    progress: Progress
    launcher: Callable[[], Launcher]
    execution: Execution
    redo: Redo | None = None

    def run(self, run: Run | EnsembleRun) -> list[Evaluation]:
        """Train what is not trained and test what is not tested.

        Raises:
            PipelineError: see the stages.
        """
        if isinstance(run, Run):
            weights = self.train(run, self.redo)
            return self.test(run, [Net(run.recipe, weights)], run.protocols)
        nets = []
        for member_run, member in zip(run.members, run.ensemble.members, strict=True):
            weights = self.train(member_run, self.redo)
            nets.append(Net(member.recipe, weights, member.weight))
            # The gain from averaging is measured against the best member by the same protocol.
            self.test(member_run, nets[-1:], run.protocols)
        if self.redo is not None:
            self.tracker.forget(run.name, evaluations_only=False)
            shutil.rmtree(self._folder(run).root, ignore_errors=True)
        return self.test(run, nets, run.protocols)

    def train(self, run: Run, redo: Redo | None = None) -> Path:
        """Train a run, after those it starts from; returns its weights file."""
        starts = self.starts(run)
        folder = self._folder(run)
        if redo is not None:
            with self.workspace.lock(run.name):
                self.tracker.forget(run.name, evaluations_only=redo == "evaluate")
                undone = folder.root if redo == "train" else folder.evaluations
                shutil.rmtree(undone, ignore_errors=True)
        finished = read_result(folder)

        def show(_: AnyRun, record: Record) -> None:
            if finished is None:  # otherwise it was shown when it happened
                self.progress.record(record)

        with self.recorded([run], begin=finished is None, show=show) as recording:
            if finished is None:
                self.progress.line("train", f"{run.recipe_name}: {run.name}")
                result = self.launcher().train(self._job(run, starts))
            self._record_training(run, recording)
        if finished is None:
            self._print_trained(result)
        else:
            self.progress.line(
                "train", f"finished before ({finished.steps:,} steps), skipped: {folder.root}"
            )
        return folder.weights

    def starts(self, run: Run) -> tuple[Path, ...]:
        """The weights that a run starts from; what is not trained yet is trained now."""
        return tuple(self.train(parent) for parent in run.parents)

    def test(self, run: AnyRun, nets: Sequence[Net], protocols: Sequence[str]) -> list[Evaluation]:
        """Test what is not tested; returns all evaluations.

        Args:
            run: whose figures they are.
            nets: its networks.
            protocols: how they are tested.

        Raises:
            PipelineError: weights cannot be loaded.
        """
        folder, data = self._folder(run), run.data
        missing = [name for name in protocols if read_evaluation(folder, name) is None]
        with self.recorded([run], begin=bool(missing)) as recording:
            if missing:
                what = f"{len(nets)} networks, " if len(nets) > 1 else ""
                self.progress.line(
                    "evaluate",
                    f"{what}{' and '.join(missing)} on {data.info.counts['val']:,} validation images",
                )
                launcher = self.launcher()
                evaluate_in_parts(
                    nets,
                    data.folder,
                    missing,
                    folder,
                    pmap=launcher.map,
                    workers=launcher.workers,
                    processes=launcher.cpus,
                )
            else:
                self.progress.line("evaluate", f"finished before, skipped: {folder.evaluations}")
            return self._record_tests(run, protocols, recording)

    def sweep(self, runs: Sequence[Run], protocols: Sequence[Sequence[str]]) -> dict[str, str]:
        """Train and test many runs in parallel; what is finished is not repeated.

        Args:
            runs: the runs, each once.
            protocols: how each is tested.

        Returns:
            What went wrong, by the run's name.

        Raises:
            PipelineError: no trial fits the cluster, or one of the runs is being worked on elsewhere.
        """
        trials = [
            (run, Trial(self._job(run, self.starts(run)), tuple(wanted)))
            for run, wanted in zip(runs, protocols, strict=True)
        ]
        todo: list[tuple[Run, Trial]] = []
        done: list[tuple[Run, Trial]] = []
        for run, trial in trials:
            finished = read_result(trial.job.folder) is not None and not trial.missing
            (done if finished else todo).append((run, trial))
        self.progress.line(
            "sweep", f"{len(todo)} trials to run, {len(done)} finished before and reused"
        )
        failed: dict[str, str] = {}
        with self.recorded([run for run, _ in done], begin=False) as recording:
            for run, trial in done:
                self._record_training(run, recording)
                self._record_tests(run, trial.protocols, recording)
        if not todo:
            return failed
        with self.recorded(
            [run for run, _ in todo], begin=True, show=self._count_trained(len(todo))
        ) as recording:
            errors = self.launcher().sweep([trial for _, trial in todo], self.workspace.scratch)
            failed = {todo[index][0].name: message for index, message in errors.items()}
            recording.failed |= failed.keys()
            for run, trial in todo:
                if run.name not in failed:
                    self._record_training(run, recording)
                    self._record_tests(run, trial.protocols, recording)
        return failed

    @contextlib.contextmanager
    def recorded(
        self, runs: Sequence[AnyRun], *, begin: bool, show: Show | None = None
    ) -> Iterator[Recording]:
        """Lock runs, and keep their entries in the tracking store up to date, while they are worked on.

        Args:
            runs: which.
            begin: whether the entries are marked as running, and at the end with how the runs ended.
            show: receives the records of their journals, which also go to the tracking store; None for runs
                that do not train.

        Raises:
            PipelineError: a run is being worked on elsewhere, or the tracking store cannot be reached.
        """
        with contextlib.ExitStack() as held:
            for run in runs:
                held.enter_context(self.workspace.lock(run.name))
            entries = {run.name: self._register(run) for run in runs}
            recording = Recording({name: entry for name, (_, entry) in entries.items()})
            under_way = dict.fromkeys(entry for both in entries.values() for entry in both)
            if not begin:
                under_way = {}
            for entry in under_way:
                self.tracker.begin(entry)
            try:
                with self._watched(runs, recording, show):
                    yield recording
            except BaseException as error:
                status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
                # The original error says more than that the store is unreachable.
                with contextlib.suppress(PipelineError):
                    for entry in under_way:
                        self.tracker.end(entry, status)
                raise
            failed = {recording.ids[name] for name in recording.failed}
            for entry in under_way:
                self.tracker.end(entry, "FAILED" if entry in failed else "FINISHED")

    def _watched(
        self, runs: Sequence[AnyRun], recording: Recording, show: Show | None
    ) -> contextlib.AbstractContextManager[object]:
        if show is None:
            return contextlib.nullcontext()
        by_entry = {recording.ids[run.name]: run for run in runs}
        return Watch(
            {entry: self._folder(run).journal for entry, run in by_entry.items()},
            lambda entry, record: show(by_entry[entry], record),
            self.tracker,
            functools.partial(self.progress.line, "track"),
        )

    def _register(self, run: AnyRun) -> tuple[str, str]:
        """The entries of the run's command and of the run itself in the tracking store."""
        context, info, folder = run.context, run.data.info, self._folder(run)
        resolved = run.resolved
        tags = {**run.tags, "born": _made_at(folder)}
        write_atomically(
            folder.description, json.dumps({"recipe": resolved, **tags}, indent=1) + "\n"
        )
        paper, profile = context.paper, context.profile
        command = self.tracker.command(
            context.experiment,
            f"{paper.year} {profile} {info.name}",
            digest([paper.name, profile, info.digest]),
            {"paper": paper.name, "year": str(paper.year), "profile": profile},
        )
        executed = {name: str(value) for name, value in asdict(self.execution).items()}
        return command, self.tracker.training(command, run.name, resolved, info, tags | executed)

    def _record_training(self, run: Run, recording: Recording) -> None:
        records = list(Follower(self._folder(run).journal).read())
        self.tracker.trained(recording.ids[run.name], records)

    def _record_tests(
        self, run: AnyRun, protocols: Sequence[str], recording: Recording
    ) -> list[Evaluation]:
        folder = self._folder(run)
        evaluations = [
            evaluation for name in protocols if (evaluation := read_evaluation(folder, name))
        ]
        for evaluation in evaluations:
            predictions = folder.predictions(evaluation.protocol)
            self.tracker.evaluation(recording.ids[run.name], evaluation, predictions)
        return evaluations

    def _count_trained(self, runs: int) -> Show:
        trained = 0

        def show(run: AnyRun, record: Record) -> None:
            nonlocal trained
            assert isinstance(run, Run)
            if record["kind"] == "epoch" and record["epoch"] + 1 == run.recipe.epochs:
                trained += 1
                self.progress.line(
                    "sweep",
                    f"{trained}/{runs} trained: {run.recipe_name}, seed {run.context.seed}: "
                    f"{figures(record)}",
                )

        return show

    def _job(self, run: Run, starts: tuple[Path, ...]) -> TrainJob:
        return TrainJob(
            run.recipe,
            run.data.folder,
            self._folder(run),
            run.context.seed,
            starts=starts,
            execution=self.execution,
        )

    def _folder(self, run: AnyRun) -> RunFolder:
        return self.workspace.run(run.name)

    def _print_trained(self, result: TrainResult) -> None:
        self.progress.line(
            "train",
            f"{result.steps:,} steps in {duration(result.seconds)}, "
            f"{result.images_per_second:,.0f} images/s",
        )


def _made_at(folder: RunFolder) -> str:
    """When a run's folder was made: if it is deleted and made again, the store treats it as another run."""
    path = folder.description
    if path.is_file():
        return str(json.loads(path.read_text())["born"])
    folder.root.mkdir(parents=True, exist_ok=True)
    return str(time.time_ns())
