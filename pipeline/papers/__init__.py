"""The history as a list of papers, in the order of the years."""

from difflib import get_close_matches
from typing import Literal

from pipeline.papers import (
    alexnet,
    googlenet,
    grid,
    lenet,
    resnet,
    resnext,
    senet,
    trimps,
    vgg,
    zfnet,
)
from stages.claim import Claim
from stages.errors import PipelineError
from stages.paper import Paper

# The winner stands first in each year.
PAPERS: tuple[Paper, ...] = (
    lenet.PAPER,
    alexnet.PAPER,
    zfnet.PAPER,
    googlenet.PAPER,
    vgg.PAPER,
    resnet.PAPER,
    trimps.PAPER,
    resnext.PAPER,
    senet.PAPER,
)
# All claims, in the order of the ledger.
CLAIMS: tuple[Claim, ...] = (
    *(claim for paper in PAPERS for claim in paper.claims),
    *grid.claims(PAPERS),
)
# The roles that recipes name their data by.
ROLES: frozenset[str] = frozenset(role for paper in PAPERS for role in paper.roles)
# Earlier papers belong to the history for what they led to; they won no challenge.
FIRST_CHALLENGE = 2010
PLANNED = {2010: "sparse coding", 2011: "Fisher vectors"}


def select(year: int | Literal["all"] | None, name: str | None) -> tuple[Paper, ...]:
    """The papers of all challenges, those of a year, or the one with a given name.

    Raises:
        PipelineError: there is no such paper, or not yet.
    """
    if year == "all":
        of_challenge = tuple(paper for paper in PAPERS if paper.year >= FIRST_CHALLENGE)
        return of_challenge if name is None else (find(None, name),)
    matching = tuple(p for p in PAPERS if p.year == year and name in (None, p.name))
    return matching or (find(year, name),)


def find(year: int | None, name: str | None) -> Paper:
    """The paper of a year, or the one with a given name.

    Raises:
        PipelineError: there is no such paper, or not yet.
    """
    known = ", ".join(f"--year {paper.year} ({paper.name})" for paper in PAPERS)
    for paper in PAPERS:
        if (name is None or paper.name == name) and (year is None or paper.year == year):
            return paper
    if name is not None:
        near = get_close_matches(name, [paper.name for paper in PAPERS])
        hint = f"did you mean {near[0]}? " if near and near[0] != name else ""
        of_year = "" if year is None else f" of {year}"
        raise PipelineError(
            f"there is no paper {name!r}{of_year} here yet", f"{hint}ready so far: {known}"
        )
    if year in PLANNED:
        raise PipelineError(
            f"the year {year} ({PLANNED[year]}) is planned, not ready", f"ready so far: {known}"
        )
    raise PipelineError(
        f"the year {year} has no winner here (2010 to 2017 have)", f"ready so far: {known}"
    )
