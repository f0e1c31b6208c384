"""Run a year of the history again: shard, train, test, record, draw.

python -m pipeline.run --year 2012
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import OmitArgPrefixes

from pipeline import papers
from pipeline.engine.command_line import Stage, Where, check_execution, main
from stages.devices import peak
from stages.errors import PipelineError
from stages.execution import Execution
from stages.paper import Paper, Profile


@dataclass(frozen=True)
class Options:
    """Run a year of the history again: shard the images, train that year's winner, test it as its paper
    did, record everything in MLflow, and draw the timeline. Rerun the command to resume where it stopped."""

    year: int | Literal["all"] | None = None
    """Year of the challenge, e.g. 2012; 'all' runs every paper that is ready."""
    paper: str | None = None
    """Name of the paper, e.g. alexnet, where several share a year."""
    recipe: str | None = None
    """Name of one of the paper's recipes, e.g. resnet34 (default: the headline recipe)."""
    profile: Profile = "toy"
    """Scale: toy (minutes on a laptop), mini (64-pixel photographs, one GPU) or paper (as published)."""
    seed: int = 0
    """Random seed (weights, order, augmentation, dropout)."""
    force: Stage | None = None
    """Redo this stage even if it is already finished."""
    plan: bool = False
    """Print what would be done, how long it would take and what it would cost, and stop."""
    budget: str | None = None
    """Time limit, e.g. 90m or 2h: the largest profile that fits is run; --profile is ignored."""
    device: str | None = None
    """With --plan: estimate for a known device, e.g. h100, instead of measuring on this machine."""
    price: float | None = None
    """With --plan: price per device-hour, in your currency."""
    where: OmitArgPrefixes[Where] = field(default_factory=Where)
    execution: OmitArgPrefixes[Execution] = field(default_factory=Execution)

    @property
    def seconds(self) -> float | None:
        """The budget.

        Raises:
            PipelineError: it is not a duration.
        """
        if self.budget is None:
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", self.budget)
        if match is None:
            raise PipelineError(
                f"--budget {self.budget} is not a duration", "write e.g. 90m, 2h or 3d"
            )
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def check(options: Options) -> tuple[Paper, ...]:
    """The requested papers.

    Raises:
        PipelineError: options that cannot be combined, with what to do instead.
    """
    if options.year is None and options.paper is None:
        raise PipelineError("choose what to run: --year or --paper", "for example --year 2012")
    chosen = papers.select(options.year, options.paper)
    if options.recipe is not None and len(chosen) > 1:
        raise PipelineError(
            "--recipe belongs to one paper, but several were requested",
            f"add --paper {' or --paper '.join(paper.name for paper in chosen)}",
        )
    if options.budget is None:
        for paper in chosen:
            paper.recipe(options.profile, options.recipe)
    options.where.check(papers.ROLES)
    check_execution(options.execution)
    if options.seed < 0:
        raise PipelineError(f"--seed {options.seed} is negative", "use 0 or more")
    if not options.plan and (options.device or options.price):
        raise PipelineError("--device and --price are for --plan", "add --plan, or leave them out")
    if options.device is not None:
        peak(options.device)  # refuses an unknown device
    _ = options.seconds
    return chosen


def _run(options: Options) -> None:
    chosen = check(options)
    # Here and not above: --help and bad input need no torch.
    from pipeline.flows.run import reproduce

    reproduce(
        chosen,
        options.where,
        options.execution,
        profile=options.profile,
        recipe=options.recipe,
        seed=options.seed,
        redo=options.force,
        plan=options.plan,
        budget=options.seconds,
        device=options.device,
        price=options.price,
    )


if __name__ == "__main__":
    main(Options, _run)
