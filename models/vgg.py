"""VGG: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
recognition", arXiv:1409.1556v6, ICLR 2015.

The 2014 runner-up in classification and winner in localisation. Table 1 of the paper is `STAGES`.
Counts at 1000 classes, multiply-adds of one 224 x 224 image:

| net | weight layers | parameters | multiply-adds |
| --- | --- | --- | --- |
| A, A-LRN | 11 | 132,863,336 | 7.609 G |
| B | 13 | 133,047,848 | 11.308 G |
| B with five 5x5 convolutions (Sect. 4.1) | 8 | 134,503,528 | 9.356 G |
| C | 16 | 133,638,952 | 11.771 G |
| D | 16 | 138,357,544 | 15.470 G |
| E | 19 | 143,667,240 | 19.632 G |

torchvision's vgg11, 13, 16 and 19 are A, B, D and E: the same function of the same weights. It has
neither C, A-LRN nor the dense form; its pools round down, which shows where sides are no
multiples of 32; its initialisation (He for convolutions, N(0, 0.01) for the
fully connected layers) is not the paper's, and an adaptive pool before fc6 hides the input size
that the head was built for.
"""

from typing import Literal, TypedDict, Unpack

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from models.fidelity import Fidelity
from models.parts.layers import AlphaConvention, LocalResponseNorm, scaled
from models.registry import register

Stages = tuple[tuple[int, ...], ...]

# Table 1: the kernel of each convolution, stage by stage; a max pool ends each stage.
STAGES: dict[str, Stages] = {
    "a": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "b": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "c": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "d": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "e": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
    "b_5x5": ((5,), (5,), (5,), (5,), (5,)),
}
CHANNELS = (64, 128, 256, 512, 512)

# A's first four convolutions and its three fully connected layers (Sect. 3.1). They fit the deeper
# nets only by name: A's second convolution is conv2_1, theirs is conv1_2.
TAKEN_FROM_A = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")


class Knobs(TypedDict, total=False):
    """The options of every net of the family; `VGG` explains each."""

    lrn_alpha_convention: AlphaConvention | None
    lrn_k: float | None
    fc_units: int
    dropout: float
    init: Literal["glorot", "gaussian"]
    init_std: float | None
    ceil_mode: bool
    width: float
    image_size: int


