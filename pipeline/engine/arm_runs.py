"""The runs that decide some claims."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import papers
from stages.claim import Claim
from stages.ledger.arms import recipe_of
from stages.metrics import METRICS
from stages.paper import Paper, Profile
from stages.recipe import Recipe


@dataclass(frozen=True)
class ArmRuns:
    """The runs of one arm; two claims may share it, with each other and with the paper's own run.

    Attributes:
        paper: has the recipe that is trained, so that the paper's own run is the same one.
        name: what distinguishes the arm from others.
        recipe: what it trains.
        seeds: how many runs there are, of seeds 0 and up.
        protocols: how the runs are tested.
        searched_by: the metric by which a search chooses the arm's learning rate.
    """

    paper: Paper
    name: str
    recipe: Recipe
    seeds: int
    protocols: tuple[str, ...]
    searched_by: str


def arms_of(claims: Sequence[Claim], profile: Profile, seeds: int | None) -> list[ArmRuns]:
    """The runs that decide some claims, each once.

    Args:
        claims: those that can be tested at the profile.
        profile: the scale.
        seeds: runs of each arm, or groups of runs whose answers are combined; None for each claim's own
            number.

    Raises:
        PipelineError: a claim cannot be tested at the profile, or a paper has no such recipe.
    """
    arms: dict[str, ArmRuns] = {}
    for claim in claims:
        with_it, without = claim.arms(profile)
        together = max(with_it.nets, without.nets)
        for arm in (with_it, without):
            recipe = recipe_of(claim, arm, papers.PAPERS, profile)
            existing = arms.get(recipe.id)
            protocol = arm.tested_by(recipe)
            arms[recipe.id] = ArmRuns(
                papers.find(None, arm.paper or claim.paper),
                existing.name if existing else arm.name,
                recipe,
                max(existing.seeds if existing else 0, (seeds or claim.seeds) * together),
                tuple(dict.fromkeys((*(existing.protocols if existing else ()), protocol))),
                METRICS[claim.metric].searched_by or claim.metric,
            )
    return list(arms.values())
