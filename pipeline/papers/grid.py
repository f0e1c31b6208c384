"""The counterfactual grid, each year's net with each year's recipe: was it the net or the recipe?

No paper claims this. For each pair of papers there are two questions: does the older net do better with the
newer recipe than with its own, and does the newer net beat the older one when both are trained with the older
recipe? Together they train every net with every recipe. A recipe brings its crops, its schedule and its
regularisation of weights; a net brings its dropout, its normalisation and its auxiliary heads. All are tested
with the centre crop.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from stages.claim import Arm, Claim
from stages.paper import Paper
from stages.recipe import IMAGENET, Ensemble

# Its own recipe starts D from a trained A; from scratch it needs Glorot's initialisation.
_FROM_SCRATCH: Mapping[str, Mapping[str, Any]] = {
    "vgg": {"knobs": {"init": "glorot"}, "without_knobs": ("init_std",)}
}

# The crops of VGG's toy recipe have 48 pixels.
_TOO_SMALL = {"toy": "a 48-pixel crop leaves pool5 nothing to pool"}


def claims(papers: Sequence[Paper]) -> tuple[Claim, ...]:
    """The claims of the grid.

    Args:
        papers: in the order of the years, the winner first in each. A paper whose headline is an ensemble
            has no single net to bring, and one that is not about ImageNet has no recipe for it.
    """
    single = [p for p in papers if _brings_a_net(p)]
    # Within a year the winner comes last, and so counts as the newer net of a pair.
    by_age = sorted(single, key=lambda paper: paper.year, reverse=True)[::-1]
    return tuple(claim for older, newer in combinations(by_age, 2) for claim in _pair(older, newer))


def _brings_a_net(paper: Paper) -> bool:
    _, headline = paper.recipe("paper")
    return not isinstance(headline, Ensemble) and headline.data == IMAGENET


def _pair(older: Paper, newer: Paper) -> Iterator[Claim]:
    old, new = older.headline, newer.headline
    too_small = older.name in ("alexnet", "zfnet") and newer.name == "vgg"
    yield Claim(
        paper=newer.name,
        id=f"recipe_for_{older.name}",
        statement=f"{old} has a lower error with {new}'s recipe than with its own.",
        source="counterfactual, claimed nowhere",
        with_it=_cell(older, newer),
        without=_cell(older, older),
        tuned=True,
        not_comparable=_TOO_SMALL if too_small else {},
    )
    yield Claim(
        paper=newer.name,
        id=f"net_by_{older.name}_recipe",
        statement=f"With {old}'s recipe, {new} has a lower error than {old}.",
        source="counterfactual, claimed nowhere",
        with_it=_cell(newer, older),
        without=_cell(older, older),
        tuned=True,
    )


def _cell(net: Paper, recipe: Paper) -> Arm:
    name = f"{net.headline} by {recipe.headline}'s recipe"
    if net is recipe:
        return Arm(name, paper=net.name, protocol="centre_crop")
    return Arm(
        name,
        paper=recipe.name,
        network=net.name,
        protocol="centre_crop",
        **_FROM_SCRATCH.get(net.name, {}),
    )
