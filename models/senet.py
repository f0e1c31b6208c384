"""SENet: Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-excitation networks", arXiv:1709.01507.

The 2017 winner. At 1000 classes, multiply-adds for one 224 x 224 image:

    ======================  ===========  ==============
    net                     parameters   multiply-adds
    ======================  ===========  ==============
    se_resnet50              28,088,024   3,860,488,192
    se_resnet101             49,326,872   7,574,937,600
    se_resnet152             66,821,848  11,288,993,792
    se_resnext50_32x4d       27,559,896   4,232,994,816
    se_resnext101_32x4d      48,955,416   7,974,739,968
    senet154                115,088,984  20,688,363,520
    ======================  ===========  ==============

Geometry of the authors' released models (hujie-frank/SENet, models/*.prototxt). SENet-154 is
SE-ResNeXt-152 64x4d with three 3 x 3 convolutions for a stem, half as many channels into the
grouped convolutions, 3 x 3 projections with stride, and dropout (appendix). timm's ``legacy_se*``
and ``legacy_senet154`` are the same functions, except that all of them drop 20 % of the classifier's
inputs in training; torchvision has none of these nets.
"""

from collections.abc import Callable
from typing import Any, Literal, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fidelity import Fidelity
from models.parts.residual import Blocks, Bottleneck, Pool, StrideIn, stage_planes
from models.registry import register
from models.resnet import BLOCKS, INITIALISATION, NORMALISATION, ResNet
from models.resnext import group_width

Squeeze = Literal["average", "max", "none"]
Gate = Literal["sigmoid", "tanh", "relu"]
Place = Literal["standard", "pre", "post", "identity", "3x3"]

GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
}


class SqueezeExcitation(nn.Module):
    """x scaled by gate(W2 relu(W1 squeeze(x))), channel by channel (eq. 2 to 4).

    Args:
        channels: channels of the input.
        reduction: ratio r of channels to the units between W1 and W2 (Table 10).
        squeeze: average or maximum of the map (Table 11), or none: W1 and W2 then act at each
            pixel as 1 x 1 convolutions (Table 16).
        gate: the last non-linearity (Table 12).
        bias: whether W1 and W2 have biases, as the released models do; the paper drops them
            (Sect. 6).

    Raises:
        ValueError: there is no such choice.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        squeeze: Squeeze = "average",
        gate: Gate = "sigmoid",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, not {reduction}")
        if squeeze not in ("average", "max", "none"):
            raise ValueError(f"squeeze must be 'average', 'max' or 'none', not {squeeze!r}")
        if gate not in GATES:
            raise ValueError(f"gate must be 'sigmoid', 'tanh' or 'relu', not {gate!r}")
        units = max(1, channels // reduction)
        self.squeeze = squeeze
        self.gate = GATES[gate]
        self.fc1 = nn.Conv2d(channels, units, 1, bias=bias)
        self.fc2 = nn.Conv2d(units, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same shape."""
        z = x
        if self.squeeze == "average":
            z = x.mean((2, 3), keepdim=True)
        elif self.squeeze == "max":
            z = x.amax((2, 3), keepdim=True)
        return x * self.gate(self.fc2(F.relu(self.fc1(z), inplace=True)))


