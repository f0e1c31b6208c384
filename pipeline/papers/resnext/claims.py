"""2016: what Xie, Girshick, Dollar, Tu and He claim (arXiv:1611.05431), Tables 3 and 4 and section 5.1."""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

from stages.claim import Arm, Claim, PublishedEffect, effects

_VAL, _CENTRE = "ILSVRC-2012 val", "centre crop"
_claim = partial(Claim, paper="resnext")

# Table 3: (cardinality, bottleneck width) -> top-1 error of 50 layers.
_SAME_COST = {(1, 64): 23.9, (2, 40): 23.0, (4, 24): 22.6, (8, 14): 22.3, (32, 4): 22.2}


def _net(layers: int, cardinality: int, width: int, **knobs: Any) -> Arm:
    return Arm(
        f"{layers} layers, {cardinality}x{width}d" + (" without shortcuts" if knobs else ""),
        knobs={
            "depth": layers,
            "cardinality": cardinality,
            "bottleneck_width": width,
            **knobs,
        },
        protocol="centre_crop",
    )


def _cardinality() -> Iterator[Claim]:
    for (few, few_error), (more, more_error) in pairwise(_SAME_COST.items()):
        yield _claim(
            id=f"cardinality_{more[0]}",
            statement=f"At equal cost, {more[0]} paths give a lower error than {few[0]}.",
            source="section 5.1, Table 3",
            with_it=_net(50, *more),
            without=_net(50, *few),
            published=effects(_VAL, _CENTRE, "Table 3", top1=few_error - more_error),
        )


# The toy nets have one block per stage whatever their nominal depth.
_NO_DEPTH = {
    "toy": "its nets have one block per stage at any depth; the claim on 50 layers tests the same"
}

CLAIMS = (
    _claim(
        id="cardinality",
        statement="At equal cost, 32 paths give a lower error than one, which is ResNet.",
        source="section 5.1, Table 3",
        with_it=_net(50, 32, 4),
        without=_net(50, 1, 64),
        published=effects(_VAL, _CENTRE, "Table 3", top1=1.7),
    ),
    *_cardinality(),
    _claim(
        id="cardinality_101",
        statement="With 101 layers as well, 32 paths give a lower error than one.",
        source="section 5.1, Tables 3 and 4",
        with_it=_net(101, 32, 4),
        without=_net(101, 1, 64),
        published=effects(_VAL, _CENTRE, "Table 4", top1=0.8, top5=0.4),
        not_comparable=_NO_DEPTH,
    ),
    _claim(
        id="training_error",
        statement="The gain is not regularisation: 32 paths also give a lower training error.",
        source="section 5.1",
        with_it=_net(101, 32, 4),
        without=_net(101, 1, 64),
        metric="train_error_top1",
        published=(
            PublishedEffect(4.0, "ILSVRC-2012 train", "training", "section 5.1: 20 and 16%"),
        ),
        not_comparable=_NO_DEPTH,
    ),
    _claim(
        id="twice_the_cost",
        statement="At twice the cost, more paths give a lower error than wider layers.",
        source="section 5.1, Table 4",
        with_it=_net(101, 64, 4),
        without=_net(101, 1, 100),
        published=effects(_VAL, _CENTRE, "Table 4", top1=0.9, top5=0.4),
        not_comparable=_NO_DEPTH,
    ),
    _claim(
        id="shortcuts",
        statement="Without shortcuts ResNeXt-50 has a higher error.",
        source="section 5.1",
        with_it=_net(50, 32, 4),
        without=_net(50, 32, 4, shortcut=None),
        published=effects(_VAL, _CENTRE, "section 5.1", top1=3.9),
    ),
    _claim(
        id="shortcuts_resnet",
        statement="Without shortcuts ResNet-50 has a higher error.",
        source="section 5.1",
        with_it=_net(50, 1, 64),
        without=_net(50, 1, 64, shortcut=None),
        published=effects(_VAL, _CENTRE, "section 5.1", top1=7.3),
    ),
)