class VGG(nn.Module):
    """A stack of small convolutions in five stages, then three fully connected layers.

    Children in order of the data: ``conv1_1, relu1_1, ..., pool1, ..., pool5, flatten, fc6, relu6,
    drop6, fc7, relu7, drop7, fc8``.

    Args:
        stages: kernel sizes per stage, one of `STAGES`.
        num_classes: length of the logits.
        lrn: local response normalisation with AlexNet's constants at the end of stage 1 (A-LRN).
        lrn_alpha_convention: whether its alpha is divided by the window, see `LocalResponseNorm`.
            None for ``"divided"``, as in the authors' Caffe; ``"paper"`` is the formula of the AlexNet
            paper, which this paper cites.
        lrn_k: its constant. None for 1, to which the authors' Caffe fixed it; the formula has 2.
        fc_units: outputs of fc6 and of fc7 before `width`. The two hold most of the parameters, so
            they are the first to shrink for a small data set.
        dropout: probability of dropping an output of fc6 or fc7.
        init: ``"glorot"``, which the paper recommends because it allows training from scratch at
            any depth, or ``"gaussian"``, used for the reported results together with
            `initialise_from`.
        init_std: standard deviation of ``"gaussian"``, 0.01 if None. The paper's words, "10^-2
            variance", would be 0.1, with which the logits of D start at about 1e10.
        ceil_mode: pools round up, as the authors' Caffe does and torch's default does not. Matters
            only for sides that are not a multiple of 32, which are common in `dense`.
        width: multiplier of all hidden channels and units, which stay multiples of 8.
        image_size: side in pixels of the images that fc6 is built for.

    Raises:
        ValueError: `init` is unknown, `init_std` is given without ``init="gaussian"``,
            `lrn_alpha_convention` or `lrn_k` without `lrn`, or pool5 cannot halve `image_size`.
    """

    def __init__(
        self,
        stages: Stages,
        num_classes: int = 1000,
        *,
        lrn: bool = False,
        lrn_alpha_convention: AlphaConvention | None = None,
        lrn_k: float | None = None,
        fc_units: int = 4096,
        dropout: float = 0.5,
        init: Literal["glorot", "gaussian"] = "glorot",
        init_std: float | None = None,
        ceil_mode: bool = True,
        width: float = 1.0,
        image_size: int = 224,
    ) -> None:
        super().__init__()
        if init not in ("glorot", "gaussian"):
            raise ValueError(f"init must be 'glorot' or 'gaussian', not {init!r}")
        if (lrn_alpha_convention, lrn_k) != (None, None) and not lrn:
            raise ValueError("lrn_alpha_convention and lrn_k do nothing without lrn")
        if init_std is not None and init != "gaussian":
            raise ValueError(f"init_std is the scale of init='gaussian'; init={init!r} has none")
        if image_size < 32 and not ceil_mode:
            raise ValueError(
                f"pool5 has nothing left to halve at image_size={image_size}: "
                "the smallest that works is 32, or use ceil_mode=True"
            )
        self.stages = stages
        self.init = init
        self.init_std = 0.01 if init_std is None else init_std
        self.input_size = image_size
        self.map_size = -(-image_size // 32) if ceil_mode else image_size // 32

        channels = 3
        for stage, (kernels, published) in enumerate(zip(stages, CHANNELS, strict=True), start=1):
            out_channels = scaled(published, width)
            for index, kernel in enumerate(kernels, start=1):
                conv = nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2)
                self.add_module(f"conv{stage}_{index}", conv)
                self.add_module(f"relu{stage}_{index}", nn.ReLU())
                channels = out_channels
            if stage == 1 and lrn:
                self.norm1 = LocalResponseNorm(
                    5,
                    alpha=1e-4,
                    beta=0.75,
                    k=1.0 if lrn_k is None else lrn_k,
                    alpha_convention=lrn_alpha_convention or "divided",
                )
            self.add_module(f"pool{stage}", nn.MaxPool2d(2, ceil_mode=ceil_mode))
        units = scaled(fc_units, width)
        self.flatten = nn.Flatten()
        self.fc6 = nn.Linear(channels * self.map_size**2, units)
        self.relu6 = nn.ReLU()
        self.drop6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(units, units)
        self.relu7 = nn.ReLU()
        self.drop7 = nn.Dropout(dropout)
        self.fc8 = nn.Linear(units, num_classes)
        self.reset_parameters()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw all weights again (Sect. 3.1) and set the biases to 0."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif self.init == "glorot":
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.normal_(parameter, std=self.init_std, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, image_size, image_size) images to (N, num_classes) logits."""
        for layer in self.children():
            x = layer(x)
        return x

    def dense(self, x: Tensor) -> Tensor:
        """Class scores at every position of a larger image (Sect. 3.2).

        fc6 becomes a 7 x 7 convolution over the maps of pool5, fc7 and fc8 become 1 x 1. The
        layers themselves are applied to every window, so weights, dropout and hooks are those of
        `forward`. The paper averages the scores over the map, then takes the softmax.

        Args:
            x: (N, 3, H, W) images with both sides at least ``image_size``.

        Returns:
            (N, num_classes, h, w) scores; at image_size 224, h is ``H // 32 - 6``.

        Raises:
            ValueError: the image leaves fewer positions than fc6 covers.
        """
        layers = self.named_children()
        for name, layer in layers:
            if name == "flatten":
                break
            x = layer(x)
        rows, columns = (side - self.map_size + 1 for side in x.shape[2:])
        if min(rows, columns) < 1:
            raise ValueError(
                f"fc6 covers {self.map_size} x {self.map_size} positions of pool5, "
                f"this image leaves {x.shape[2]} x {x.shape[3]}"
            )
        x = F.unfold(x, self.map_size).transpose(1, 2)
        for _, layer in layers:
            x = layer(x)
        return x.transpose(1, 2).unflatten(2, (rows, columns))


def initialise_from(model: VGG, trained_a: VGG) -> None:
    """Start a deeper net from a trained A (Sect. 3.1).

    Copies `TAKEN_FROM_A`; the other layers of `model` keep their random weights. The paper trains
    the copied layers at the full learning rate.

    Raises:
        ValueError: `trained_a` is not a net A, or a layer's shape differs between the two.
    """
    if trained_a.stages != STAGES["a"]:
        raise ValueError("the paper's initialisation takes a trained net A")
    taken = {k: v for k, v in trained_a.state_dict().items() if k.split(".")[0] in TAKEN_FROM_A}
    own = model.state_dict()
    misfits = [key for key in taken if key not in own or own[key].shape != taken[key].shape]
    if misfits:
        raise ValueError(f"these weights of A do not fit this net: {', '.join(misfits)}")
    model.load_state_dict(taken, strict=False)


@register("vgg_a")
def vgg_a(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> VGG:
    """Net A, the shallowest, which initialised the others. Knobs: see `VGG`."""
    return VGG(STAGES["a"], num_classes, **knobs)


@register("vgg_a_lrn")
def vgg_a_lrn(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> VGG:
    """Net A with AlexNet's local response normalisation after conv1_1. Knobs: see `VGG`."""
    return VGG(STAGES["a"], num_classes, lrn=True, **knobs)


