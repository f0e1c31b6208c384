"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11), 1998.

The ancestor, for handwritten digits (Fig. 2, Sect. II.B):

    =====  ==========================  ==========  ==========  ===========
    layer                              output      parameters  connections
    =====  ==========================  ==========  ==========  ===========
    C1     5 x 5                       6 @ 28x28          156      122,304
    S2     2 x 2 mean, scale, bias     6 @ 14x14           12        5,880
    C3     5 x 5, partial table        16 @ 10x10       1,516      151,600
    S4     like S2                     16 @ 5x5            32        2,000
    C5     5 x 5                       120 @ 1x1       48,120       48,120
    F6     fully connected             84              10,164       10,164
    OUT    distance to fixed codes     10                   0          840
    =====  ==========================  ==========  ==========  ===========

60,000 trainable parameters, 340,908 connections. The image is 32 x 32, one channel, background -0.1
and ink 1.175; digits are at most 20 x 20 in its centre, so MNIST's 28 x 28 is padded by 2.

The net usually called LeNet-5 today is another one: full C3, plain pools, softmax on a linear
layer, 61,706 parameters. It is here as `lenet5_modern`. `lenet_fc` is the fully connected net of
Sect. III.C, which the paper compares LeNet-5 with. torchvision has none of them.
"""

from collections.abc import Callable
from random import Random
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from models.fidelity import Fidelity
from models.registry import register

C3 = Literal["partial", "full"]
Pool = Literal["subsample", "mean", "max"]
Activation = Literal["tanh", "relu"]
Output = Literal["rbf", "linear"]

# Table I: the maps of S2 that each of C3's 16 maps reads.
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

# Stylised digits of 7 x 12 pixels, "#" for +1. The paper's Fig. 3 shows its own.
DIGITS = """
.#####. ...##.. .#####. .#####. ....##. ####### .#####. ####### .#####. .#####.
##...## ..###.. ##...## ##...## ...###. ##..... ##...## .....## ##...## ##...##
##...## .####.. .....## .....## ..####. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## .##.##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. .....## ##..##. ######. ##..... ....##. ##...## ##...##
##...## ...##.. ...##.. ..####. ##..##. .....## ######. ...##.. .#####. .######
##...## ...##.. ..##... .....## ####### .....## ##...## ...##.. ##...## .....##
##...## ...##.. .##.... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## ....##. .....## ##...## .##.... ##...## .....##
##...## ...##.. ##..... ##...## ....##. ##...## ##...## .##.... ##...## ##...##
.#####. .###### ####### .#####. ....##. .#####. .#####. .##.... .#####. .#####.
"""


# Sect. II.B: what black and white pixels of a digit become; the input's mean is then about 0, its variance 1.
BACKGROUND, INK = -0.1, 1.175


def scaled_tanh(x: Tensor) -> Tensor:
    """1.7159 tanh(2x/3), which maps 1 to 1 and -1 to -1 (appendix A)."""
    return 1.7159 * torch.tanh(x * (2 / 3))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": scaled_tanh, "relu": F.relu}


class TableConv2d(nn.Module):
    """An unpadded convolution whose maps read only some of the input's (Table I).

    Args:
        in_channels: maps of the input.
        table: for each output map, the input maps that it reads.
        kernel_size: side of the kernels, in pixels.
    """

    connected: Tensor

    def __init__(
        self, in_channels: int, table: tuple[tuple[int, ...], ...], kernel_size: int
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, len(table)
        self.kernel_size, self.stride, self.padding = kernel_size, 1, 0
        self.fan_in = [len(maps) * kernel_size**2 for maps in table for _ in maps]
        pairs = [out * in_channels + i for out, maps in enumerate(table) for i in maps]
        self.register_buffer("connected", torch.tensor(pairs), persistent=False)
        self.weight = nn.Parameter(torch.empty(len(pairs), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(table)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, len(table), H - kernel_size + 1, W - kernel_size + 1)."""
        kernel = (self.kernel_size, self.kernel_size)
        dense = self.weight.new_zeros(self.out_channels * self.in_channels, *kernel)
        dense = dense.index_copy(0, self.connected, self.weight)
        return F.conv2d(x, dense.view(self.out_channels, self.in_channels, *kernel), self.bias)


class Subsampling(nn.Module):
    """The mean of 2 x 2 pixels, times one trainable coefficient per map, plus one bias per map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = 2, 2, 0
        self.coefficient = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, channels, H // 2, W // 2)."""
        return F.avg_pool2d(x, 2) * self.coefficient + self.bias


def digit_codes() -> list[list[float]]:
    """The ten codes of 84 values -1 and +1, row by row from `DIGITS`."""
    glyphs = zip(*(line.split() for line in DIGITS.split("\n") if line), strict=True)
    return [[1.0 if pixel == "#" else -1.0 for pixel in "".join(rows)] for rows in glyphs]


