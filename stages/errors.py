"""The kind of error that users are meant to read: what is wrong, and what to do about it."""

import sys


class PipelineError(Exception):
    """A problem with the input or the environment, in one sentence, with a fix.

    The command lines print it without a stack trace and exit with status 2.

    Attributes:
        problem: what is wrong, in one sentence.
        fix: what the user can do about it.
    """

    def __init__(self, problem: str, fix: str) -> None:
        # Both go to Exception so that the error survives pickling on its way back from a Ray worker.
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\n  fix: {self.fix}"


def print_error(error: PipelineError) -> None:
    """Print an error for the user, as every command does."""
    print(f"error: {error}", file=sys.stderr)
