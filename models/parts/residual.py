"""The building blocks of residual networks, from ResNet (arXiv:1512.03385) to SENet."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Generator, Tensor, nn

Shortcut = Literal["A", "B", "C"]
StrideIn = Literal["1x1", "3x3"]
Pool = Literal["ceil", "padded"]
Blocks = tuple[int, int, int, int]

MakeUnit = Callable[[int, int, int], "Unit"]
"""``(in_channels, planes, stride) -> unit``; planes: 64, 128, 256, 512 in conv2_x to conv5_x."""


def conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution that keeps the map's size (up to its stride); batch norm's beta serves as its bias."""
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )


def max_pool(pool: Pool) -> nn.MaxPool2d:
    """The 3 x 3 stride 2 pool: Caffe's, unpadded and ceiled, or Torch's with one pixel of padding.

    Both halve 112 to 56; Caffe's windows lie one pixel to the right of and below Torch's.
    """
    if pool not in ("ceil", "padded"):
        raise ValueError(f"pool must be 'ceil' or 'padded', not {pool!r}")
    return nn.MaxPool2d(3, 2, padding=int(pool == "padded"), ceil_mode=pool == "ceil")


class PaddedIdentity(nn.Module):
    """Shortcut option A: every ``stride``-th pixel, and zeros for the new channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = 1, stride, 0
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels))


def make_shortcut(
    option: Shortcut | None,
    in_channels: int,
    out_channels: int,
    stride: int,
    kernel: int = 1,
) -> nn.Module | None:
    """The shortcut of one block (Sect. 3.3 and 4.1), None in a plain net.

    Args:
        option: A: identity, new channels zero. B: projection where the channels grow, else
            identity. C: projection everywhere. None: no shortcut.
        in_channels: channels of the block's input.
        out_channels: channels of its output.
        stride: the block's stride.
        kernel: the projection's kernel.
    """
    if option not in ("A", "B", "C", None):
        raise ValueError(f"shortcut must be 'A', 'B', 'C' or None, not {option!r}")
    if option is None:
        return None
    if option == "C" or (option == "B" and in_channels != out_channels):
        return nn.Sequential(
            conv(in_channels, out_channels, kernel, stride), nn.BatchNorm2d(out_channels)
        )
    if in_channels != out_channels:
        return PaddedIdentity(in_channels, out_channels, stride)
    return nn.Identity()


class Unit(nn.Module):
    """One unit of a stage; the next one needs to know its number of output channels."""

    out_channels: int


class Block(Unit):
    """y = relu(F(x) + shortcut(x)) (eq. 1 and 2); without a shortcut, y = relu(F(x))."""

    shortcut: nn.Module | None

    def residual(self, x: Tensor) -> Tensor:
        """F(x), which ends with `last_norm`."""
        raise NotImplementedError

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The batch norm before the addition."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        y = self.residual(x)
        if self.shortcut is not None:
            y += self.shortcut(x)
        return F.relu(y, inplace=True)


class BasicBlock(Block):
    """Two 3 x 3 convolutions (Fig. 5, left); the first has the stride."""

    def __init__(
        self, in_channels: int, planes: int, stride: int, *, shortcut: Shortcut | None
    ) -> None:
        super().__init__()
        self.out_channels = planes
        self.conv1 = conv(in_channels, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = make_shortcut(shortcut, in_channels, planes, stride)

    def residual(self, x: Tensor) -> Tensor:
        """Conv, BN, ReLU, conv, BN."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(x))

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The batch norm before the addition."""
        return self.bn2


class Bottleneck(Block):
    """1 x 1 to fewer channels, 3 x 3, 1 x 1 to ``4 * planes`` (Fig. 5, right).

    Args:
        in_channels: channels of the input.
        planes: a quarter of the output's channels.
        stride: the block's stride.
        reduce: output channels of the first 1 x 1; None for ``planes``.
        middle: output channels of the 3 x 3; None for ``reduce``.
        groups: the groups of the 3 x 3.
        shortcut: option A, B or C, or None.
        stride_in: which convolution has the stride: the first 1 x 1 (the authors' release) or the 3 x 3.
        projection: the kernel of a projection shortcut with stride.
    """

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        *,
        reduce: int | None = None,
        middle: int | None = None,
        groups: int = 1,
        shortcut: Shortcut | None = "B",
        stride_in: StrideIn = "1x1",
        projection: int = 1,
    ) -> None:
        super().__init__()
        if stride_in not in ("1x1", "3x3"):
            raise ValueError(f"stride_in must be '1x1' or '3x3', not {stride_in!r}")
        reduce = reduce or planes
        middle = middle or reduce
        self.out_channels = 4 * planes
        strides = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = conv(in_channels, reduce, 1, strides[0])
        self.bn1 = nn.BatchNorm2d(reduce)
        self.conv2 = conv(reduce, middle, 3, strides[1], groups)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = conv(middle, self.out_channels, 1)
        self.bn3 = nn.BatchNorm2d(self.out_channels)
        self.shortcut = make_shortcut(
            shortcut, in_channels, self.out_channels, stride, projection if stride > 1 else 1
        )

    def residual(self, x: Tensor) -> Tensor:
        """1 x 1, BN, ReLU, 3 x 3, BN, ReLU, 1 x 1, BN."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return self.bn3(self.conv3(x))

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The batch norm before the addition."""
        return self.bn3


def stage_planes(width: float) -> tuple[int, int, int, int]:
    """The planes of conv2_x to conv5_x: 64, 128, 256, 512 times ``width``."""
    if width <= 0:
        raise ValueError(f"width must be positive, not {width}")
    planes = max(1, round(64 * width))
    return planes, 2 * planes, 4 * planes, 8 * planes


def make_stage(
    unit: MakeUnit, count: int, in_channels: int, planes: int, stride: int
) -> tuple[nn.Sequential, int]:
    """``count`` units, the first with the stride, and their number of output channels."""
    units = nn.Sequential()
    for index in range(count):
        block = unit(in_channels, planes, stride if index == 0 else 1)
        units.append(block)
        in_channels = block.out_channels
    return units, in_channels


def initialise(
    model: nn.Module,
    generator: Generator | None,
    *,
    zero_gamma: bool = False,
    mode: Literal["fan_in", "fan_out"] = "fan_out",
) -> None:
    """Initialise convolutions as He et al., batch norms at 1 and 0, linear layers as fb.resnet.torch.

    Args:
        model: the network to initialise.
        generator: source of the random numbers; None for torch's global one.
        zero_gamma: start every block as its shortcut, with a zero scale in its last batch norm.
        mode: the n of std = sqrt(2 / n): kernel area times input or output channels.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(
                module.weight, mode=mode, nonlinearity="relu", generator=generator
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.zeros_(module.bias)
    if zero_gamma:
        for module in model.modules():
            if isinstance(module, Block):
                if module.shortcut is None:
                    raise ValueError(
                        "zero_gamma starts each block as its shortcut; without shortcuts "
                        "the net would output zeros"
                    )
                nn.init.zeros_(module.last_norm.weight)
