"""A paper as data: its recipes at each scale, the figures it published, and what it claims."""

from collections.abc import Mapping
from dataclasses import dataclass

from stages.claim import Claim
from stages.errors import PipelineError
from stages.measurement import Published
from stages.recipe import PROFILES, Ensemble, Profile, Recipe

# Profiles are defined beside the recipes, since claims, which a paper has, name them too.
__all__ = ["PROFILES", "Paper", "Profile", "Recipes"]

# Recipes by profile, and there by name, as in ``--recipe``; the first of a profile is the headline's.
Recipes = Mapping[Profile, Mapping[str, Recipe | Ensemble]]


@dataclass(frozen=True)
class Paper:
    """One paper of the history.

    Attributes:
        name: the short name, as in ``--paper``.
        year: the year of the challenge.
        title: the title of the publication.
        system: what the entry was called.
        headline: what people call the network of the headline's recipe, e.g. ``"VGG-D"``.
        built_of: what the entry was built of, in the few words that the picture of the record has room
            for, e.g. ``"Inception"``.
        hardware: the authors' own machine and time, with the section that says so.
        recipes: how its networks were trained. The smaller profiles are written as changes to the
            published one.
        published: what the paper printed, or its authors logged.
        claims: what the paper says of its networks that a pair of trainings can test.
    """

    name: str
    year: int
    title: str
    system: str
    headline: str
    built_of: str
    hardware: str
    recipes: Recipes
    published: tuple[Published, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def roles(self) -> frozenset[str]:
        """The roles of all data that its recipes need."""
        return frozenset(
            role
            for recipes in self.recipes.values()
            for recipe in recipes.values()
            for role in recipe.roles
        )

    def recipe(self, profile: Profile, name: str | None = None) -> tuple[str, Recipe | Ensemble]:
        """A recipe and its name; the headline's where no name is given.

        Raises:
            PipelineError: there is no recipe of that name at that scale.
        """
        recipes = self.recipes[profile]
        if name is None:
            return next(iter(recipes.items()))
        if name not in recipes:
            raise PipelineError(
                f"{self.name} has no recipe {name!r} in profile {profile}",
                f"use one of: {', '.join(recipes)}",
            )
        return name, recipes[name]
