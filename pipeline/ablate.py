"""Test what a paper claimed: train both arms of each claim, with the same seeds, and compute the verdict.

python -m pipeline.ablate --paper alexnet --claims lrn,overlap,dropout
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from tyro.conf import OmitArgPrefixes

from pipeline import papers
from pipeline.engine import command_line as cli
from pipeline.papers import CLAIMS
from stages.claim import Claim
from stages.errors import PipelineError
from stages.execution import Execution
from stages.ledger.arms import recipe_of
from stages.measurement import SearchMetric
from stages.metrics import METRICS
from stages.paper import Paper, Profile
from stages.recipe import Recipe


@dataclass(frozen=True)
class Options:
    """Test what a paper claimed: train both arms of each claim with the same seeds, record everything in
    MLflow, and compute the verdicts. Run again, it goes on where it was; what is trained is reused."""

    paper: str
    """A paper by name, e.g. alexnet."""
    claims: str | None = None
    """Ids of its claims, with commas between (default: all that can be tested at the profile)."""
    seeds: int | None = None
    """Runs of each arm (default: what each claim asks for)."""
    profile: Profile = "toy"
    """Scale, as for pipeline.run."""
    data: str | None = None
    """Folder or URL with ImageNet in any common form (default: the embedded images)."""
    workspace: Path | None = None
    """Where everything is kept (default: $PIPELINE_WORKSPACE, else ./workspace)."""
    launcher: Literal["ray", "inline"] = "ray"
    """Trials at the same time on Ray Tune, or one after the other in this process."""
    workers: int | None = None
    """Data-parallel workers of each trial (default: 1)."""
    trials_per_gpu: int = 1
    """Trials that share a GPU."""
    search: bool = False
    """First search each arm's own learning rate (six rates, hopeless ones stopped early by ASHA)."""
    tracking_uri: str | None = None
    """An MLflow server (default: a database in the workspace)."""
    plan: bool = False
    """Say what would be trained and for how long, and stop."""
    execution: OmitArgPrefixes[Execution] = field(default_factory=Execution)
    debug: bool = False
    """Show the stack trace of an error."""


def chosen(options: Options) -> list[Claim]:
    """The claims that were asked for.

    Raises:
        PipelineError: there is no such claim, or it cannot be tested at that scale.
    """
    of_paper = {claim.id: claim for claim in CLAIMS if claim.paper == options.paper}
    if options.claims is None:
        found = [claim for claim in of_paper.values() if _testable(claim, options.profile)]
        if not found:
            raise PipelineError(
                f"no claim of {options.paper!r} can be tested at profile {options.profile}",
                f"papers with claims: {', '.join(sorted({claim.paper for claim in CLAIMS}))}",
            )
        return found
    found = []
    for name in options.claims.split(","):
        if name not in of_paper:
            near = get_close_matches(name, of_paper)
            raise PipelineError(
                f"{options.paper} has no claim {name!r}",
                f"did you mean {near[0]}?" if near else f"use some of: {', '.join(of_paper)}",
            )
        of_paper[name].arms(options.profile)  # refuses what cannot be tested
        found.append(of_paper[name])
    return found


def _testable(claim: Claim, profile: Profile) -> bool:
    try:
        claim.arms(profile)
    except PipelineError:
        return False
    return True


@dataclass(frozen=True)
class ArmRuns:
    """The runs of one arm; two claims may share it, with each other and with the paper's own run.

    Attributes:
        paper: whose recipe is trained; with the paper's own run it is one and the same.
        name: of the arm.
        recipe: what it trains.
        seeds: 0 to this, without it.
        protocols: what its runs are tested with.
        searched_by: the error that a search of its learning rate lowers.
    """

    paper: Paper
    name: str
    recipe: Recipe
    seeds: int
    protocols: tuple[str, ...]
    searched_by: SearchMetric


def arms_of(claims: Sequence[Claim], profile: Profile, seeds: int | None) -> list[ArmRuns]:
    """The runs that decide some claims, each once.

    Args:
        claims: that can be tested at the profile.
        profile: the scale.
        seeds: runs of each arm, or groups of runs that answer together; None for each claim's own number.

    Raises:
        PipelineError: a claim cannot be tested at the profile, or a paper has no such recipe.
    """
    found: dict[str, ArmRuns] = {}
    for claim in claims:
        with_it, without = claim.arms(profile)
        together = max(with_it.nets, without.nets)
        for arm in (with_it, without):
            recipe = recipe_of(claim, arm, papers.PAPERS, profile)
            before = found.get(recipe.id)
            wanted = (arm.tested_by(recipe),)
            found[recipe.id] = ArmRuns(
                papers.find(None, arm.paper or claim.paper),
                before.name if before else arm.name,
                recipe,
                max(before.seeds if before else 0, (seeds or claim.seeds) * together),
                tuple(dict.fromkeys((*(before.protocols if before else ()), *wanted))),
                # Fig. 1: rates "chosen independently to make training as fast as possible".
                METRICS[claim.metric].searched_by or claim.metric,
            )
    return list(found.values())


def _ablate(options: Options) -> None:
    papers.find(None, options.paper)  # refuses a name that there is not
    claims = chosen(options)
    for name, value in (("seeds", options.seeds), ("workers", options.workers)):
        if value is not None and value < 1:
            raise PipelineError(f"--{name} {value} is too few", "use 1 or more")
    if options.launcher == "inline" and options.workers not in (None, 1):
        raise PipelineError(
            "--launcher inline has one worker", "leave --workers out, or use --launcher ray"
        )
    arms = arms_of(claims, options.profile, options.seeds)
    # Here and not above: --help and a misspelt claim need no torch.
    from pipeline.flows.ablate import sweep

    sweep(claims, arms, options)


if __name__ == "__main__":
    cli.main(Options, _ablate)
