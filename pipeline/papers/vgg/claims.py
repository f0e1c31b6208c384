"""2014: what Simonyan and Zisserman claim (arXiv:1409.1556v6), in Tables 3 to 5 and the text between them.

Where the paper profile has the arms as recipes of their own, those are the base; in the smaller profiles,
which train in one stage at jittered scales, each net takes the place of D in the headline's recipe.
"""

from functools import partial
from typing import Any

from stages.augmentation import CentreSquare
from stages.claim import Arm, Claim, effects

_VAL = "ILSVRC-2012 val"
_DENSE = "dense, one scale"
_JITTER = "S in [256, 512], Q = 256, 384, 512"
_claim = partial(Claim, paper="vgg")


def _net(net: str, **options: Any) -> Arm:
    """A net of Table 1 at S = 256."""
    small = "a_jitter" if net == "a" else "d_jitter"
    return Arm(
        net.upper(),
        base={"paper": f"{net}_256", "mini": small, "toy": small},
        changes={"model": f"vgg_{net}"},
        **options,
    )


_A, _B, _C, _D, _E = map(_net, "abcde")


def _from_scratch(name: str, model: str, protocol: str = "", **knobs: Any) -> Arm:
    """No weights of A, Glorot's initialisation instead."""
    return Arm(
        name,
        base={"paper": "d_256_glorot", "mini": "d_jitter_glorot"},
        changes={"model": model, "start": None},
        knobs=knobs,
        protocol=protocol,
    )


CLAIMS = (
    _claim(
        id="depth_13",
        statement="13 layers have a lower error than 11.",
        source="section 4.1, Table 3",
        with_it=_B,
        without=_A,
        published=effects(_VAL, _DENSE, "Table 3", top1=0.9, top5=0.5),
    ),
    _claim(
        id="depth_16",
        statement="16 layers have a lower error than 13.",
        source="section 4.1, Table 3",
        with_it=_D,
        without=_B,
        published=effects(_VAL, _DENSE, "Table 3", top1=1.7, top5=1.1),
    ),
    _claim(
        id="depth_19",
        statement="The error saturates: 19 layers are within half a point of 16.",
        source="section 4.1, Table 3",
        with_it=Arm("E", base={"paper": "e_jitter"}, changes={"model": "vgg_e"}),
        without=Arm("D"),
        published=effects(_VAL, f"{_DENSE}, S in [256, 512]", "Table 3", top1=0.1, top5=0.1),
        expects="equivalent",
        margin=0.5,
    ),
    _claim(
        id="lrn",
        statement="Local response normalisation changes the error by less than half a point.",
        source="section 4.1, Table 3",
        with_it=Arm(
            "A-LRN",
            base={"paper": "a_lrn_256", "mini": "a_jitter", "toy": "a_jitter"},
            changes={"model": "vgg_a_lrn"},
        ),
        without=_A,
        published=effects(_VAL, _DENSE, "Table 3", top1=-0.1, top5=-0.1),
        expects="equivalent",
        margin=0.5,
    ),
    _claim(
        id="one_by_one",
        statement="The additional non-linearity of 1x1 convolutions lowers the error.",
        source="section 4.1, Table 3",
        with_it=_C,
        without=_B,
        published=effects(_VAL, _DENSE, "Table 3", top1=0.6, top5=0.5),
    ),
    _claim(
        id="three_by_three",
        statement="Spatial context helps, too: 3x3 in place of the 1x1 convolutions lowers the error.",
        source="section 4.1, Table 3",
        with_it=_D,
        without=_C,
        published=effects(_VAL, _DENSE, "Table 3", top1=1.1, top5=0.6),
    ),
    _claim(
        id="small_filters",
        statement="Two 3x3 convolutions give a lower error than one of 5x5.",
        source="section 4.1",
        with_it=_from_scratch("B", "vgg_b", "centre_crop"),
        without=_from_scratch("shallow B", "vgg_b", "centre_crop", pairs_as_5x5=True),
        published=effects(_VAL, "centre crop", "section 4.1", top1=7.0),
    ),
    _claim(
        id="scale_jitter",
        statement="Training at scales from 256 to 512 gives a lower error than at 384.",
        source="section 4.1, Table 3",
        with_it=Arm("D, S in [256, 512]", base={"paper": "d_jitter"}),
        without=Arm("D, S = 384", base={"paper": "d_384"}),
        published=effects(_VAL, f"{_DENSE}, Q = 384", "Table 3", top1=1.2, top5=0.6),
        not_comparable=dict.fromkeys(
            ("toy", "mini"), "nets are trained in one stage here; see scale_jitter_alone"
        ),
    ),
    _claim(
        id="scale_jitter_alone",
        statement="Of two training runs with the same start, the one with jittered scales has a lower error.",
        source="section 4.1, without the jittered net's longer training",
        with_it=Arm("jittered"),
        without=Arm("one scale, centre square", augmentation={"sampling": CentreSquare()}),
    ),
    _claim(
        id="multi_scale",
        statement="Testing at three scales gives a lower error than at one.",
        source="section 4.2, Table 4",
        with_it=Arm("three scales", protocol="dense_multi_scale"),
        without=Arm("one scale", protocol="dense"),
        published=effects(_VAL, f"D, {_JITTER}", "Tables 3 and 4", top1=0.8, top5=0.6),
    ),
    _claim(
        id="multi_crop",
        statement="Multiple crops give a slightly lower error than dense evaluation.",
        source="section 4.3, Table 5",
        with_it=Arm("multi-crop", protocol="multi_crop"),
        without=Arm("dense", protocol="dense_multi_scale"),
        published=effects(_VAL, f"D, {_JITTER}", "Table 5", top1=0.2, top5=0.0),
    ),
    _claim(
        id="crops_and_dense",
        statement="Multiple crops and dense evaluation together give a lower error than dense "
        "evaluation alone.",
        source="section 4.3, Table 5",
        with_it=Arm("both", protocol="multi_crop_and_dense"),
        without=Arm("dense", protocol="dense_multi_scale"),
        published=effects(_VAL, f"D, {_JITTER}", "Table 5", top1=0.4, top5=0.3),
    ),
    _claim(
        id="glorot",
        statement="With Glorot's initialisation a net need not start from a trained A: the error stays "
        "within half a point.",
        source="section 3.1",
        with_it=_from_scratch("Glorot", "vgg_d"),
        without=Arm("from A", base={"paper": "d_256"}),
        expects="equivalent",
        margin=0.5,
    ),
    _claim(
        id="parameters",
        statement="Three layers of 3x3 have fewer weights than one of 7x7, which has 81% more.",
        source="section 2.3",
        computed="27 C^2 against 49 C^2 weights: 81.5% more",
    ),
)
