"""ResNeXt: Xie, Girshick, Dollar, Tu, He, "Aggregated residual transformations", arXiv:1611.05431.

Second in 2016. A ResNet whose bottleneck is split into ``cardinality`` paths of
``bottleneck_width`` channels: y = x + sum of paths (1 x 1, 3 x 3, 1 x 1), computed as one grouped
convolution (Fig. 3c). At 1000 classes, multiply-adds for one 224 x 224 image:

    ==================  ==========  ==============
    net                 parameters  multiply-adds
    ==================  ==========  ==============
    resnext50_32x4d     25,028,904   4,230,479,872
    resnext50_64x4d     45,192,488   7,981,236,224
    resnext101_32x4d    44,177,704   7,969,996,800
    resnext101_64x4d    83,455,272  15,460,270,080
    ==================  ==========  ==============

`resnext` builds the other settings of Tables 3 and 4; 1x64d is ResNet with its stride in the 3 x 3.
torchvision's ``resnext50_32x4d`` and ``resnext101_64x4d`` are these nets; its ``resnext101_32x8d``
is not a setting of the paper.
"""

from typing import TypedDict, Unpack

from models.fidelity import Fidelity
from models.parts.residual import Blocks, Bottleneck, Pool, Shortcut
from models.registry import register
from models.resnet import BLOCKS, DROPOUT, INITIALISATION, NORMALISATION, ResNet


class Knobs(TypedDict, total=False):
    """Knobs of every ResNeXt.

    Attributes:
        shortcut: option B (the paper's), A, C, or None for the net without shortcuts (Sect. 5.1:
            22.2 becomes 26.1% at 50 layers).
        pool: ``"padded"`` (the authors' Torch code) or ``"ceil"``.
        zero_gamma: start each block's last scale at zero; not in the paper.
        width: multiplier of all hidden channels; the number of paths stays the same.
        blocks: the blocks of conv2_x to conv5_x, instead of Table 1's; fewer for small experiments.
        image_size: see `models.resnet.ResNet`.
    """

    shortcut: Shortcut | None
    pool: Pool
    zero_gamma: bool
    width: float
    blocks: Blocks
    image_size: int


def group_width(cardinality: int, bottleneck_width: int, planes: int) -> int:
    """Channels of the grouped convolution: C d in conv2_x, doubled at each stage (Table 2)."""
    return cardinality * max(1, round(bottleneck_width * planes / 64))


@register("resnext")
def resnext(
    num_classes: int = 1000,
    *,
    depth: int = 50,
    cardinality: int = 32,
    bottleneck_width: int = 4,
    shortcut: Shortcut | None = "B",
    pool: Pool = "padded",
    zero_gamma: bool = False,
    width: float = 1.0,
    blocks: Blocks | None = None,
    image_size: int = 224,
) -> ResNet:
    """Any setting of Tables 3 and 4.

    Args:
        num_classes: length of the logits.
        depth: 50, 101 or 152 layers.
        cardinality: number of paths, C.
        bottleneck_width: channels of each path in conv2_x, d.
        shortcut: see `Knobs`.
        pool: see `Knobs`.
        zero_gamma: see `Knobs`.
        width: see `Knobs`.
        blocks: see `Knobs`.
        image_size: see `Knobs`.

    Raises:
        ValueError: there are no bottleneck nets of that depth.
    """
    if depth not in (50, 101, 152):
        raise ValueError(f"depth must be 50, 101 or 152, not {depth}")

    def unit(in_channels: int, planes: int, stride: int) -> Bottleneck:
        return Bottleneck(
            in_channels,
            planes,
            stride,
            reduce=group_width(cardinality, bottleneck_width, planes),
            groups=cardinality,
            shortcut=shortcut,
            stride_in="3x3",
        )

    return ResNet(
        unit,
        blocks or BLOCKS[depth],
        num_classes,
        pool=pool,
        zero_gamma=zero_gamma,
        width=width,
        image_size=image_size,
    )


@register("resnext50_32x4d")
def resnext50_32x4d(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """ResNeXt-50 of 32 paths of 4 channels, 25,028,904 parameters. See `Knobs`."""
    return resnext(num_classes, depth=50, cardinality=32, bottleneck_width=4, **knobs)


@register("resnext50_64x4d")
def resnext50_64x4d(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """ResNeXt-50 of 64 paths of 4 channels, 45,192,488 parameters. See `Knobs`."""
    return resnext(num_classes, depth=50, cardinality=64, bottleneck_width=4, **knobs)


@register("resnext101_32x4d")
def resnext101_32x4d(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """ResNeXt-101 of 32 paths of 4 channels, 44,177,704 parameters. See `Knobs`."""
    return resnext(num_classes, depth=101, cardinality=32, bottleneck_width=4, **knobs)


@register("resnext101_64x4d")
def resnext101_64x4d(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """ResNeXt-101 of 64 paths of 4 channels, 83,455,272 parameters. See `Knobs`."""
    return resnext(num_classes, depth=101, cardinality=64, bottleneck_width=4, **knobs)


_ROWS = (
    Fidelity(
        "layers and channels",
        "same",
        "blocks of ResNet, width C d",
        "Table 1, Table 2",
        checked="parameters of every setting: test_resnext.test_every_setting_of_the_sheet",
    ),
    Fidelity(
        "block",
        "same",
        "three equivalent forms",
        "Fig. 3",
        "the grouped convolution (c), the form the authors ran",
        checked="test_resnext.test_a_block_is_the_sum_of_its_paths",
    ),
    NORMALISATION,
    Fidelity(
        "shortcuts",
        "same",
        "option B",
        "Sect. 4",
        checked="parameters: test_resnext.test_every_setting_of_the_sheet",
    ),
    Fidelity(
        "place of the stride",
        "same",
        "3 x 3 convolution",
        "Sect. 4",
        checked="test_resnext.test_stride_is_in_the_grouped_convolution",
    ),
    Fidelity(
        "max pool",
        "same",
        "3 x 3, stride 2, padded",
        "Table 1; fb.resnet.torch, models/resnet.lua",
        checked=(
            "the same function as torchvision's net, whose pool is Torch's: "
            "test_resnext.test_equals_torchvisions_net_of_that_name"
        ),
    ),
    *INITIALISATION,
    DROPOUT,
)
FIDELITY: dict[str, tuple[Fidelity, ...]] = {
    "resnext": _ROWS,
    "resnext50_32x4d": _ROWS,
    "resnext50_64x4d": _ROWS,
    "resnext101_32x4d": _ROWS,
    "resnext101_64x4d": _ROWS,
}
