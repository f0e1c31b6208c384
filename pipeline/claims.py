"""List every claim with its verdict, one per line.

python -m pipeline.claims
"""

from dataclasses import dataclass, field

from tyro.conf import OmitArgPrefixes

from pipeline.engine.command_line import Kept, main
from pipeline.papers import CLAIMS, PAPERS
from stages.errors import PipelineError


@dataclass(frozen=True)
class Options:
    """List every claim, one per line, from the tracking store alone: its published effect, the effect
    measured here with its interval, and the verdict."""

    paper: str | None = None
    """Only the claims of this paper, e.g. alexnet."""
    kept: OmitArgPrefixes[Kept] = field(default_factory=Kept)


def _list_claims(options: Options) -> None:
    claims = [claim for claim in CLAIMS if options.paper in (None, claim.paper)]
    if not claims:
        known = ", ".join(dict.fromkeys(claim.paper for claim in CLAIMS))
        raise PipelineError(f"there are no claims of {options.paper!r}", f"use one of: {known}")
    # Here and not above: --help needs neither Arrow nor scipy.
    from stages.ledger.entries import make_ledger
    from stages.report.tables import lines

    kept = options.kept
    if kept.tracking_uri is None:
        from pipeline.engine.workspace import Workspace

        if not Workspace.open(kept.workspace).has_runs:  # no need to create an empty store
            print("\n".join(lines(make_ledger(claims, PAPERS, ()))))
            return
    from pipeline.engine.workbench import workbench_of
    from pipeline.flows.report import read_ledger

    with workbench_of(kept) as bench:
        ledger = read_ledger(bench.tracker, bench.tracker.measurements(), claims)
    print("\n".join(lines(ledger)))


if __name__ == "__main__":
    main(Options, _list_claims)
