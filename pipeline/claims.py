"""Say what became of every claim, a line each.

python -m pipeline.claims
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine import command_line as cli
from pipeline.papers import CLAIMS, PAPERS
from stages.claim import Claim
from stages.errors import PipelineError
from stages.ledger.entries import Ledger, make_ledger
from stages.report.tables import lines


@dataclass(frozen=True)
class Options:
    """Say what became of every claim, a line each, from the tracking store alone: its published effect, the
    one measured here with its interval, and the verdict."""

    workspace: Path | None = None
    """Where everything is kept (default: $PIPELINE_WORKSPACE, else ./workspace)."""
    tracking_uri: str | None = None
    """An MLflow server (default: the database in the workspace, where there is one)."""
    paper: str | None = None
    """Only the claims of this paper, e.g. alexnet."""
    debug: bool = False
    """Show the stack trace of an error."""


def _say(options: Options) -> None:
    claims = [claim for claim in CLAIMS if options.paper in (None, claim.paper)]
    if not claims:
        known = ", ".join(dict.fromkeys(claim.paper for claim in CLAIMS))
        raise PipelineError(f"no claims of {options.paper!r} are here", f"use one of: {known}")
    print("\n".join(lines(_read(options, claims))))


def _read(options: Options, claims: Sequence[Claim]) -> Ledger:
    from pipeline.engine.workspace import Workspace

    workspace = Workspace.open(options.workspace)
    if options.tracking_uri is None and not workspace.has_runs:
        return make_ledger(claims, PAPERS, ())
    from pipeline.flows.report import read_ledger
    from pipeline.flows.run import open_tracker

    tracker = open_tracker(workspace, options.tracking_uri)
    return read_ledger(tracker, tracker.measurements(), claims)


if __name__ == "__main__":
    cli.main(Options, _say)
