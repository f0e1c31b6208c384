"""ResNet: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv:1512.03385.

The 2015 winner. Table 1 for ImageNet; multiply-adds for one 224 x 224 image, at 1000 classes:

    ======  =====================  ========  =============  ==============
    layers  blocks of conv2_x-5_x  shortcut  parameters     multiply-adds
    ======  =====================  ========  =============  ==============
    18      2, 2, 2, 2  basic      A         11,515,688      1,794,805,760
    34      3, 4, 6, 3  basic      A         21,623,848      3,644,493,824
    50      3, 4, 6, 3  bottleneck B         25,557,032      3,857,973,248
    101     3, 4, 23, 3 bottleneck B         44,549,160      7,570,194,432
    152     3, 8, 36, 3 bottleneck B         60,192,808     11,282,415,616
    ======  =====================  ========  =============  ==============

The plain nets of 18 and 34 layers are the same without shortcuts; option A adds no parameters, so
they count the same. Where the paper is silent, the authors' released Caffe models decide.

torchvision's nets of these names are another release, "v1.5": stride in the 3 x 3 convolution of a
bottleneck, not in its first 1 x 1 (+0.23 G multiply-adds, about half a point of top-1 error), a
padded max pool, and option B at 18 and 34 layers as well. ``stride_in="3x3", pool="padded",
shortcut="B"`` is that net, weight for weight.
"""

