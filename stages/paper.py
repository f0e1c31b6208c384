"""A paper as data: its recipes at each scale, and the figures it published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stages.errors import PipelineError
from stages.measurement import Published
from stages.recipe import Ensemble, Recipe

Profile = Literal["toy", "mini", "paper"]


@dataclass(frozen=True)
class Paper:
    """One paper of the history.

    Attributes:
        name: the short name, as in ``--paper``.
        year: of the challenge.
        title: of the publication.
        system: what the entry was called.
        hardware: the authors' own machine and time, with the section that says so.
        recipes: by profile, and there by name, as in ``--recipe``; the first is the headline's. The
            smaller profiles are written as changes to the published one.
        published: what the paper printed, or its authors logged.
    """

    name: str
    year: int
    title: str
    system: str
    hardware: str
    recipes: Mapping[Profile, Mapping[str, Recipe | Ensemble]]
    published: tuple[Published, ...] = ()

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
