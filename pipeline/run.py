"""Re-run a year of the history: shard, train, test, record, draw.

python -m pipeline.run --year 2012
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tyro.conf import OmitArgPrefixes

from pipeline import papers
from pipeline.engine import command_line as cli
from stages.devices import peak
from stages.errors import PipelineError
from stages.execution import Execution
from stages.paper import Paper, Profile


@dataclass(frozen=True)
class Options:
    """Re-run a year of the history: shard the images, train that year's winner, test it as its paper did,
    record everything in MLflow, and draw the timeline. Run again, it goes on where it was."""

    year: int | Literal["all"] | None = None
    """Year of the challenge, e.g. 2012; all for every paper that is ready."""
    paper: str | None = None
    """A paper by name, e.g. alexnet, for those that share a year."""
    recipe: str | None = None
    """Another of the paper's recipes, e.g. resnet34 (default: the headline's)."""
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
    """Say what would be done, how long it would take and what it would cost, and stop."""
    budget: str | None = None
    """Time to spend, e.g. 90m or 2h: the largest profile that fits is run, instead of --profile."""
    device: str | None = None
    """For --plan: reckon with a known device, e.g. h100, instead of measuring on this machine."""
    price: float | None = None
    """For --plan: of a device for an hour, in your currency."""
    execution: OmitArgPrefixes[Execution] = field(default_factory=Execution)
    debug: bool = False
    """Show the stack trace of an error."""

    @property
    def seconds(self) -> float | None:
        """The budget.

        Raises:
            PipelineError: it is no span of time.
        """
        if self.budget is None:
            return None
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", self.budget)
        if found is None:
            raise PipelineError(
                f"--budget {self.budget} is no span of time", "write e.g. 90m, 2h or 3d"
            )
        return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def check(options: Options) -> tuple[Paper, ...]:
    """The papers that were asked for.

    Raises:
        PipelineError: options that do not go together, with what to do instead.
    """
    if options.year is None and options.paper is None:
        raise PipelineError("neither a year nor a paper was named", "say e.g. --year 2012")
    found = papers.select(options.year, options.paper)
    if options.recipe is not None and len(found) > 1:
        raise PipelineError(
            "--recipe belongs to one paper, and several were asked for",
            f"add --paper {' or --paper '.join(paper.name for paper in found)}",
        )
    if options.budget is None:
        for paper in found:
            paper.recipe(options.profile, options.recipe)
    if options.launcher == "inline" and options.workers not in (None, 1):
        raise PipelineError(
            "--launcher inline has one worker", "leave --workers out, or use --launcher ray"
        )
    if options.workers is not None and options.workers < 1:
        raise PipelineError(f"--workers {options.workers} is no number of workers", "use 1 or more")
    if options.execution.micro_batch is not None and options.execution.micro_batch < 1:
        raise PipelineError(
            f"--micro-batch {options.execution.micro_batch} is no number of images", "use 1 or more"
        )
    if options.seed < 0:
        raise PipelineError(f"--seed {options.seed} is negative", "use 0 or more")
    if not options.plan and (options.device or options.price):
        raise PipelineError("--device and --price are for --plan", "add --plan, or leave them out")
    if options.device is not None:
        peak(options.device)  # refuses one that is not known
    _ = options.seconds
    return found


def _run(options: Options) -> None:
    found = check(options)
    from pipeline.flows.run import reproduce

    reproduce(found, options)


if __name__ == "__main__":
    cli.main(Options, _run)
