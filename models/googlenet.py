"""GoogLeNet: Szegedy et al., "Going deeper with convolutions", arXiv:1409.4842 and CVPR 2015.

The 2014 winner in classification. 6,998,552 parameters for inference and 13,378,280 with both
auxiliary heads at 1000 classes; 1.583 G multiply-adds for one 224 x 224 image. Table 1's filter
counts are followed; several parameter and operation counts printed beside them do not match them
(conv1's 2.7K should be 9.4K). What the paper leaves open (initialisation, constants of the local response
normalisation) is taken from BVLC's replication, models/bvlc_googlenet of Caffe.

torchvision's ``googlenet`` is another net: batch normalisation after every convolution and no
local response normalisation, 3 x 3 convolutions in the 5 x 5 branches (kept for weights ported with
that mistake), pool4 of 2 x 2, dropout 0.2, and auxiliary heads after an adaptive 4 x 4 pool, returned
in the other order. It has 6,624,904 or 13,004,888 parameters. `googlenet_bn` is the paper's
geometry with that batch normalisation, for comparisons; no paper published it under this name.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from functools import partial
from typing import Literal, TypedDict, Unpack

import torch
from torch import Generator, Tensor, nn

from models.fidelity import Fidelity
from models.parts.layers import LocalResponseNorm, scaled
from models.registry import check_choice, register

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
INCEPTION: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}

AuxHeads = Literal["both", "4a", "4d", "none"]
AuxPool = Literal["5x5/3", "adaptive"]
Head = Literal["average", "fc"]


class Knobs(TypedDict, total=False):
    """The options of both nets; `GoogLeNet` explains each."""

    aux_heads: AuxHeads
    aux_pool: AuxPool | None
    aux_dropout: float | None
    head: Head
    dropout: float
    remove: Collection[str]
    width: float
    image_size: int


def _conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    batch_norm: bool,
) -> nn.Sequential:
    """A convolution that keeps the size (up to its stride), normalised if asked, and ReLU."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(
        in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=not batch_norm
    )
    if batch_norm:
        layers["norm"] = nn.BatchNorm2d(out_channels, eps=1e-3)
    layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


class Inception(nn.Module):
    """Four branches on one input, concatenated in the order 1x1, 3x3, 5x5, pool (Sect. 4, Fig. 2b).

    Args:
        in_channels: channels of the input.
        filters: one row of `INCEPTION`.
        batch_norm: batch normalisation after every convolution.
    """

    def __init__(self, in_channels: int, filters: Sequence[int], *, batch_norm: bool) -> None:
        super().__init__()
        n1x1, n3x3_reduce, n3x3, n5x5_reduce, n5x5, n_pool = filters
        self.out_channels = n1x1 + n3x3 + n5x5 + n_pool
        self.conv1x1 = _conv(in_channels, n1x1, 1, batch_norm=batch_norm)
        self.conv3x3_reduce = _conv(in_channels, n3x3_reduce, 1, batch_norm=batch_norm)
        self.conv3x3 = _conv(n3x3_reduce, n3x3, 3, batch_norm=batch_norm)
        self.conv5x5_reduce = _conv(in_channels, n5x5_reduce, 1, batch_norm=batch_norm)
        self.conv5x5 = _conv(n5x5_reduce, n5x5, 5, batch_norm=batch_norm)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pool_proj = _conv(in_channels, n_pool, 1, batch_norm=batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        branches = (
            self.conv1x1(x),
            self.conv3x3(self.conv3x3_reduce(x)),
            self.conv5x5(self.conv5x5_reduce(x)),
            self.pool_proj(self.pool(x)),
        )
        return torch.cat(branches, dim=1)


class Removed(nn.Identity):
    """The placeholder of a module that was left out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels


class AuxiliaryHead(nn.Sequential):
    """A small classifier on the maps of an intermediate module, used in training only (Sect. 5).

    Args:
        in_channels: channels of those maps.
        side: their height and width, at least 5 for the paper's pool.
        num_classes: length of the logits.
        pool: see `GoogLeNet`.
        channels: outputs of the 1 x 1 convolution.
        units: outputs of the fully connected layer.
        dropout: probability of dropping one of those outputs.
        batch_norm: batch normalisation after the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        side: int,
        num_classes: int,
        *,
        pool: AuxPool,
        channels: int,
        units: int,
        dropout: float,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        self.pool: nn.Module
        if pool == "adaptive":
            self.pool, side = nn.AdaptiveAvgPool2d(4), 4
        else:
            self.pool, side = nn.AvgPool2d(5, stride=3), (side - 5) // 3 + 1
        self.conv = _conv(in_channels, channels, 1, batch_norm=batch_norm)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels * side**2, units)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(units, num_classes)