class SEBottleneck(Bottleneck):
    """A bottleneck with squeeze-and-excitation.

    Args:
        in_channels: channels of the input.
        planes: a quarter of the output's channels.
        stride: the block's stride.
        place: where the excitation goes (Sect. 6.5, Fig. 5): after the last batch norm ("standard"), before
            the branch ("pre"), after the block's last ReLU ("post"), on the shortcut ("identity"),
            or after the 3 x 3 convolution, its batch norm and ReLU ("3x3", Table 15).
        excitation: all arguments of `SqueezeExcitation` but the first.
        **geometry: the other arguments of `Bottleneck`.

    Raises:
        ValueError: there is no such place.
    """

    shortcut: nn.Module

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        *,
        place: Place,
        excitation: dict[str, Any],
        **geometry: Any,
    ) -> None:
        super().__init__(in_channels, planes, stride, **geometry)
        channels = {
            "standard": self.out_channels,
            "pre": in_channels,
            "post": self.out_channels,
            "identity": self.out_channels,
            "3x3": self.conv2.out_channels,
        }
        if place not in channels:
            raise ValueError(f"place must be one of {', '.join(channels)}, not {place!r}")
        self.place = place
        self.se = SqueezeExcitation(channels[place], **excitation)

    def _at(self, place: Place, x: Tensor) -> Tensor:
        return self.se(x) if place == self.place else x

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        y = self._at("pre", x)
        y = F.relu(self.bn1(self.conv1(y)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(self._at("3x3", y)))
        y = self._at("standard", y)
        y += self._at("identity", self.shortcut(x))
        return self._at("post", F.relu(y, inplace=True))


class Knobs(TypedDict, total=False):
    """Knobs of every net in this file.

    Attributes:
        se: False builds the net without squeeze-and-excitation, the paper's own baseline (Table 2);
            it takes none of the next six.
        reduction: ratio r (Table 10), 16.
        squeeze: average, max or none (Tables 11 and 16).
        gate: sigmoid, tanh or relu (Table 12).
        bias: whether the two layers have biases.
        place: standard, pre, post, identity or 3x3 (Tables 14 and 15).
        stages: which of conv2_x to conv5_x have it (Table 13).
        stride_in: the convolution with the stride: first 1x1 in SE-ResNet, 3x3 in the others.
        pool: ``"ceil"`` (the released models) or ``"padded"``.
        zero_gamma: start each block's last scale at zero; not in the paper.
        width: multiplier of all hidden channels; the number of groups stays the same.
        blocks: the blocks of conv2_x to conv5_x, instead of the depth's; fewer for small experiments.
        image_size: see `models.resnet.ResNet`.
    """

    se: bool
    reduction: int
    squeeze: Squeeze
    gate: Gate
    bias: bool
    place: Place
    stages: tuple[int, ...]
    stride_in: StrideIn
    pool: Pool
    zero_gamma: bool
    width: float
    blocks: Blocks
    image_size: int


def _senet(
    layers: int,
    num_classes: int,
    geometry: Callable[[int], dict[str, Any]],
    *,
    se: bool = True,
    stages: tuple[int, ...] | None = None,
    place: Place | None = None,
    pool: Pool = "ceil",
    zero_gamma: bool = False,
    width: float = 1.0,
    blocks: Blocks | None = None,
    image_size: int = 224,
    deep_stem: bool = False,
    dropout: float = 0.0,
    **excitation: Any,
) -> ResNet:
    """The net whose blocks are ``Bottleneck(..., **geometry(planes))``, with the excitation."""
    if not se and (stages or place or excitation):
        raise ValueError("a net with se=False has no squeeze-and-excitation to change")
    stages = (2, 3, 4, 5) if stages is None else stages
    if not stages or not set(stages) <= {2, 3, 4, 5}:
        raise ValueError(f"stages must be some of 2, 3, 4, 5, not {stages}")
    excited = [stage_planes(width)[stage - 2] for stage in stages]

    def unit(in_channels: int, planes: int, stride: int) -> Bottleneck:
        if not se or planes not in excited:
            return Bottleneck(in_channels, planes, stride, **geometry(planes))
        return SEBottleneck(
            in_channels,
            planes,
            stride,
            place=place or "standard",
            excitation=excitation,
            **geometry(planes),
        )

    return ResNet(
        unit,
        blocks or BLOCKS[layers],
        num_classes,
        width=width,
        pool=pool,
        zero_gamma=zero_gamma,
        deep_stem=deep_stem,
        dropout=dropout,
        image_size=image_size,
    )


def _se_resnet(layers: int, num_classes: int, stride_in: StrideIn = "1x1", **knobs: Any) -> ResNet:
    return _senet(layers, num_classes, lambda planes: {"stride_in": stride_in}, **knobs)


def _se_resnext(layers: int, num_classes: int, stride_in: StrideIn = "3x3", **knobs: Any) -> ResNet:
    def geometry(planes: int) -> dict[str, Any]:
        return {"reduce": group_width(32, 4, planes), "groups": 32, "stride_in": stride_in}

    return _senet(layers, num_classes, geometry, **knobs)


def _senet154(num_classes: int, stride_in: StrideIn = "3x3", **knobs: Any) -> ResNet:
    def geometry(planes: int) -> dict[str, Any]:
        return {
            "reduce": group_width(64, 2, planes),
            "middle": group_width(64, 4, planes),
            "groups": 64,
            "projection": 3,
            "stride_in": stride_in,
        }

    return _senet(152, num_classes, geometry, deep_stem=True, **knobs)


@register("se_resnet50")
def se_resnet50(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """SE-ResNet-50, 28,088,024 parameters. See `Knobs`."""
    return _se_resnet(50, num_classes, **knobs)


@register("se_resnet101")
def se_resnet101(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """SE-ResNet-101, 49,326,872 parameters. See `Knobs`."""
    return _se_resnet(101, num_classes, **knobs)


@register("se_resnet152")
def se_resnet152(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """SE-ResNet-152, 66,821,848 parameters. See `Knobs`."""
    return _se_resnet(152, num_classes, **knobs)


@register("se_resnext50_32x4d")
def se_resnext50_32x4d(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """SE-ResNeXt-50 32x4d, 27,559,896 parameters. See `Knobs`."""
    return _se_resnext(50, num_classes, **knobs)


@register("se_resnext101_32x4d")
def se_resnext101_32x4d(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """SE-ResNeXt-101 32x4d, 48,955,416 parameters. See `Knobs`."""
    return _se_resnext(101, num_classes, **knobs)


@register("senet154")
def senet154(num_classes: int = 1000, *, dropout: float = 0.2, **knobs: Unpack[Knobs]) -> ResNet:
    """SENet-154, 115,088,984 parameters; ``dropout`` drops inputs of the classifier. See `Knobs`."""
    return _senet154(num_classes, dropout=dropout, **knobs)


_RELEASE = "hujie-frank/SENet, models/*.prototxt"
_ROWS = (
    Fidelity(
        "squeeze-and-excitation",
        "same",
        "average, two layers with ratio 16, sigmoid; after the last batch norm of each block",
        "Sect. 3, Table 1",
        checked=(
            "test_senet.test_excitation_widths_of_table_1, "
            "test_senet.test_excitation_scales_whole_channels_by_what_it_sees_of_all"
        ),
    ),
    Fidelity(
        "biases of the excitation",
        "same",
        "kept in the released models",
        _RELEASE,
        "Sect. 6 of the paper drops them: bias=False",
        checked="parameters: test_senet.test_cost_of_the_excitation",
    ),
    NORMALISATION,
    *INITIALISATION,
    Fidelity(
        "shortcuts",
        "same",
        "option B",
        _RELEASE,
        checked=(
            "the same function as timm's net, which loads the released weights: "
            "test_senet.test_equals_timms_net"
        ),
    ),
    Fidelity(
        "max pool",
        "same",
        "3 x 3, stride 2, unpadded and ceiled",
        _RELEASE,
        checked="test_senet.test_equals_timms_net",
    ),
)
_RESNET = (
    Fidelity(
        "layers and channels",
        "same",
        "ResNet",
        "Table 1",
        checked="parameters and multiply-adds: test_senet.test_parameters_and_multiply_adds",
    ),
    Fidelity(
        "place of the stride",
        "same",
        "first 1 x 1 convolution",
        _RELEASE,
        checked="test_senet.test_place_of_the_stride",
    ),
    *_ROWS,
)
_RESNEXT = (
    Fidelity(
        "layers and channels",
        "same",
        "ResNeXt 32x4d",
        "Table 1",
        checked="parameters and multiply-adds: test_senet.test_parameters_and_multiply_adds",
    ),
    Fidelity(
        "place of the stride",
        "same",
        "3 x 3 convolution",
        _RELEASE,
        checked="test_senet.test_place_of_the_stride",
    ),
    *_ROWS,
)
FIDELITY: dict[str, tuple[Fidelity, ...]] = {
    "se_resnet50": _RESNET,
    "se_resnet101": _RESNET,
    "se_resnet152": _RESNET,
    "se_resnext50_32x4d": _RESNEXT,
    "se_resnext101_32x4d": _RESNEXT,
    "senet154": (
        Fidelity(
            "layers and channels",
            "same",
            "SE-ResNeXt-152 64x4d, first 1 x 1 of half the width",
            "appendix",
            checked="parameters and multiply-adds: test_senet.test_parameters_and_multiply_adds",
        ),
        Fidelity(
            "stem",
            "same",
            "3 x 3 stride 2, 64; 3 x 3, 64; 3 x 3, 128",
            "appendix",
            checked="test_senet.test_layer_table_of_senet154",
        ),
        Fidelity(
            "projection shortcuts",
            "same",
            "3 x 3 where there is stride",
            "appendix",
            checked="test_senet.test_layer_table_of_senet154",
        ),
        Fidelity(
            "dropout",
            "same",
            "0.2 before the classifier",
            "appendix",
            checked="test_senet.test_dropout_only_in_senet154",
        ),
        Fidelity(
            "place of the stride",
            "same",
            "3 x 3 convolution",
            _RELEASE,
            checked="test_senet.test_place_of_the_stride",
        ),
        *_ROWS,
    ),
}
