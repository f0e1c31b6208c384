"""What the arms of a claim train: the papers' recipes, changed as the arms say.

Pure data: importing this module imports no torch.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from stages.claim import AnyRecipe, Arm, Claim
from stages.errors import PipelineError
from stages.paper import Paper
from stages.recipe import Optimiser, Profile, Recipe
from stages.tasks.classification.recipe import Classification


def recipe_of(claim: Claim, arm: Arm, papers: Sequence[Paper], profile: Profile) -> Recipe:
    """The recipe that an arm of a claim trains.

    Args:
        claim: the claim that has the arm.
        arm: one of the claim's two.
        papers: the papers whose recipes the arm may change.
        profile: the scale.

    Raises:
        PipelineError: a paper has no such recipe at that profile, or the recipe is an ensemble.
        TypeError: the arm changes something that the recipe does not have.
    """
    base = _recipe(papers, arm.paper or claim.paper, profile, arm.base.get(profile, ""))
    if arm.network:
        base = _with_network(base, _recipe(papers, arm.network, profile))
    return arm.recipe(base)


def scaled_rates(recipe: AnyRecipe, factor: float) -> AnyRecipe:
    """The recipe with every learning rate multiplied by `factor`; a factor of 1 gives the same run.

    Raises:
        TypeError: a recipe of this kind has no learning rates.
    """
    optimiser = getattr(recipe, "optimiser", None)
    if not isinstance(optimiser, Optimiser):
        raise TypeError(f"a {type(recipe).__name__} has no learning rates to scale")
    groups = tuple(
        dataclasses.replace(group, factor=group.factor * factor) for group in optimiser.groups
    )
    scaled: dict[str, Any] = {"optimiser": dataclasses.replace(optimiser, groups=groups)}
    return dataclasses.replace(recipe, **scaled)


def _recipe(papers: Sequence[Paper], paper: str, profile: Profile, name: str = "") -> Recipe:
    """A paper's recipe of that name; its headline's if no name is given."""
    recipes = next((p.recipes.get(profile, {}) for p in papers if p.name == paper), {})
    name = name or next(iter(recipes), "")
    recipe = recipes.get(name)
    if not isinstance(recipe, Recipe):
        raise PipelineError(
            f"{paper} has no recipe {name!r} of a single network at profile {profile}",
            f"its recipes are: {', '.join(recipes) or 'none'}",
        )
    return recipe


def _with_network(recipe: Recipe, network: Recipe) -> Classification:
    """`recipe` with the other recipe's network, its knobs and its auxiliary heads; it sees the same crops."""
    if not isinstance(recipe, Classification) or not isinstance(network, Classification):
        raise TypeError(
            f"networks can be swapped only between classifiers, not between a {type(recipe).__name__} "
            f"and a {type(network).__name__}"
        )
    knobs = dict(network.knobs)
    if "image_size" in knobs:
        knobs["image_size"] = recipe.augmentation.crop
    return dataclasses.replace(
        recipe,
        model=network.model,
        knobs=knobs,
        auxiliary_weight=network.auxiliary_weight,
        start=None,  # another network's weights, which would not fit
    )