class GoogLeNet(nn.Module):
    """Table 1 of the paper, with pooling and normalisation in the order of its Figure 3.

    In training the output is (main, aux1, aux2) logits, or (main, aux) with one auxiliary head; the
    paper's loss is ``main + 0.3 * aux1 + 0.3 * aux2``. In evaluation, and without auxiliary heads,
    it is the main logits.

    Args:
        num_classes: length of the logits.
        aux_heads: which modules have an auxiliary head: ``"4a"`` (aux1), ``"4d"`` (aux2), both or
            none.
        aux_pool: ``"5x5/3"``, the paper's average pool, or ``"adaptive"`` to 4 x 4, torchvision's
            and the only one that runs under 79 px. None for the paper's.
        aux_dropout: probability of dropping a unit of the auxiliary heads. None for the paper's
            0.7.
        head: ``"average"`` over the maps of 5b, or ``"fc"``: a fully connected layer of 1024 units
            in its place, the design that averaging improved on by 0.6% top-1 (Sect. 5, which does
            not give its size; the auxiliary heads have 1024).
        dropout: probability of dropping an input of the main classifier.
        lrn: local response normalisation after pool1 and before pool2.
        batch_norm: batch normalisation after every convolution, which then has no bias.
        remove: modules to leave out, of 3a to 5b, for small experiments; pools and heads stay.
        width: multiplier of all hidden channels and units, which stay multiples of 8.
        image_size: side in pixels of the images that the heads are built for. The average head and
            adaptive auxiliary pools also take any other size from 31 px.

    Raises:
        ValueError: a choice or module is unknown, `aux_pool` or `aux_dropout` is given without
            auxiliary heads, or `image_size` is too small for pool4 or the auxiliary pool.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        aux_heads: AuxHeads = "both",
        aux_pool: AuxPool | None = None,
        aux_dropout: float | None = None,
        head: Head = "average",
        dropout: float = 0.4,
        lrn: bool = True,
        batch_norm: bool = False,
        remove: Collection[str] = (),
        width: float = 1.0,
        image_size: int = 224,
    ) -> None:
        super().__init__()
        if unknown := set(remove) - INCEPTION.keys():
            raise ValueError(f"cannot remove {sorted(unknown)}: choose from {sorted(INCEPTION)}")
        check_choice("aux_heads", aux_heads, AuxHeads)
        check_choice("aux_pool", aux_pool or "5x5/3", AuxPool)
        check_choice("head", head, Head)
        if aux_heads == "none" and (aux_pool is not None or aux_dropout is not None):
            raise ValueError(
                "aux_pool and aux_dropout belong to auxiliary heads; aux_heads='none' has none"
            )
        side = (image_size + 1) // 2 // 8  # of the maps of 4a to 4e
        if side < 2:
            raise ValueError(
                f"pool4 has nothing left to halve at image_size={image_size}: "
                "the smallest that works is 31"
            )
        if side < 5 and aux_heads != "none" and aux_pool != "adaptive":
            raise ValueError(
                f"the auxiliary heads' 5x5 pool does not fit the {side}x{side} maps of 4a at "
                f"image_size={image_size}: the smallest that works is 79, below it use "
                "aux_pool='adaptive' or aux_heads='none'"
            )

        def inception(in_channels: int, row: str) -> Inception | Removed:
            if row in remove:
                return Removed(in_channels)
            filters = [scaled(channels, width) for channels in INCEPTION[row]]
            return Inception(in_channels, filters, batch_norm=batch_norm)

        def pool() -> nn.MaxPool2d:
            return nn.MaxPool2d(3, stride=2, ceil_mode=True)  # 112, 56, 28, 14, 7 need rounding up

        def norm() -> nn.Module:
            return LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0) if lrn else nn.Identity()

        conv = partial(_conv, batch_norm=batch_norm)

        self.input_size = image_size
        self.conv1 = conv(3, scaled(64, width), 7, stride=2)
        self.pool1 = pool()
        self.norm1 = norm()
        self.conv2_reduce = conv(scaled(64, width), scaled(64, width), 1)
        self.conv2 = conv(scaled(64, width), scaled(192, width), 3)
        self.norm2 = norm()
        self.pool2 = pool()
        self.inception_3a = inception(scaled(192, width), "3a")
        self.inception_3b = inception(self.inception_3a.out_channels, "3b")
        self.pool3 = pool()
        self.inception_4a = inception(self.inception_3b.out_channels, "4a")
        self.inception_4b = inception(self.inception_4a.out_channels, "4b")
        self.inception_4c = inception(self.inception_4b.out_channels, "4c")
        self.inception_4d = inception(self.inception_4c.out_channels, "4d")
        self.inception_4e = inception(self.inception_4d.out_channels, "4e")
        self.pool4 = pool()
        self.inception_5a = inception(self.inception_4e.out_channels, "5a")
        self.inception_5b = inception(self.inception_5a.out_channels, "5b")

        channels = self.inception_5b.out_channels
        layers: OrderedDict[str, nn.Module]
        if head == "average":
            layers = OrderedDict(avg_pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
        else:
            fc = nn.Linear(channels * (side // 2) ** 2, channels)
            layers = OrderedDict(flatten=nn.Flatten(), fc=fc, relu=nn.ReLU())
        self.head = nn.Sequential(layers)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

        def auxiliary(at: Inception | Removed) -> AuxiliaryHead:
            return AuxiliaryHead(
                at.out_channels,
                side,
                num_classes,
                pool=aux_pool or "5x5/3",
                channels=scaled(128, width),
                units=scaled(1024, width),
                dropout=0.7 if aux_dropout is None else aux_dropout,
                batch_norm=batch_norm,
            )

        self.aux1 = auxiliary(self.inception_4a) if aux_heads in ("both", "4a") else None
        self.aux2 = auxiliary(self.inception_4d) if aux_heads in ("both", "4d") else None
        self.reset_parameters()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw all weights again as BVLC's replication does; the paper does not specify it.

        Weights are Caffe's "xavier", uniform with variance 1 / fan-in. Biases are 0.2, but 0 in the
        classifiers.
        """
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear", generator=generator)
                if layer.bias is not None:
                    nn.init.constant_(layer.bias, 0.0 if name.endswith("classifier") else 0.2)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(N, 3, H, W) images to (N, num_classes) logits, in training with those of the auxiliary heads."""
        x = self.norm1(self.pool1(self.conv1(x)))
        x = self.pool2(self.norm2(self.conv2(self.conv2_reduce(x))))
        x = self.pool3(self.inception_3b(self.inception_3a(x)))
        at_4a = self.inception_4a(x)
        at_4d = self.inception_4d(self.inception_4c(self.inception_4b(at_4a)))
        x = self.pool4(self.inception_4e(at_4d))
        x = self.inception_5b(self.inception_5a(x))
        logits = self.classifier(self.dropout(self.head(x)))
        heads = ((self.aux1, at_4a), (self.aux2, at_4d)) if self.training else ()
        auxiliary = tuple(head(maps) for head, maps in heads if head is not None)
        return (logits, *auxiliary) if auxiliary else logits


@register("googlenet")
def googlenet(num_classes: int = 1000, *, lrn: bool = True, **knobs: Unpack[Knobs]) -> GoogLeNet:
    """The net of Table 1. Knobs: see `GoogLeNet`."""
    return GoogLeNet(num_classes, lrn=lrn, **knobs)


@register("googlenet_bn")
def googlenet_bn(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> GoogLeNet:
    """The same geometry with batch normalisation instead of LRN. Knobs: see `GoogLeNet`.

    7,005,832 parameters for inference, 13,385,816 with both heads.
    """
    return GoogLeNet(num_classes, lrn=False, batch_norm=True, **knobs)


def _fidelity(*, batch_norm: bool = False) -> tuple[Fidelity, ...]:
    caffe = "Caffe, models/bvlc_googlenet/train_val.prototxt"
    published = "LRN after pool1 and before pool2, constants not given"
    if batch_norm:
        normalisation = Fidelity(
            "normalisation",
            "deviates",
            published,
            "Figure 3",
            "batch normalisation after every convolution instead, convolutions without bias",
        )
    else:
        normalisation = Fidelity(
            "normalisation",
            "not stated",
            published,
            "Figure 3",
            f"n=5, alpha=1e-4 divided by n, beta=0.75, k=1: {caffe}",
        )
    return (
        Fidelity(
            "geometry",
            "same",
            "22 weight layers, filters of each module",
            "Table 1",
            checked="sides, weights and multiply-adds of every row: test_googlenet.test_table_1",
        ),
        Fidelity(
            "activation",
            "same",
            "ReLU after every convolution, reductions too",
            "Sect. 5",
            checked=(
                "test_googlenet.test_counts_of_the_parts; the released weights load into this "
                "net: test_caffe.test_a_network_comes_back"
            ),
        ),
        Fidelity(
            "pooling",
            "same",
            "3x3 max pools of stride 2: 112, 56, 28, 14, 7",
            "Table 1",
            "rounding up, as Caffe does",
            checked="test_googlenet.test_sizes_need_pools_that_round_up",
        ),
        normalisation,
        Fidelity(
            "head",
            "same",
            "average over 7x7, then one linear layer",
            "Sect. 5, Table 1",
            checked="test_googlenet.test_counts",
        ),
        Fidelity(
            "dropout",
            "same",
            "0.4 before the classifier, 0.7 in the auxiliary heads",
            "Sect. 5",
            checked="test_googlenet.test_dropout_rates; inverted, as Caffe's dropout_layer.cpp",
        ),
        Fidelity(
            "auxiliary heads",
            "same",
            "on 4a and 4d: 5x5/3 average pool, 1x1 of 128, 1024 units; loss weight 0.3",
            "Sect. 5",
            "the losses are weighted in training; the net returns the logits",
            checked="test_googlenet.test_auxiliary_head_pools_5x5_with_stride_3",
        ),
        Fidelity(
            "initialisation",
            "not stated",
            "",
            "Sect. 6",
            f"uniform with variance 1/fan-in, biases 0.2, but 0 in classifiers: {caffe}",
        ),
        Fidelity(
            "wider net of the ensemble",
            "not stated",
            "one of the seven nets was wider, its filters are not given",
            "Sect. 5, 7",
            "not provided; width multiplies all layers alike",
        ),
    )


FIDELITY: dict[str, tuple[Fidelity, ...]] = {
    "googlenet": _fidelity(),
    "googlenet_bn": _fidelity(batch_norm=True),
}
