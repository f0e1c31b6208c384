"""Pre-activation ResNet-200: He et al., "Identity mappings in deep residual networks", 1603.05027.

A member of the 2016 winner's ensemble. Blocks 3-24-36-3 of bottleneck units; 64,666,152 parameters
at 1000 classes, 15,007,481,856 multiply-adds for one 224 x 224 image.

BN, ReLU, convolution three times, and nothing after the addition (Fig. 1b). As in the authors' code
for CIFAR (KaimingHe/resnet-1k-layers, resnet-pre-act.lua), a unit that changes the number of channels
activates its input once, for its branch and for its projection, and the projection has no batch norm.
The first unit takes the activation right after conv1, and one more follows the last unit (appendix).

The ImageNet net whose weights the authors' README links is fb.resnet.torch's (models/preresnet.lua since
30 April 2016): the same units with the stride in the 3 x 3 convolution, and a padded max pool.

timm's ``resnetv2`` family has no activation after conv1 and pools before the first unit's norm.
"""

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from models.fidelity import Fidelity
from models.parts.residual import (
    Blocks,
    Pool,
    StrideIn,
    Unit,
    conv,
    initialise,
    make_stage,
    max_pool,
    stage_planes,
)
from models.registry import register


class PreActBottleneck(Unit):
    """x + F(x), where F is three times BN, ReLU, convolution (Fig. 1b, Fig. 4e).

    Args:
        in_channels: channels of the input.
        planes: a quarter of the output's channels.
        stride: the unit's stride.
        stride_in: which convolution has the stride.
        activate: False if the input has been activated already.
    """

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        *,
        stride_in: StrideIn = "3x3",
        activate: bool = True,
    ) -> None:
        super().__init__()
        if stride_in not in ("1x1", "3x3"):
            raise ValueError(f"stride_in must be '1x1' or '3x3', not {stride_in!r}")
        self.out_channels = 4 * planes
        strides = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.bn1 = nn.BatchNorm2d(in_channels) if activate else None
        self.conv1 = conv(in_channels, planes, 1, strides[0])
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = conv(planes, planes, 3, strides[1])
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = conv(planes, self.out_channels, 1)
        self.projection = (
            conv(in_channels, self.out_channels, 1, stride)
            if in_channels != self.out_channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        activated = x if self.bn1 is None else F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.projection is None else self.projection(activated)
        y = F.relu(self.bn2(self.conv1(activated)), inplace=True)
        y = F.relu(self.bn3(self.conv2(y)), inplace=True)
        return self.conv3(y) + shortcut


class PreActResNet(nn.Module):
    """The ImageNet net of pre-activation units.

    Args:
        blocks: number of units in conv2_x, conv3_x, conv4_x, conv5_x.
        num_classes: length of the logits.
        stride_in: which convolution of a unit has the stride.
        pool: the max pool of the stem, see `models.parts.residual.max_pool`.
        width: multiplier of all hidden channels.
    """

    input_size = 224

    def __init__(
        self,
        blocks: Blocks,
        num_classes: int = 1000,
        *,
        stride_in: StrideIn = "3x3",
        pool: Pool = "padded",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        planes = stage_planes(width)
        stem = planes[0]

        def unit(in_channels: int, planes: int, stride: int) -> PreActBottleneck:
            # Only the first unit's input comes from the stem, which has activated it.
            activate = in_channels != stem
            return PreActBottleneck(
                in_channels, planes, stride, stride_in=stride_in, activate=activate
            )

        self.conv1 = conv(3, stem, 7, 2)
        self.bn1 = nn.BatchNorm2d(stem)
        self.pool1 = max_pool(pool)
        self.conv2_x, channels = make_stage(unit, blocks[0], stem, planes[0], 1)
        self.conv3_x, channels = make_stage(unit, blocks[1], channels, planes[1], 2)
        self.conv4_x, channels = make_stage(unit, blocks[2], channels, planes[2], 2)
        self.conv5_x, channels = make_stage(unit, blocks[3], channels, planes[3], 2)
        self.bn5 = nn.BatchNorm2d(channels)
        self.pool5 = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """He initialisation from ``generator``, or from torch's global one."""
        initialise(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) images, any size, to (N, num_classes) logits."""
        x = self.pool1(F.relu(self.bn1(self.conv1(x)), inplace=True))
        x = self.conv5_x(self.conv4_x(self.conv3_x(self.conv2_x(x))))
        x = F.relu(self.bn5(x), inplace=True)
        return self.fc(self.pool5(x).flatten(1))


@register("preact_resnet200")
def preact_resnet200(
    num_classes: int = 1000,
    *,
    stride_in: StrideIn = "3x3",
    pool: Pool = "padded",
    width: float = 1.0,
    blocks: Blocks = (3, 24, 36, 3),
) -> PreActResNet:
    """ResNet-200 with pre-activation: 64,666,152 parameters. Arguments as for `PreActResNet`."""
    return PreActResNet(blocks, num_classes, stride_in=stride_in, pool=pool, width=width)


_FB = "fb.resnet.torch, models/preresnet.lua, whose ResNet-200 the authors' README links"
FIDELITY: dict[str, tuple[Fidelity, ...]] = {
    "preact_resnet200": (
        Fidelity(
            "layers and channels",
            "same",
            "ResNet-152 with 16 more units at 28 x 28: 3-24-36-3",
            "Sect. 5, footnote",
            checked=(
                "parameters and multiply-adds: test_resnet.test_preact_parameters_and_multiply_adds"
            ),
        ),
        Fidelity(
            "order in a unit",
            "same",
            "BN, ReLU, convolution; sum unchanged",
            "Fig. 4e",
            checked="test_resnet.test_nothing_follows_the_addition_in_a_preactivation_unit",
        ),
        Fidelity(
            "first and last activation",
            "same",
            "right after conv1; one more after the last addition",
            "appendix",
            checked="test_resnet.test_the_stem_activates_for_the_first_preactivation_unit",
        ),
        Fidelity(
            "projection shortcuts",
            "same",
            "of the activated input, no batch norm",
            _FB,
            checked="test_resnet.test_the_projection_of_a_preactivation_unit_sees_the_activated_input",
        ),
        Fidelity(
            "place of the stride",
            "same",
            "3 x 3 convolution",
            _FB,
            "the authors' code for CIFAR has it in the first 1 x 1: stride_in='1x1'",
            checked="multiply-adds: test_resnet.test_preact_parameters_and_multiply_adds",
        ),
        Fidelity(
            "max pool",
            "same",
            "3 x 3, stride 2, padded",
            _FB,
            checked="test_authors_numbers.test_the_recipe_has_the_authors_number",
        ),
        Fidelity(
            "initialisation",
            "same",
            "He normal, n = kernel area times output channels",
            "KaimingHe/resnet-1k-layers, resnet-pre-act.lua",
            checked="test_resnet.test_he_initialisation_with_fan_out",
        ),
    ),
}
