"""What the command lines share: options from a dataclass, and errors that a person can act on."""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from typing import Protocol, TypeVar

import tyro

from stages.errors import PipelineError

# Says, where images are asked for, that those of the project itself are meant.
EMBEDDED = "embedded"


class Options(Protocol):
    """What every command's options have."""

    @property
    def debug(self) -> bool:
        """Show the stack trace of an error."""


T = TypeVar("T", bound=Options)


def main(options_type: type[T], command: Callable[[T], None]) -> None:
    """Parse the command line into ``options_type`` and run ``command``; exits with its status.

    0: done. 1: a fault of the program. 2: the input or the surroundings, told with its remedy.
    130: interrupted.
    """
    # Before torch is imported; cluster/environment.py says why.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = tyro.cli(options_type, description=options_type.__doc__)
    sys.exit(_status(options, command))


def _status(options: T, command: Callable[[T], None]) -> int:
    try:
        command(options)
        return 0
    except KeyboardInterrupt:
        print("stopped; the same command, without --force, goes on from there", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        if isinstance(error, PipelineError):
            print(f"error: {error}", file=sys.stderr)
            return 2
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            print(
                f"error: the disk is full: {error}\n  fix: free some room; the same command goes on",
                file=sys.stderr,
            )
            return 2
        print(
            f"error: {type(error).__name__}: {error}\n  fix: --debug shows where", file=sys.stderr
        )
        return 1
