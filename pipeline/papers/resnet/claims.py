"""2015: what He, Zhang, Ren and Sun claim (arXiv:1512.03385): degradation, its cure, and depth."""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from stages.claim import Arm, Claim, effects

_VAL, _CIFAR = "ILSVRC-2012 val", "CIFAR-10 test"
_TEN = "ten crops"
_claim = partial(Claim, paper="resnet")


def _net(model: str, name: str, shortcut: str | None = None) -> Arm:
    knobs = {} if shortcut is None else {"shortcut": shortcut}
    return Arm(name, changes={"model": model}, knobs=knobs, protocol="ten_crop_rectangle")


_PLAIN_18, _PLAIN_34 = _net("plain18", "plain-18"), _net("plain34", "plain-34")
_RES_18, _RES_34 = _net("resnet18", "ResNet-18"), _net("resnet34", "ResNet-34 A")
_RES_34_B = _net("resnet34", "ResNet-34 B", "B")
_RES_34_C = _net("resnet34", "ResNet-34 C", "C")
_RES_50, _RES_101, _RES_152 = (_net(f"resnet{n}", f"ResNet-{n}") for n in (50, 101, 152))


def _cifar(depth: int, *, plain: bool = False) -> Arm:
    """The net of section 4.2; in the smaller profiles on their own images, with the headline's recipe."""
    kind = "plain" if plain else "ResNet"
    return Arm(
        f"{kind}-{depth}",
        base={"paper": f"cifar_plain{depth}" if plain else f"cifar{depth}"},
        changes={"model": "resnet_cifar"},
        knobs={"depth": depth, "shortcut": None if plain else "A"},
        without_knobs=("width", "blocks", "image_size"),
        protocol="centre_crop",
    )


def _cifar_depth() -> Iterator[Claim]:
    # Table 6; for 110 layers the mean of five runs, the best of which has 6.43.
    errors = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.61}
    for shallow, deep in pairwise(errors):
        yield _claim(
            id=f"cifar_depth_{deep}",
            statement=f"Among residual nets for CIFAR, {deep} layers have a lower error than {shallow}.",
            source="section 4.2, Table 6",
            with_it=_cifar(deep),
            without=_cifar(shallow),
            published=effects(
                _CIFAR, "plain image", "Table 6", top1=errors[shallow] - errors[deep]
            ),
        )


CLAIMS = (
    _claim(
        id="degradation",
        statement="Among plain nets, 34 layers have a higher error than 18.",
        source="section 4.1, Table 2",
        with_it=_PLAIN_18,
        without=_PLAIN_34,
        published=effects(_VAL, _TEN, "Table 2", top1=0.60),
    ),
    _claim(
        id="degradation_training",
        statement="The cause is not overfitting: among plain nets, 34 layers also have a higher training "
        "error than 18.",
        source="section 4.1, Fig. 4",
        with_it=_PLAIN_18,
        without=_PLAIN_34,
        metric="train_error_top1",
    ),
    _claim(
        id="residual_34",
        statement="With 34 layers, the residual net has a lower error than the plain one.",
        source="section 4.1, Table 2",
        with_it=_RES_34,
        without=_PLAIN_34,
        published=effects(_VAL, _TEN, "Tables 2 and 3", top1=3.51, top5=2.26),
    ),
    _claim(
        id="residual_18",
        statement="With 18 layers, the residual net and the plain one are within half a point.",
        source="section 4.1, Table 2",
        with_it=_RES_18,
        without=_PLAIN_18,
        published=effects(_VAL, _TEN, "Table 2", top1=0.06),
        expects="equivalent",
        margin=0.5,
    ),
    _claim(
        id="depth_34",
        statement="Among residual nets, 34 layers have a lower error than 18.",
        source="section 4.1, Table 2",
        with_it=_RES_34,
        without=_RES_18,
        published=effects(_VAL, _TEN, "Table 2", top1=2.85),
    ),
    _claim(
        id="option_b",
        statement="Projections where dimensions grow (B) give a lower error than zero-padding (A).",
        source="section 4.1, Table 3",
        with_it=_RES_34_B,
        without=_RES_34,
        published=effects(_VAL, _TEN, "Table 3", top1=0.51, top5=0.30),
    ),
    _claim(
        id="option_c",
        statement="Projections everywhere (C) give a marginally lower error than where dimensions grow (B).",
        source="section 4.1, Table 3",
        with_it=_RES_34_C,
        without=_RES_34_B,
        published=effects(_VAL, _TEN, "Table 3", top1=0.33, top5=0.06),
    ),
    _claim(
        id="depth_50",
        statement="50 layers have a lower error than 34.",
        source="section 4.1, Table 3",
        with_it=_RES_50,
        without=_RES_34_B,
        published=effects(_VAL, _TEN, "Table 3", top1=1.67, top5=0.75),
    ),
    _claim(
        id="depth_101",
        statement="101 layers have a lower error than 50.",
        source="section 4.1, Table 3",
        with_it=_RES_101,
        without=_RES_50,
        published=effects(_VAL, _TEN, "Table 3", top1=1.10, top5=0.66),
    ),
    _claim(
        id="depth_152",
        statement="152 layers have a lower error than 101.",
        source="section 4.1, Table 3",
        with_it=_RES_152,
        without=_RES_101,
        published=effects(_VAL, _TEN, "Table 3", top1=0.32, top5=0.34),
    ),
    _claim(
        id="ten_crop",
        statement="Ten crops give a lower error than the centre crop.",
        source="section 3.4",
        with_it=Arm("ten crops", protocol="ten_crop_rectangle"),
        without=Arm("centre crop", protocol="centre_crop"),
        published=effects(
            _VAL,
            "ResNet-152",
            "Table 3 and the released model's README",
            top1=1.57,
            top5=0.99,
            logged=True,
        ),
    ),
    _claim(
        id="multi_scale",
        statement="Whole images at several scales give a lower error than ten crops.",
        source="section 3.4, Tables 3 and 4",
        with_it=Arm("several scales", protocol="dense_multi_scale"),
        without=Arm("ten crops", protocol="ten_crop_rectangle"),
        published=effects(_VAL, "ResNet-152", "Tables 3 and 4", top1=2.05, top5=1.22),
    ),
    _claim(
        id="cifar_degradation",
        statement="Among plain nets for CIFAR, 56 layers have a higher error than 20.",
        source="section 4.2, Fig. 1 and 6",
        with_it=_cifar(20, plain=True),
        without=_cifar(56, plain=True),
    ),
    _claim(
        id="cifar_degradation_training",
        statement="Among plain nets for CIFAR, 56 layers also have a higher training error than 20.",
        source="section 4.2, Fig. 1 and 6",
        with_it=_cifar(20, plain=True),
        without=_cifar(56, plain=True),
        metric="train_error_top1",
    ),
    *_cifar_depth(),
    _claim(
        id="cifar_depth_1202",
        statement="1202 layers can be trained, but have a higher error than 110.",
        source="section 4.2, Table 6",
        with_it=_cifar(110),
        without=_cifar(1202),
        published=effects(_CIFAR, "plain image", "Table 6", top1=1.32),
        not_comparable=dict.fromkeys(
            ("toy", "mini"), "1202 layers on images of more than 32 pixels take days"
        ),
    ),
)
