"""What a command works with: each part is opened when it is first needed, and all are closed at the end."""

import contextlib
from collections.abc import Iterable
from functools import cached_property
from types import TracebackType

from pipeline.engine import data, launchers
from pipeline.engine.command_line import Kept, Stage, Where
from pipeline.engine.data import Located, Prepared
from pipeline.engine.executor import Executor
from pipeline.engine.launchers import Launcher
from pipeline.engine.progress import Progress
from pipeline.engine.workspace import Workspace
from pipeline.tracking.store import Tracker
from stages.execution import Execution


class Workbench:
    """Workspace, terminal output, tracking store, data sets, launcher and executor of a command; a context
    manager.

    Args:
        where: where the command works.
        execution: how it computes.
        redo: a finished stage to redo.
        trials_per_gpu: how many trials of a sweep share a GPU.
    """

    def __init__(
        self,
        where: Where,
        *,
        execution: Execution | None = None,
        redo: Stage | None = None,
        trials_per_gpu: int = 1,
    ) -> None:
        self._where, self._redo, self._trials_per_gpu = where, redo, trials_per_gpu
        self._execution = execution or Execution()
        self._open = contextlib.ExitStack()
        self._located: dict[str, Located] = {}
        self._prepared: dict[str, Prepared] = {}
        self.progress = Progress()

    def __enter__(self) -> "Workbench":
        self._open.enter_context(self.progress)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    @cached_property
    def workspace(self) -> Workspace:
        """The folder where everything is kept."""
        return Workspace.open(self._where.workspace)

    @cached_property
    def tracker(self) -> Tracker:
        """The tracking store."""
        return open_tracker(self.workspace, self._where.tracking_uri)

    def check_data(self, roles: Iterable[str]) -> None:
        """Refuse what is not a source of images, before any work starts.

        Raises:
            PipelineError: see `stages.sources.check_source`.
        """
        for source in dict.fromkeys(self._where.source(role) for role in sorted(roles)):
            data.check(source)

    def located(self, role: str) -> Located:
        """The images for a role, located once.

        Raises:
            PipelineError: see `stages.sources.open_source`.
        """
        source = self._where.source(role)
        if source not in self._located:
            redo = self._redo == "shard"
            self._located[source] = data.locate(source, self.workspace, self.progress, redo=redo)
        return self._located[source]

    def prepared(self, roles: Iterable[str]) -> dict[str, Prepared]:
        """The data sets for some roles, sharded now if they are not yet."""
        by_role = {}
        for role in sorted(roles):
            source = self._where.source(role)
            if source not in self._prepared:
                located = self.located(role)
                self._prepared[source] = data.prepare(located, self.workspace, self.progress)
            by_role[role] = self._prepared[source]
        return by_role

    @cached_property
    def launcher(self) -> Launcher:
        """The launcher; with Ray, a cluster that lives as long as the command."""
        where = self._where
        started = launchers.start(where.launcher, where.workers, self._trials_per_gpu)
        return self._open.enter_context(started)

    @cached_property
    def executor(self) -> Executor:
        """The executor."""
        return Executor(
            self.workspace,
            self.tracker,
            self.progress,
            lambda: self.launcher,
            self._execution,
            None if self._redo == "shard" else self._redo,
        )


def workbench_of(kept: Kept) -> Workbench:
    """The workbench of a command that only reads recorded results."""
    return Workbench(Where(workspace=kept.workspace, tracking_uri=kept.tracking_uri))


def open_tracker(workspace: Workspace, uri: str | None) -> Tracker:
    """The tracking store that the user named, or else the workspace's own."""
    with workspace.lock(
        "tracking", wait=True
    ):  # two concurrent first commands must not both create the tables
        return Tracker(uri) if uri else Tracker(workspace.tracking_uri, workspace.artifacts)