@register("vgg_b")
def vgg_b(num_classes: int = 1000, *, pairs_as_5x5: bool = False, **knobs: Unpack[Knobs]) -> VGG:
    """Net B.

    Args:
        num_classes: length of the logits.
        pairs_as_5x5: one 5 x 5 convolution in place of each pair of 3 x 3, the shallow net that
            Sect. 4.1 compares with B.
        **knobs: see `VGG`.
    """
    return VGG(STAGES["b_5x5" if pairs_as_5x5 else "b"], num_classes, **knobs)


@register("vgg_c")
def vgg_c(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> VGG:
    """Net C: D's depth with 1 x 1 for the last convolution of stages 3 to 5. Knobs: see `VGG`."""
    return VGG(STAGES["c"], num_classes, **knobs)


@register("vgg_d")
def vgg_d(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> VGG:
    """Net D, "VGG-16". Knobs: see `VGG`."""
    return VGG(STAGES["d"], num_classes, **knobs)


@register("vgg_e")
def vgg_e(num_classes: int = 1000, **knobs: Unpack[Knobs]) -> VGG:
    """Net E, "VGG-19". Knobs: see `VGG`."""
    return VGG(STAGES["e"], num_classes, **knobs)


def _fidelity(*, lrn: bool = False) -> tuple[Fidelity, ...]:
    normalisation = Fidelity(
        "normalisation",
        "same",
        "none",
        "Sect. 2.1",
        checked=(
            "constants and place: "
            "test_vgg.test_lrn_has_alexnets_constants_and_lies_between_relu_and_pool_of_stage_1; "
            "none elsewhere: test_vgg.test_layer_table"
        ),
    )
    if lrn:
        normalisation = Fidelity(
            "normalisation",
            "same",
            "LRN in stage 1 with AlexNet's n=5, alpha=1e-4, beta=0.75",
            "Sect. 2.1; Caffe of December 2013, lrn_layer.cpp",
            "alpha divided by n and k=1, as in that Caffe; the cited formula is "
            "lrn_alpha_convention='paper', lrn_k=2",
            checked=(
                "constants and place: "
                "test_vgg.test_lrn_has_alexnets_constants_and_lies_between_relu_and_pool_of_stage_1; "
                "none elsewhere: test_vgg.test_layer_table"
            ),
        )
    return (
        Fidelity(
            "geometry",
            "same",
            "3x3 (C also 1x1) stride 1, size kept, width 64 to 512",
            "Table 1",
            checked="parameters, multiply-adds and outputs: test_vgg.test_counts",
        ),
        Fidelity(
            "activation",
            "same",
            "ReLU after every hidden layer",
            "Sect. 2.1",
            checked="test_vgg.test_layer_table",
        ),
        normalisation,
        Fidelity(
            "pooling",
            "same",
            "five 2x2 max pools of stride 2, rounding up",
            "Sect. 2.1; Caffe of December 2013, pooling_layer.cpp",
            "ceil_mode=False is torch's rule. Equal for sides that are multiples of 32",
            checked="test_vgg.test_rounding_of_pools_shows_except_at_multiples_of_32",
        ),
        Fidelity("head", "same", "4096, 4096, 1000", "Sect. 2.1", checked="test_vgg.test_counts"),
        Fidelity(
            "dropout",
            "same",
            "0.5 on the first two fully connected layers",
            "Sect. 3.1",
            checked=(
                "place and rate: test_vgg.test_dropout_follows_the_relu_of_fc6_and_fc7_only; "
                "inverted, as Caffe's dropout_layer.cpp"
            ),
        ),
        Fidelity(
            "initialisation",
            "deviates",
            "A from N(0, variance 1e-2), the deeper nets from a trained A, biases 0",
            "Sect. 3.1",
            "Glorot's: the same section found after the submission that no trained A is needed with it; "
            "init='gaussian' and initialise_from are the published way",
        ),
        Fidelity(
            "dense evaluation",
            "same",
            "fully connected layers as convolutions",
            "Sect. 3.2",
            "`VGG.dense`",
            checked=(
                "against convolutions of the same weights: "
                "test_vgg.test_dense_is_the_fully_convolutional_net"
            ),
        ),
    )


FIDELITY: dict[str, tuple[Fidelity, ...]] = {
    "vgg_a": _fidelity(),
    "vgg_a_lrn": _fidelity(lrn=True),
    "vgg_b": _fidelity(),
    "vgg_c": _fidelity(),
    "vgg_d": _fidelity(),
    "vgg_e": _fidelity(),
}
