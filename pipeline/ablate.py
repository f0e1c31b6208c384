"""Test what a paper claimed: train both arms of each claim, with the same seeds, and compute the verdict.

python -m pipeline.ablate --paper alexnet --claims lrn,overlap,dropout
"""

from dataclasses import dataclass, field
from difflib import get_close_matches

from tyro.conf import OmitArgPrefixes

from pipeline import papers
from pipeline.engine.arm_runs import arms_of
from pipeline.engine.command_line import Where, check_execution, main
from pipeline.papers import CLAIMS
from stages.claim import Claim
from stages.errors import PipelineError
from stages.execution import Execution
from stages.paper import Profile


@dataclass(frozen=True)
class Options:
    """Test what a paper claimed: train both arms of each claim with the same seeds, record everything in
    MLflow, and compute the verdicts. Rerun the command to resume where it stopped; existing runs are
    reused."""

    paper: str
    """Name of the paper, e.g. alexnet."""
    claims: str | None = None
    """Ids of its claims, separated by commas (default: all that can be tested at this profile)."""
    seeds: int | None = None
    """Runs of each arm (default: what each claim asks for)."""
    profile: Profile = "toy"
    """Scale, as for pipeline.run."""
    trials_per_gpu: int = 1
    """Trials that share a GPU."""
    search: bool = False
    """First search for each arm's own learning rate (six rates; ASHA stops hopeless ones early)."""
    plan: bool = False
    """Print what would be trained and how long it would take, and stop."""
    where: OmitArgPrefixes[Where] = field(default_factory=Where)
    execution: OmitArgPrefixes[Execution] = field(default_factory=Execution)


def chosen(options: Options) -> list[Claim]:
    """The requested claims.

    Raises:
        PipelineError: there is no such claim, or it cannot be tested at that scale.
    """
    of_paper = {claim.id: claim for claim in CLAIMS if claim.paper == options.paper}
    if options.claims is None:
        testable = [claim for claim in of_paper.values() if _testable(claim, options.profile)]
        if not testable:
            raise PipelineError(
                f"no claim of {options.paper!r} can be tested at profile {options.profile}",
                f"papers with claims: {', '.join(sorted({claim.paper for claim in CLAIMS}))}",
            )
        return testable
    named = []
    for name in options.claims.split(","):
        if name not in of_paper:
            near = get_close_matches(name, of_paper)
            raise PipelineError(
                f"{options.paper} has no claim {name!r}",
                f"did you mean {near[0]}?" if near else f"use some of: {', '.join(of_paper)}",
            )
        of_paper[name].arms(options.profile)  # refuses what cannot be tested
        named.append(of_paper[name])
    return named


def _testable(claim: Claim, profile: Profile) -> bool:
    try:
        claim.arms(profile)
    except PipelineError:
        return False
    return True


def _ablate(options: Options) -> None:
    papers.find(None, options.paper)  # refuses a name that does not exist
    claims = chosen(options)
    for name, value in (("seeds", options.seeds), ("trials-per-gpu", options.trials_per_gpu)):
        if value is not None and value < 1:
            raise PipelineError(f"--{name} must be at least 1, not {value}", "use 1 or more")
    options.where.check(papers.ROLES)
    check_execution(options.execution)
    arms = arms_of(claims, options.profile, options.seeds)
    # Here and not above: --help and a misspelt claim need no torch.
    from pipeline.flows.ablate import sweep

    sweep(
        claims,
        arms,
        options.where,
        options.execution,
        profile=options.profile,
        trials_per_gpu=options.trials_per_gpu,
        search=options.search,
        plan=options.plan,
    )


if __name__ == "__main__":
    main(Options, _ablate)
