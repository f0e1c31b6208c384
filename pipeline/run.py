"""Re-run a year of the history: shard, train, test, record, draw.

python -m pipeline.run --year 2012
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline import cli, papers
from pipeline.paper import Profile
from stages.errors import PipelineError


@dataclass(frozen=True)
class Options:
    """Re-run a year of the history: shard the images, train that year's winner, test it as its paper did,
    record everything in MLflow, and draw the timeline. Run again, it goes on where it was."""

    year: int | None = None
    """Year of the challenge, e.g. 2012."""
    paper: str | None = None
    """A paper by name, e.g. alexnet."""
    profile: Profile = "toy"
    """Scale: toy (minutes on a laptop), mini (64-pixel photographs, one GPU) or paper (as published)."""
    data: str | None = None
    """Folder or URL with ImageNet in any common form (default: the embedded images)."""
    workspace: Path | None = None
    """Where everything is kept (default: $PIPELINE_WORKSPACE, else ./workspace)."""
    launcher: Literal["ray", "inline"] = "ray"
    """Train on Ray, or in this process without it."""
    workers: int | None = None
    """Data-parallel workers on Ray (default: one a GPU, or 1)."""
    seed: int = 0
    """Of initial weights, order, augmentation and dropout."""
    tracking_uri: str | None = None
    """An MLflow server (default: a database in the workspace)."""
    force: Literal["shard", "train", "evaluate"] | None = None
    """Redo this stage although it is finished."""
    plan: bool = False
    """Say what would be done and how long it would take, and stop."""
    debug: bool = False
    """Show the stack trace of an error."""


def _run(options: Options) -> None:
    if options.year is None and options.paper is None:
        raise PipelineError("neither a year nor a paper was named", "say e.g. --year 2012")
    paper = papers.find(options.year, options.paper)
    if options.launcher == "inline" and options.workers not in (None, 1):
        raise PipelineError(
            "--launcher inline has one worker", "leave --workers out, or use --launcher ray"
        )
    if options.workers is not None and options.workers < 1:
        raise PipelineError(f"--workers {options.workers} is no number of workers", "use 1 or more")
    if options.seed < 0:
        raise PipelineError(f"--seed {options.seed} is negative", "use 0 or more")
    from pipeline.reproduce import reproduce  # imports torch; --help and a misspelt year must not

    reproduce(paper, options)


if __name__ == "__main__":
    cli.main(Options, _run)