def random_codes(num_classes: int) -> list[list[float]]:
    """Random codes for classes that have no picture; always the same ones."""
    random = Random(1998)
    return [random.choices((-1.0, 1.0), k=84) for _ in range(num_classes)]


class RBF(nn.Module):
    """Minus the squared distance to each class's code of -1 and +1 (eq. 7): the largest wins.

    Ten classes have the digits' pictures for codes; any other number has random codes, the
    alternative that the paper names (Sect. II.B).
    """

    weight: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.in_features, self.out_features = 84, num_classes
        codes = digit_codes() if num_classes == 10 else random_codes(num_classes)
        self.register_buffer("weight", torch.tensor(codes))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 84) to (N, num_classes)."""
        return 2 * x @ self.weight.T - x.square().sum(1, keepdim=True) - 84


class LeNet5(nn.Module):
    """The net of Fig. 2.

    Args:
        num_classes: length of the logits.
        c3: ``"partial"``, the paper's table of connections, or ``"full"``.
        pool: ``"subsample"``, the paper's trainable layers; ``"mean"`` or ``"max"`` without
            parameters and without a non-linearity after it.
        activation: the paper's scaled ``"tanh"``, or ``"relu"``.
        output: ``"rbf"``, the paper's fixed codes, or ``"linear"``.
        in_channels: channels of the images; the paper's are grey.
        image_size: side in pixels of the images; C5's kernels cover the whole of S4.
        border: pixels of background around the image: 2 turn MNIST's 28 x 28 into the paper's input.

    Raises:
        ValueError: there is no such choice, or the image is too small for S4.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        c3: C3 = "partial",
        pool: Pool = "subsample",
        activation: Activation = "tanh",
        output: Output = "rbf",
        in_channels: int = 1,
        image_size: int = 32,
        border: int = 0,
    ) -> None:
        super().__init__()
        for knob, value, choices in (
            ("c3", c3, ("partial", "full")),
            ("pool", pool, ("subsample", "mean", "max")),
            ("activation", activation, ("tanh", "relu")),
            ("output", output, ("rbf", "linear")),
        ):
            if value not in choices:
                raise ValueError(f"{knob} must be one of {', '.join(choices)}, not {value!r}")
        side = ((image_size + 2 * border - 4) // 2 - 4) // 2
        if side < 1:
            raise ValueError(
                f"S4 is empty at image_size={image_size}; the smallest that works is 16"
            )
        self.input_size = image_size
        self.border = border
        self.pool = pool
        self.activation = ACTIVATIONS[activation]
        self.c1 = nn.Conv2d(in_channels, 6, 5)
        self.s2 = self._pool(6)
        self.c3 = TableConv2d(6, C3_TABLE, 5) if c3 == "partial" else nn.Conv2d(6, 16, 5)
        self.s4 = self._pool(16)
        self.c5 = nn.Conv2d(16, 120, side)
        self.f6 = nn.Linear(120, 84)
        self.output = RBF(num_classes) if output == "rbf" else nn.Linear(84, num_classes)
        self.reset_parameters()

    def _pool(self, channels: int) -> nn.Module:
        if self.pool == "subsample":
            return Subsampling(channels)
        return nn.AvgPool2d(2) if self.pool == "mean" else nn.MaxPool2d(2)

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Uniform within 2.4 / fan-in (appendix A), biases 0.

        Args:
            generator: source of the random numbers; None for torch's global one.
        """
        for module in self.modules():
            if isinstance(module, Subsampling):
                # A coefficient on the mean of 4 inputs is 4 times one on each of them.
                module.coefficient.uniform_(-2.4, 2.4, generator=generator)
                module.bias.zero_()
            elif isinstance(module, TableConv2d):
                fan_in = module.weight.new_tensor(module.fan_in)[:, None, None]
                module.weight.uniform_(-2.4, 2.4, generator=generator).div_(fan_in)
                module.bias.zero_()
            elif isinstance(module, nn.Conv2d | nn.Linear):
                bound = 2.4 / module.weight[0].numel()
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, image_size, image_size) to (N, num_classes) logits."""
        f = self.activation
        squash = f if self.pool == "subsample" else nn.Identity()
        if self.border:
            x = F.pad(x, (self.border,) * 4, value=BACKGROUND)
        x = squash(self.s2(f(self.c1(x))))
        x = squash(self.s4(f(self.c3(x))))
        x = f(self.c5(x)).flatten(1)
        return self.output(f(self.f6(x)))


@register("lenet5")
def lenet5(
    num_classes: int = 10,
    *,
    c3: C3 = "partial",
    pool: Pool = "subsample",
    activation: Activation = "tanh",
    output: Output = "rbf",
    in_channels: int = 1,
    image_size: int = 32,
    border: int = 0,
) -> LeNet5:
    """LeNet-5 as published, 60,000 parameters with ten classes. Arguments as for `LeNet5`."""
    return LeNet5(
        num_classes,
        c3=c3,
        pool=pool,
        activation=activation,
        output=output,
        in_channels=in_channels,
        image_size=image_size,
        border=border,
    )


@register("lenet5_modern")
def lenet5_modern(
    num_classes: int = 10,
    *,
    pool: Literal["mean", "max"] = "mean",
    activation: Activation = "tanh",
    in_channels: int = 1,
    image_size: int = 32,
) -> LeNet5:
    """The net usually called LeNet-5 today, 61,706 parameters with ten classes. See `LeNet5`."""
    return LeNet5(
        num_classes,
        c3="full",
        pool=pool,
        activation=activation,
        output="linear",
        in_channels=in_channels,
        image_size=image_size,
    )


class FullyConnected(nn.Module):
    """The fully connected nets of Sect. III.C: 28 x 28 pixels, one or two hidden layers, no shared weights.

    Args:
        num_classes: length of the logits.
        hidden: units of each hidden layer.
        image_size: side in pixels of the images, which have one channel.
    """

    def __init__(
        self, num_classes: int = 10, *, hidden: tuple[int, ...] = (300, 100), image_size: int = 28
    ) -> None:
        super().__init__()
        self.input_size = image_size
        self.in_channels = 1
        sizes = (image_size**2, *hidden)
        self.hidden = nn.ModuleList(
            nn.Linear(size, units) for size, units in zip(sizes, hidden, strict=False)
        )
        self.output = nn.Linear(sizes[-1], num_classes)
        with torch.no_grad():
            for layer in (*self.hidden, self.output):
                assert isinstance(layer, nn.Linear)
                layer.weight.uniform_(-2.4 / layer.in_features, 2.4 / layer.in_features)
                layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, image_size, image_size) to (N, num_classes) logits."""
        x = x.flatten(1)
        for layer in self.hidden:
            x = scaled_tanh(layer(x))
        return self.output(x)


@register("lenet_fc")
def lenet_fc(
    num_classes: int = 10, *, hidden: tuple[int, ...] = (300, 100), image_size: int = 28
) -> FullyConnected:
    """The 28x28-300-100-10 net, 266,610 parameters with ten classes. See `FullyConnected`."""
    return FullyConnected(num_classes, hidden=hidden, image_size=image_size)


_LAYERS = Fidelity(
    "layers and channels",
    "same",
    "6, 16, 120 maps, 84 units",
    "Fig. 2",
    checked="test_lenet5.test_layer_table",
)
_ACTIVATION = Fidelity(
    "activation", "same", "1.7159 tanh(2x/3)", "appendix A", checked="test_lenet5.test_activation"
)
_INITIALISATION = Fidelity(
    "initialisation",
    "same",
    "uniform within 2.4 / fan-in",
    "appendix A",
    "biases 0",
    checked="test_lenet5.test_initialisation_is_uniform_within_2_4_over_fan_in",
)
FIDELITY: dict[str, tuple[Fidelity, ...]] = {
    "lenet5": (
        _LAYERS,
        Fidelity(
            "connections of C3",
            "same",
            "60 of 96",
            "Table I",
            checked="test_lenet5.test_c3_reads_only_the_maps_of_its_table",
        ),
        Fidelity(
            "sub-sampling",
            "same",
            "2 x 2 inputs, one coefficient and one bias per map, non-linearity",
            "Sect. II.B",
            checked="test_lenet5.test_subsampling_is_mean_times_coefficient_plus_bias",
        ),
        _ACTIVATION,
        _INITIALISATION,
        Fidelity(
            "codes of the output",
            "deviates",
            "stylised characters of 7 x 12 pixels",
            "Fig. 3",
            "digits of that size drawn for this project; the logits are minus the distances",
        ),
    ),
    "lenet_fc": (
        Fidelity(
            "layers and units",
            "same",
            "28x28-300-100-10",
            "Sect. III.C",
            checked="test_lenet5.test_the_fully_connected_net_that_the_paper_compares_with",
        ),
        _ACTIVATION,
        _INITIALISATION,
        Fidelity(
            "output",
            "deviates",
            "squashed units and a squared error",
            "Sect. III.C",
            "linear, for the loss of the recipe that trains it",
        ),
    ),
    "lenet5_modern": (
        _LAYERS,
        Fidelity("connections of C3", "deviates", "60 of 96", "Table I", "all 96, as usual today"),
        Fidelity(
            "sub-sampling",
            "deviates",
            "one coefficient and one bias per map, non-linearity",
            "Sect. II.B",
            "plain mean, as usual today",
        ),
        _ACTIVATION,
        _INITIALISATION,
        Fidelity(
            "output", "deviates", "distance to fixed codes", "Sect. II.B", "linear, as usual today"
        ),
    ),
}
