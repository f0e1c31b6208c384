"""What the command lines share: parsing, common options, and errors that a person can act on."""

import dataclasses
import errno
import re
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import UseAppendAction

from cluster import environment
from stages.errors import PipelineError, print_error
from stages.execution import Execution

# The word that stands for the project's own images wherever a folder or URL of images is asked for.
EMBEDDED = "embedded"

LauncherName = Literal["ray", "inline"]
# What `--force` redoes.
Stage = Literal["shard", "train", "evaluate"]

T = TypeVar("T")

# The role of images given without one: they are used for every role that is not given explicitly.
_ANY = ""


@dataclass(frozen=True)
class Kept:
    """Workspace and tracking store."""

    workspace: Path | None = None
    """Where everything is kept (default: $PIPELINE_WORKSPACE, else ./workspace)."""
    tracking_uri: str | None = None
    """URI of an MLflow server (default: the database in the workspace)."""


@dataclass(frozen=True)
class Where(Kept):
    """Images, workspace, tracking store, launcher and workers."""

    data: UseAppendAction[tuple[str, ...]] = ()
    """Folder or URL with the images in any supported layout (default: the embedded images). ROLE=PATH sets
    the images for one data set only, e.g. mnist=FOLDER."""
    launcher: LauncherName = "ray"
    """Run on Ray, or inline in this process."""
    workers: int | None = None
    """Data-parallel workers on Ray (default: one per GPU, or 1 without GPUs; 1 for each trial of a sweep)."""

    def check(self, roles: Collection[str]) -> None:
        """Refuse options that cannot be combined, before any work starts.

        Args:
            roles: all roles of data sets that recipes use.

        Raises:
            PipelineError: says what to do instead.
        """
        check_workers(self.workers)
        if self.launcher == "inline" and self.workers not in (None, 1):
            raise PipelineError(
                "--launcher inline has one worker", "leave --workers out, or use --launcher ray"
            )
        unknown = sorted(self._sources.keys() - {_ANY, *roles})
        if unknown:
            raise PipelineError(
                f"no recipe uses data called {unknown[0]!r} (from --data {unknown[0]}=...)",
                f'use one of: {", ".join(sorted(roles))}; if you meant a path containing "=", that path '
                f"does not exist",
            )

    def source(self, role: str) -> str:
        """The folder or URL of the images for a role, or the word for the embedded ones.

        Raises:
            PipelineError: see `check`.
        """
        sources = self._sources
        return sources.get(role) or sources.get(_ANY) or EMBEDDED

    @property
    def _sources(self) -> Mapping[str, str]:
        """Folders and URLs by role. No message quotes one: a URL may carry credentials."""
        sources: dict[str, str] = {}
        for text in self.data:
            role, source = _split(text)
            if role in sources:
                without = "without a role" if role == _ANY else f"for the role {role!r}"
                raise PipelineError(
                    f"--data names two sets of images {without}",
                    "keep one of them, or give the other a role: --data ROLE=PATH",
                )
            sources[role] = source
        return sources


def _split(text: str) -> tuple[str, str]:
    """The role and the folder or URL in what `--data` was given; a path that exists is a path."""
    match = re.fullmatch(r"([\w-]*)=(.*)", text)
    if match is None or Path(text).exists():
        return _ANY, text
    role, source = match.groups()
    if not role:
        raise PipelineError(
            "--data names no role before the equals sign", "write --data PATH or --data ROLE=PATH"
        )
    if not source:
        raise PipelineError(
            f"--data names the role {role!r} but no images for it", f"write --data {role}=PATH"
        )
    return role, source


def check_workers(workers: int | None) -> None:
    """Refuse a number of workers that makes no sense.

    Raises:
        PipelineError: it is less than 1.
    """
    if workers is not None and workers < 1:
        raise PipelineError(f"--workers must be at least 1, not {workers}", "use 1 or more")


def check_execution(execution: Execution) -> None:
    """Refuse settings that cannot be computed.

    Raises:
        PipelineError: a micro-batch is less than one image.
    """
    if execution.micro_batch is not None and execution.micro_batch < 1:
        raise PipelineError(
            f"--micro-batch must be at least 1, not {execution.micro_batch}", "use 1 or more"
        )


def main(options_type: type[T], command: Callable[[T], None]) -> None:
    """Parse the command line into `options_type` and run `command`; exits with its status.

    0: done. 1: a bug. 2: a problem with the input or the environment, with what to do about it.
    130: interrupted.
    """
    environment.prepare(environment.THREADS)  # before torch is imported
    help_text = "Show the stack trace of an error."
    # Every command has this option, and no command sees it.
    with_debug = dataclasses.make_dataclass(
        options_type.__name__,
        [("debug", Annotated[bool, tyro.conf.arg(help=help_text)], False)],
        bases=(options_type,),
        frozen=True,
    )
    options: Any = tyro.cli(with_debug, description=options_type.__doc__)
    sys.exit(_status(options, command, debug=options.debug))


def _status(options: T, command: Callable[[T], None], *, debug: bool) -> int:
    try:
        command(options)
        return 0
    except KeyboardInterrupt:
        print("interrupted; rerun the same command, without --force, to resume", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            error = PipelineError(
                f"the disk is full: {error}",
                "free some space, then rerun the same command to resume",
            )
        if isinstance(error, PipelineError):
            print_error(error)
            return 2
        print_error(
            PipelineError(f"{type(error).__name__}: {error}", "--debug shows where it happened")
        )
        return 1
