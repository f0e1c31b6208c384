"""Draw the timeline and write the report, from the tracking store alone.

python -m pipeline.timeline
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.engine import command_line as cli


@dataclass(frozen=True)
class Options:
    """Draw the timeline and write the report, from the tracking store alone."""

    workspace: Path | None = None
    """Where everything is kept (default: $PIPELINE_WORKSPACE, else ./workspace)."""
    tracking_uri: str | None = None
    """An MLflow server (default: the database in the workspace)."""
    debug: bool = False
    """Show the stack trace of an error."""


def _run(options: Options) -> None:
    from pipeline.engine.progress import Progress
    from pipeline.engine.workspace import Workspace
    from pipeline.flows.run import draw, open_tracker

    workspace = Workspace.open(options.workspace)
    if options.tracking_uri is None:
        workspace.check_runs()
    with Progress() as progress:
        draw(workspace, open_tracker(workspace, options.tracking_uri), progress)


if __name__ == "__main__":
    cli.main(Options, _run)