from functools import partial
from typing import Literal, TypedDict, Unpack

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from models.fidelity import Fidelity
from models.parts.residual import (
    BasicBlock,
    Blocks,
    Bottleneck,
    MakeUnit,
    Pool,
    Shortcut,
    StrideIn,
    conv,
    initialise,
    make_stage,
    max_pool,
    stage_planes,
)
from models.registry import register

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class ResNet(nn.Module):
    """Table 1: a stem, four stages of blocks, global average pool and a linear classifier.

    Args:
        unit: makes one block, see `models.parts.residual.MakeUnit`.
        blocks: number of blocks in conv2_x, conv3_x, conv4_x, conv5_x.
        num_classes: length of the logits.
        width: multiplier of all hidden channels.
        pool: the max pool of the stem, see `max_pool`.
        zero_gamma: start each block's last scale at zero. Not in this paper: it comes from
            Goyal et al., arXiv:1706.02677, Sect. 5.1.
        deep_stem: three 3 x 3 convolutions in place of the 7 x 7 (SENet-154).
        dropout: probability of dropping an input of the classifier.
        he_mode: the n of the He initialisation, see `initialise`.
        image_size: side in pixels of the crops that it is trained on, which decides the windows of
            `dense`; `forward` takes any size.

    Raises:
        ValueError: `zero_gamma` is set without shortcuts, or there is no such choice.
    """

    def __init__(
        self,
        unit: MakeUnit,
        blocks: Blocks,
        num_classes: int = 1000,
        *,
        width: float = 1.0,
        pool: Pool = "ceil",
        zero_gamma: bool = False,
        deep_stem: bool = False,
        dropout: float = 0.0,
        he_mode: Literal["fan_in", "fan_out"] = "fan_out",
        image_size: int = 224,
    ) -> None:
        super().__init__()
        self.input_size = image_size
        self.zero_gamma = zero_gamma
        self.he_mode = he_mode
        planes = stage_planes(width)
        channels = 2 * planes[0] if deep_stem else planes[0]
        self.conv1: nn.Module = (
            nn.Sequential(
                conv(3, planes[0], 3, 2),
                nn.BatchNorm2d(planes[0]),
                nn.ReLU(inplace=True),
                conv(planes[0], planes[0], 3),
                nn.BatchNorm2d(planes[0]),
                nn.ReLU(inplace=True),
                conv(planes[0], channels, 3),
            )
            if deep_stem
            else conv(3, channels, 7, 2)
        )
        self.bn1 = nn.BatchNorm2d(channels)
        self.pool1 = max_pool(pool)
        self.conv2_x, channels = make_stage(unit, blocks[0], channels, planes[0], 1)
        self.conv3_x, channels = make_stage(unit, blocks[1], channels, planes[1], 2)
        self.conv4_x, channels = make_stage(unit, blocks[2], channels, planes[2], 2)
        self.conv5_x, channels = make_stage(unit, blocks[3], channels, planes[3], 2)
        self.pool5 = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Call `initialise` with ``generator``, or with torch's global one."""
        initialise(self, generator, zero_gamma=self.zero_gamma, mode=self.he_mode)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) images, any size, to (N, num_classes) logits."""
        return self.fc(self.dropout(self.pool5(self._last_map(x)).flatten(1)))

    def dense(self, x: Tensor) -> Tensor:
        """Class scores at every position of a larger image (Sect. 3.4: "fully-convolutional form").

        The released models end in a 7 x 7 average pool with stride 1, the last map of a crop of 224, and
        a classifier: on a larger map, the classifier at each of that pool's windows.

        Args:
            x: (N, 3, H, W) images with both sides at least ``image_size``.

        Returns:
            (N, num_classes, h, w) scores; at image_size 224, h is ``ceil(H / 32) - 6``.

        Raises:
            ValueError: the image is smaller than a window.
        """
        window = -(-self.input_size // 32)
        last = self._last_map(x)
        if min(last.shape[2:]) < window:
            raise ValueError(
                f"a window covers {window} x {window} positions of the last map, this image leaves "
                f"{last.shape[2]} x {last.shape[3]}"
            )
        pooled = F.avg_pool2d(last, window, 1).movedim(1, -1)
        return self.fc(self.dropout(pooled)).movedim(-1, 1)

    def _last_map(self, x: Tensor) -> Tensor:
        x = self.pool1(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return self.conv5_x(self.conv4_x(self.conv3_x(self.conv2_x(x))))


class Knobs(TypedDict, total=False):
    """Knobs of every net of Table 1.

    Attributes:
        pool: ``"ceil"`` (the released models) or ``"padded"`` (torchvision), see `max_pool`.
        zero_gamma: start each block's last scale at zero; not in the paper.
        width: multiplier of all hidden channels.
        blocks: the blocks of conv2_x to conv5_x, instead of Table 1's; fewer for small experiments.
        image_size: see `ResNet`.
    """

    pool: Pool
    zero_gamma: bool
    width: float
    blocks: Blocks
    image_size: int


class BottleneckKnobs(Knobs, total=False):
    """Knobs of the bottleneck nets.

    Attributes:
        shortcut: option B (the paper's for these nets), A, C, or None for the net without
            shortcuts (ResNeXt's Sect. 5.1: 23.9 becomes 31.2% at 50 layers).
        stride_in: ``"1x1"`` or ``"3x3"``, see `Bottleneck`.
    """

    shortcut: Shortcut | None
    stride_in: StrideIn


def _basic(
    layers: int,
    num_classes: int,
    shortcut: Shortcut | None,
    **knobs: Unpack[Knobs],
) -> ResNet:
    knobs.setdefault("blocks", BLOCKS[layers])
    return ResNet(partial(BasicBlock, shortcut=shortcut), num_classes=num_classes, **knobs)


def _bottleneck(
    layers: int,
    num_classes: int,
    shortcut: Shortcut | None = "B",
    stride_in: StrideIn = "1x1",
    **knobs: Unpack[Knobs],
) -> ResNet:
    knobs.setdefault("blocks", BLOCKS[layers])
    unit = partial(Bottleneck, shortcut=shortcut, stride_in=stride_in)
    return ResNet(unit, num_classes=num_classes, **knobs)


@register("resnet18")
def resnet18(
    num_classes: int = 1000, *, shortcut: Shortcut | None = "A", **knobs: Unpack[Knobs]
) -> ResNet:
    """ResNet-18: 11,515,688 parameters with option A (Table 2), B 11,689,512, C 12,043,816."""
    return _basic(18, num_classes, shortcut, **knobs)


@register("resnet34")
def resnet34(
    num_classes: int = 1000, *, shortcut: Shortcut | None = "A", **knobs: Unpack[Knobs]
) -> ResNet:
    """ResNet-34: 21,623,848 parameters with option A (Table 2), B 21,797,672, C 22,716,840."""
    return _basic(34, num_classes, shortcut, **knobs)


@register("plain18")
def plain18(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """ResNet-18 without its shortcuts, 11,515,688 parameters."""
    return _basic(18, num_classes, None, **knobs)


@register("plain34")
def plain34(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> ResNet:
    """ResNet-34 without its shortcuts, 21,623,848 parameters."""
    return _basic(34, num_classes, None, **knobs)


@register("resnet50")
def resnet50(num_classes: int = 1000, **knobs: Unpack[BottleneckKnobs]) -> ResNet:
    """ResNet-50: 25,557,032 parameters with option B, A 22,780,456, C 40,128,552."""
    return _bottleneck(50, num_classes, **knobs)


@register("resnet101")
def resnet101(num_classes: int = 1000, **knobs: Unpack[BottleneckKnobs]) -> ResNet:
    """ResNet-101: 44,549,160 parameters with option B."""
    return _bottleneck(101, num_classes, **knobs)


@register("resnet152")
def resnet152(num_classes: int = 1000, **knobs: Unpack[BottleneckKnobs]) -> ResNet:
    """ResNet-152: 60,192,808 parameters with option B."""
    return _bottleneck(152, num_classes, **knobs)


GEOMETRY = Fidelity(
    "layers and channels",
    "same",
    "Table 1",
    "Sect. 3.3, Table 1",
    checked=(
        "parameters and multiply-adds: test_resnet.test_parameters_and_multiply_adds_of_the_sheet"
    ),
)
NORMALISATION = Fidelity(
    "batch normalisation",
    "same",
    "right after each convolution, before the activation",
    "Sect. 3.4",
    "averages for tests are running ones until a recipe's true_statistics replaces them by averages over a "
    "large training batch, as the authors' are",
    checked=(
        "epsilon, share of the running averages and their unbiased variance are "
        "Torch's: test_lookalikes.test_batch_norm_is_torch7s; the released nets' "
        "averages load: test_caffe.test_normalisation_and_conv1_bias_by_hand"
    ),
)
INITIALISATION = (
    Fidelity(
        "initialisation of convolutions",
        "same",
        "He normal, std sqrt(2/n)",
        "Sect. 3.4; arXiv:1502.01852 allows fan-in and fan-out",
        "n = kernel area times output channels, as in fb.resnet.torch",
        checked="measured on the network: test_resnet.test_he_initialisation_with_fan_out",
    ),
    Fidelity(
        "initialisation of the classifier",
        "not stated",
        "",
        "Sect. 3.4",
        "fb.resnet.torch: uniform within 1/sqrt(fan-in), bias 0",
    ),
    Fidelity(
        "last batch norm scale of a block",
        "same",
        "1",
        "fb.resnet.torch, models/resnet.lua",
        "zero_gamma comes from Goyal et al. 2017",
        checked="test_resnet.test_zero_gamma_only_when_asked",
    ),
)
DROPOUT = Fidelity(
    "dropout",
    "same",
    "none",
    "Sect. 3.4",
    checked="test_authors_numbers.test_the_recipe_has_the_authors_number",
)
_HEAD = Fidelity(
    "head",
    "same",
    "global average pool, 1000-way fc, softmax",
    "Sect. 3.3",
    checked=(
        "test_resnet.test_layer_table; of whole images: "
        "test_resnet.test_dense_classifies_every_window_of_the_last_map"
    ),
)
_POOL = Fidelity(
    "max pool",
    "same",
    "3 x 3, stride 2; unpadded and ceiled in the released models",
    "Table 1; KaimingHe/deep-residual-networks, prototxt",
    checked="test_resnet.test_ceil_pool_covers_the_last_pixel_and_starts_at_the_first",
)
_PROJECTION_NORM = Fidelity(
    "projection shortcuts",
    "same",
    "1 x 1 with stride, batch norm, no ReLU",
    "Sect. 3.3; batch norm from the released prototxt",
    checked="test_resnet.test_shortcuts_of_bottleneck_nets",
)
_COMMON = (GEOMETRY, NORMALISATION, *INITIALISATION, DROPOUT, _HEAD, _POOL)
_BASIC = (
    *_COMMON,
    Fidelity(
        "shortcuts",
        "same",
        "option A, no parameters",
        "Sect. 4.1, Table 2",
        checked=(
            "test_resnet.test_option_a_takes_every_second_pixel_and_pads_with_zero_channels, "
            "test_resnet.test_shortcuts_of_bottleneck_nets, "
            "test_resnet.test_plain_net_ignores_its_input_beside_the_branch"
        ),
    ),
)
_PLAIN = (
    *_COMMON,
    Fidelity(
        "shortcuts",
        "same",
        "none",
        "Sect. 3.3",
        checked=(
            "test_resnet.test_option_a_takes_every_second_pixel_and_pads_with_zero_channels, "
            "test_resnet.test_shortcuts_of_bottleneck_nets, "
            "test_resnet.test_plain_net_ignores_its_input_beside_the_branch"
        ),
    ),
)
_DEEP = (
    *_COMMON,
    Fidelity(
        "shortcuts",
        "same",
        "option B",
        "Sect. 4.1, Deeper bottleneck architectures",
        checked=(
            "test_resnet.test_option_a_takes_every_second_pixel_and_pads_with_zero_channels, "
            "test_resnet.test_shortcuts_of_bottleneck_nets, "
            "test_resnet.test_plain_net_ignores_its_input_beside_the_branch"
        ),
    ),
    _PROJECTION_NORM,
    Fidelity(
        "place of the stride",
        "same",
        "first 1 x 1 convolution",
        "KaimingHe/deep-residual-networks, prototxt",
        "torchvision and fb.resnet.torch: the 3 x 3",
        checked=(
            "multiply-adds: test_resnet.test_parameters_and_multiply_adds_of_the_sheet; "
            "another place is refused for the released weights: "
            "test_caffe.test_a_stride_in_another_place_is_another_network"
        ),
    ),
)
_CONV1_BIAS = Fidelity(
    "bias of conv1",
    "deviates",
    "64 values in the released ResNet-50, none in 101 and 152",
    "KaimingHe/deep-residual-networks, prototxt",
    "none: the batch norm after it cancels it",
)
FIDELITY: dict[str, tuple[Fidelity, ...]] = {
    "resnet18": _BASIC,
    "resnet34": _BASIC,
    "plain18": _PLAIN,
    "plain34": _PLAIN,
    "resnet50": (*_DEEP, _CONV1_BIAS),
    "resnet101": _DEEP,
    "resnet152": _DEEP,
}
