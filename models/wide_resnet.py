"""Wide ResNets: Zagoruyko, Komodakis, "Wide residual networks", arXiv:1605.07146.

The ImageNet bottleneck nets, whose 3 x 3 convolutions are ``widen`` times as wide as ResNet's. At
1000 classes, multiply-adds for one 224 x 224 image:

    ================  ===========  ==============
    net               parameters   multiply-adds
    ================  ===========  ==============
    wide_resnet50_2    68,883,240  11,398,021,120
    wide_resnet68_2    89,355,048  15,405,678,592
    wide_resnet68_3   176,162,344  30,498,619,392
    ================  ===========  ==============

`wide_resnet50_2` is the paper's (szagoruyko/wide-residual-networks, pretrained/wide-resnet.lua);
torchvision's net of that name is the same function. The 2016 winner's slides name a "WRN-68-3" (one
review prints "WRN-68-2"), of which no definition was published: ours has the 22 bottleneck blocks
that 68 layers allow, ResNet-50 with conv4_x lengthened as in every deeper ResNet.
"""

from typing import TypedDict, Unpack

from models.fidelity import Fidelity
from models.parts.residual import Blocks, Bottleneck, Pool
from models.registry import register
from models.resnet import BLOCKS, DROPOUT, NORMALISATION, ResNet

BLOCKS_68 = (3, 4, 12, 3)


class Knobs(TypedDict, total=False):
    """Knobs of every wide ResNet.

    Attributes:
        pool: ``"padded"`` (the authors' Torch code) or ``"ceil"``.
        zero_gamma: start each block's last scale at zero; not in the paper.
        width: multiplier of all hidden channels, including the wide ones.
        blocks: the blocks of conv2_x to conv5_x, instead of the depth's; fewer for small experiments.
        image_size: see `models.resnet.ResNet`.
    """

    pool: Pool
    zero_gamma: bool
    width: float
    blocks: Blocks
    image_size: int


def _wide(
    depth: Blocks,
    widen: int,
    num_classes: int,
    pool: Pool = "padded",
    zero_gamma: bool = False,
    width: float = 1.0,
    blocks: Blocks | None = None,
    image_size: int = 224,
) -> ResNet:
    def unit(in_channels: int, planes: int, stride: int) -> Bottleneck:
        return Bottleneck(in_channels, planes, stride, reduce=widen * planes, stride_in="3x3")

    return ResNet(
        unit,
        blocks or depth,
        num_classes,
        pool=pool,
        zero_gamma=zero_gamma,
        width=width,
        he_mode="fan_in",
        image_size=image_size,
    )


@register("wide_resnet50_2")
def wide_resnet50_2(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """WRN-50-2-bottleneck, 68,883,240 parameters. See `Knobs`."""
    return _wide(BLOCKS[50], 2, num_classes, **knobs)


@register("wide_resnet68_2")
def wide_resnet68_2(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """Our reading of the name "WRN-68-2". See `Knobs`."""
    return _wide(BLOCKS_68, 2, num_classes, **knobs)


@register("wide_resnet68_3")
def wide_resnet68_3(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """Our reading of the name "WRN-68-3". See `Knobs`."""
    return _wide(BLOCKS_68, 3, num_classes, **knobs)


_SOURCE = "szagoruyko/wide-residual-networks, pretrained/wide-resnet.lua"
_ROWS = (
    NORMALISATION,
    Fidelity(
        "shortcuts",
        "same",
        "option B",
        _SOURCE,
        checked="parameters: test_resnext.test_parameters_and_multiply_adds",
    ),
    Fidelity(
        "place of the stride",
        "same",
        "3 x 3 convolution",
        _SOURCE,
        checked="multiply-adds: test_resnext.test_parameters_and_multiply_adds",
    ),
    Fidelity(
        "max pool",
        "same",
        "3 x 3, stride 2, padded",
        _SOURCE,
        checked=(
            "the same function as torchvision's net: "
            "test_resnext.test_equals_torchvisions_net_of_that_name"
        ),
    ),
    Fidelity(
        "initialisation",
        "same",
        "He normal, n = kernel area times input channels",
        _SOURCE,
        checked="test_resnext.test_wide_resnet_is_initialised_by_fan_in",
    ),
    DROPOUT,
)
_NOT_PUBLISHED = Fidelity(
    "layers and channels",
    "not stated",
    "a name on the 2016 winner's slides",
    "Trimps-Soushen, workshop slides 2016",
    "blocks 3-4-12-3, inner widths as in wide_resnet50_2",
)
FIDELITY: dict[str, tuple[Fidelity, ...]] = {
    "wide_resnet50_2": (
        Fidelity(
            "layers and channels",
            "same",
            "Table 8",
            _SOURCE,
            checked="parameters and multiply-adds: test_resnext.test_parameters_and_multiply_adds",
        ),
        *_ROWS,
    ),
    "wide_resnet68_2": (_NOT_PUBLISHED, *_ROWS),
    "wide_resnet68_3": (_NOT_PUBLISHED, *_ROWS),
}
