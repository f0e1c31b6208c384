"""2017: what Hu, Shen, Albanie, Sun and Wu claim (arXiv:1709.01507): Table 2 and section 6."""

from functools import partial
from typing import Any

from stages.claim import Arm, Claim, effects

_VAL, _CENTRE = "ILSVRC-2012 val", "centre crop"
_claim = partial(Claim, paper="senet")

_SE_KNOBS = ("reduction", "squeeze", "gate", "bias", "place", "stages")


def _table_2(net: str, layers: int, *, top1: float, top5: float) -> Claim:
    """A row: the network with squeeze-and-excitation, and without."""
    model = f"se_{net}{layers}" + ("_32x4d" if net == "resnext" else "")
    base = {"paper": f"se_{net}{layers}"}
    spelt = {"resnet": "ResNet", "resnext": "ResNeXt"}[net]
    # The toy net has one block per stage whatever its nominal depth.
    deep = {
        "toy": "its nets have one block per stage at any depth; the claim on 50 layers tests the same"
    }
    return _claim(
        id=f"{net}{layers}",
        statement=f"Squeeze-and-excitation lowers the error of {spelt}-{layers}.",
        source="section 5.1, Table 2",
        with_it=Arm(f"SE-{spelt}-{layers}", base=base, changes={"model": model}),
        without=Arm(
            f"{spelt}-{layers}",
            base=base,
            changes={"model": model},
            knobs={"se": False},
            without_knobs=_SE_KNOBS,
        ),
        published=effects(_VAL, _CENTRE, "Table 2", top1=top1, top5=top5),
        not_comparable=deep if layers > 50 else {},
    )


def _se(name: str, **knobs: Any) -> Arm:
    """SE-ResNet-50 as in the ablations, whose excitation has no biases."""
    return Arm(
        name,
        base={"paper": "se_resnet50_plateau"},
        changes={"model": "se_resnet50"},
        knobs={"reduction": 16, "bias": False, **knobs},
        protocol="centre_crop",
    )


_AS_PUBLISHED = _se("as published")


def _choice(
    id: str, statement: str, table: str, without: Arm, *, top1: float, top5: float
) -> Claim:
    return _claim(
        id=id,
        statement=statement,
        source=f"section 6, {table}",
        with_it=_AS_PUBLISHED,
        without=without,
        published=effects(_VAL, _CENTRE, table, top1=top1, top5=top5),
    )


CLAIMS = (
    _table_2("resnet", 50, top1=1.51, top5=0.86),
    _table_2("resnet", 101, top1=0.79, top5=0.45),
    _table_2("resnet", 152, top1=0.85, top5=0.61),
    _table_2("resnext", 50, top1=1.01, top5=0.41),
    _table_2("resnext", 101, top1=0.48, top5=0.56),
    _claim(
        id="ratio_8",
        statement="A reduction by 16 gives the same error as by 8, to within 0.3 points.",
        source="section 6, Table 10",
        with_it=_AS_PUBLISHED,
        without=_se("r = 8", reduction=8),
        published=effects(_VAL, _CENTRE, "Table 10", top1=-0.02, top5=-0.04),
        expects="equivalent",
        margin=0.3,
    ),
    _claim(
        id="ratio_2",
        statement="A reduction by 16 gives the same error as by 2, to within 0.3 points.",
        source="section 6, Table 10",
        with_it=_AS_PUBLISHED,
        without=_se("r = 2", reduction=2),
        published=effects(_VAL, _CENTRE, "Table 10", top1=0.01, top5=-0.03),
        expects="equivalent",
        margin=0.3,
    ),
    _choice(
        "ratio_32",
        "A reduction by 16 gives a lower error than by 32.",
        "Table 10",
        _se("r = 32", reduction=32),
        top1=0.44,
        top5=0.17,
    ),
    _choice(
        "average_squeeze",
        "Squeezing by average pooling gives a lower error than by max pooling.",
        "Table 11",
        _se("maximum", squeeze="max"),
        top1=0.29,
        top5=0.06,
    ),
    _choice(
        "global_squeeze",
        "An SE block gives a lower error than the same block without the squeeze.",
        "Table 16",
        _se("no squeeze", squeeze="none"),
        top1=0.65,
        top5=0.36,
    ),
    _choice(
        "sigmoid_tanh",
        "A sigmoid gate gives a lower error than tanh.",
        "Table 12",
        _se("tanh", gate="tanh"),
        top1=0.72,
        top5=0.35,
    ),
    _choice(
        "sigmoid_relu",
        "A sigmoid gate gives a lower error than ReLU.",
        "Table 12",
        _se("ReLU", gate="relu"),
        top1=1.19,
        top5=0.95,
    ),
    _choice(
        "place_post",
        "An SE block placed before the addition gives a lower error than one placed after it.",
        "Table 14",
        _se("behind the addition", place="post"),
        top1=0.50,
        top5=0.32,
    ),
)
