"""The history as a list of papers, in the order of the years."""

from difflib import get_close_matches
from typing import Literal

from pipeline.papers import grid
from pipeline.papers.alexnet import claims as alexnet_claims
from pipeline.papers.alexnet import recipes as alexnet
from pipeline.papers.googlenet import claims as googlenet_claims
from pipeline.papers.googlenet import recipes as googlenet
from pipeline.papers.resnet import claims as resnet_claims
from pipeline.papers.resnet import recipes as resnet
from pipeline.papers.resnext import claims as resnext_claims
from pipeline.papers.resnext import recipes as resnext
from pipeline.papers.senet import claims as senet_claims
from pipeline.papers.senet import recipes as senet
from pipeline.papers.trimps import recipes as trimps
from pipeline.papers.vgg import claims as vgg_claims
from pipeline.papers.vgg import recipes as vgg
from pipeline.papers.zfnet import claims as zfnet_claims
from pipeline.papers.zfnet import recipes as zfnet
from stages.claim import Bases
from stages.errors import PipelineError
from stages.paper import Paper

# Of each year the winner first.
PAPERS: tuple[Paper, ...] = (
    alexnet.PAPER,
    zfnet.PAPER,
    googlenet.PAPER,
    vgg.PAPER,
    resnet.PAPER,
    trimps.PAPER,
    resnext.PAPER,
    senet.PAPER,
)
# What the claims' arms are changes of.
BASES: Bases = {paper.name: paper.recipes for paper in PAPERS}
PLANNED = {2010: "sparse coding", 2011: "Fisher vectors"}


def select(year: int | Literal["all"] | None, name: str | None) -> tuple[Paper, ...]:
    """All papers, those of a year, or the one of a name.

    Raises:
        PipelineError: there is none, or none yet.
    """
    if year == "all":
        return PAPERS if name is None else (find(None, name),)
    found = tuple(p for p in PAPERS if p.year == year and name in (None, p.name))
    return found or (find(year, name),)


def find(year: int | None, name: str | None) -> Paper:
    """The paper of a year, or of a name.

    Raises:
        PipelineError: there is none, or none yet.
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


# In the order of the ledger; becomes `paper.claims` in commit 3.
CLAIMS = (
    *alexnet_claims.CLAIMS,
    *zfnet_claims.CLAIMS,
    *vgg_claims.CLAIMS,
    *googlenet_claims.CLAIMS,
    *resnet_claims.CLAIMS,
    *resnext_claims.CLAIMS,
    *senet_claims.CLAIMS,
    *grid.CLAIMS,
)
