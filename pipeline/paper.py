"""A paper as data: the recipes of its network, one for each profile."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stages.recipe import Recipe

Profile = Literal["toy", "mini", "paper"]


@dataclass(frozen=True)
class Paper:
    """One paper of the history.

    Attributes:
        name: the short name, as in ``--paper``.
        year: of the challenge.
        title: of the publication.
        system: what the entry was called.
        recipes: by profile; the smaller ones are written as changes to the published one.
    """

    name: str
    year: int
    title: str
    system: str
    recipes: Mapping[Profile, Recipe]
