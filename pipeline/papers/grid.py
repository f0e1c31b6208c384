"""The counterfactual grid, each year's net with each year's recipe: was it the net or the recipe?

No paper claims this. Of each pair of papers the newer one is asked twice: does its recipe do better by the
older net than the recipe that was made for it, and does its net beat the older one by the older's own recipe?
Together these train every net by every recipe. A recipe brings its crops, its schedule and its regularisation
of weights; a net brings its dropout, its normalisation and its auxiliary heads. All are tested with the
centre crop.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from stages.claim import Arm, Claim

_NETS = {
    "alexnet": "AlexNet",
    "zfnet": "ZFNet",
    "vgg": "VGG-D",
    "googlenet": "GoogLeNet",
    "resnet": "ResNet",
    "resnext": "ResNeXt",
    "senet": "SENet",
}
# D begins from a trained A, which belongs to its recipe; from scratch it needs Glorot's initialisation.
_FROM_SCRATCH: Mapping[str, Mapping[str, Any]] = {
    "vgg": {"knobs": {"init": "glorot"}, "without_knobs": ("init_std",)}
}

# VGG's toy recipe shows crops of 48 pixels.
_TOO_SMALL = {"toy": "pool5 has nothing left to pool of a 48-pixel crop"}


def _cell(net: str, recipe: str) -> Arm:
    name = f"{_NETS[net]} by {_NETS[recipe]}'s recipe"
    if net == recipe:
        return Arm(name, paper=net, protocol="centre_crop")
    return Arm(
        name, paper=recipe, network=net, protocol="centre_crop", **_FROM_SCRATCH.get(net, {})
    )


def _pairs() -> Iterator[Claim]:
    for older, newer in combinations(_NETS, 2):
        yield Claim(
            paper=newer,
            id=f"recipe_for_{older}",
            statement=f"{_NETS[newer]}'s recipe lowers the error of {_NETS[older]} below that by its own.",
            source="counterfactual, claimed nowhere",
            with_it=_cell(older, newer),
            without=_cell(older, older),
            tuned=True,
            not_comparable=_TOO_SMALL if older in ("alexnet", "zfnet") and newer == "vgg" else {},
        )
        yield Claim(
            paper=newer,
            id=f"net_by_{older}_recipe",
            statement=f"By {_NETS[older]}'s recipe, {_NETS[newer]} has a lower error than {_NETS[older]}.",
            source="counterfactual, claimed nowhere",
            with_it=_cell(newer, older),
            without=_cell(older, older),
            tuned=True,
        )


CLAIMS = tuple(_pairs())
