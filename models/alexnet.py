"""AlexNet: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional
Neural Networks", NIPS 2012, §3.5 and Fig. 2; and the configuration that its authors ran, net 145.

60,965,224 parameters; 724,406,816 multiply-adds for a crop of 224.

Not torchvision's ``alexnet``: that is the one-column net of "One weird trick" (2014) without its
normalisation, with 61,100,840 parameters, dropout before the fully connected layers, PyTorch's own
initialisation and unit-variance input. The winner of 2012 has two columns (groups), local response
normalisation, and an initialisation made for pixels on the 0-255 scale minus their mean.

Two presets, because the text of the paper is not what was run:

===========  ========================  ========================================================
element      ``paper``                 ``authors`` (the default: it is the one with logged results)
===========  ========================  ========================================================
layer 1      conv, ReLU, norm, pool    conv, norm, pool, ReLU
layer 2      conv, ReLU, norm, pool    conv, ReLU, norm, a second norm within each map, pool
layer 5      conv, ReLU, pool          conv, pool, ReLU
norm         over all channels; α      inside each column; α / 5
initial std  0.01                      0.03 in conv3, conv4, conv5 (and conv6), 0.01 elsewhere
===========  ========================  ========================================================
"""

from collections.abc import Collection
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from models.fidelity import Fidelity
from models.parts.layers import (
    AlphaConvention,
    CeilConv2d,
    GroupedLinear,
    LocalResponseNorm,
    Window,
    WithinMapNorm,
    make_dropout,
    map_sides,
    scaled,
)
from models.registry import check_choice, register

Preset = Literal["authors", "paper"]
Variant = Literal["2012", "one_weird_trick"]
Groups = Literal[1, 2, "isolated"]
Activation = Literal["relu", "tanh", "sigmoid", "softplus", "elu", "gelu"]

CONVOLUTIONS = {  # kernel, stride, padding, sees only its own column
    "conv1": (11, 4, 0, False),
    "conv2": (5, 1, 2, True),
    "conv3": (3, 1, 1, False),
    "conv4": (3, 1, 1, True),
    "conv5": (3, 1, 1, True),
    "conv6": (3, 1, 1, False),  # only in the nets that were pre-trained on 22,000 classes
}
LAYERS = (*CONVOLUTIONS, "fc6", "fc7")

CHANNELS = {
    "two columns": (96, 256, 384, 384, 256, 256, 4096, 4096),
    "isolated": (96, 320, 384, 384, 256, 256, 8192, 4096),  # net 150
    "one column": (48, 128, 192, 192, 256, 256, 4096, 4096),  # net 145-half
    "one weird trick": (64, 192, 384, 256, 256, 256, 4096, 4096),
}

AFTER: dict[str, dict[str, tuple[str, ...]]] = {
    "paper": {
        "conv1": ("act", "norm", "pool"),
        "conv2": ("act", "norm", "within", "pool"),
        "conv5": ("act", "pool"),
    },
    "authors": {
        "conv1": ("norm", "pool", "act"),
        "conv2": ("act", "norm", "within", "pool"),
        "conv5": ("pool", "act"),
    },
}

INITIAL_STD = {
    "paper": {},
    "authors": {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03, "conv6": 0.03},
}  # 0.01 in all other layers
POSITIVE_BIAS = ("conv2", "conv4", "conv5", "conv6", "fc6", "fc7")  # §5: gives ReLUs positive input

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}


class AlexNet(nn.Module):
    """A chain of named layers: ``conv1``, ``norm1``, ``pool1``, ``relu1``, ``conv2``, ..., ``fc8``.

    (N, 3, H, W), RGB on the 0-255 scale minus the mean, to logits (N, num_classes). H and W are
    ``image_size``, or any size that gives maps of the same size (227 as well as 224). Built by
    `alexnet`, which documents the arguments and refuses combinations that make no sense.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        preset: Preset,
        initialisation: Preset,
        channels: dict[str, int],
        groups: int,
        isolated: bool,
        norms: dict[str, nn.Module],
        stem: tuple[int, int],
        pool_kernel: int,
        pool_before_norm: bool,
        dropout: float,
        inverted_dropout: bool,
        activation: Activation,
        bias: float,
        fc8_bias: float,
        width: float,
        image_size: int,
    ) -> None:
        super().__init__()
        self.input_size = image_size
        self.initial: dict[str, tuple[float, float]] = {}  # name -> std of weights, bias
        # The authors' pools round up. Those of 2x2 do not, so that their maps are as large as with 3x3.
        ceil = pool_kernel == 3
        pools = [Window(f"pool{number}", pool_kernel, 2, ceil=ceil) for number in (1, 2, 5)]
        sides = map_sides(image_size, [Window("conv1", *stem, ceil=True), *pools])
        seen = full = 3  # channels of the layer below, here and at full width

        def initialise(name: str, fan_in_ratio: float) -> None:
            std = INITIAL_STD[initialisation].get(name, 0.01)
            constant = bias if name in POSITIVE_BIAS else fc8_bias if name == "fc8" else 0.0
            self.initial[name] = std * sqrt(fan_in_ratio), constant

        convolutions = CONVOLUTIONS | {"conv1": (*stem, 0, False)}
        for name, (kernel, stride, padding, own_column) in convolutions.items():
            number = name[-1]
            steps = AFTER[preset].get(name, ("act",))
            if pool_before_norm and "norm" in steps:
                steps = "act", "pool", "norm", "within"
            if name in channels:
                out = scaled(channels[name], width)
                split = groups if own_column or (isolated and name != "conv1") else 1
                conv = CeilConv2d if name == "conv1" else nn.Conv2d
                self.add_module(name, conv(seen, out, kernel, stride, padding, groups=split))
                initialise(name, full / seen * (CONVOLUTIONS[name][0] / kernel) ** 2)
                seen, full = out, channels[name]
            else:
                steps = tuple(step for step in steps if step == "pool")
            for step in steps:
                if step == "act":
                    self.add_module(f"{activation}{number}", ACTIVATIONS[activation]())
                elif step == "pool":
                    self.add_module(f"pool{number}", nn.MaxPool2d(pool_kernel, 2, ceil_mode=ceil))
                elif f"{step}{number}" in norms:
                    self.add_module(f"{step}{number}", norms[f"{step}{number}"])

        self.flatten = nn.Flatten()
        seen, full = seen * sides["pool5"] ** 2, full * 6**2
        for name in ("fc6", "fc7"):
            if name not in channels:
                continue
            out = scaled(channels[name], width)
            self.add_module(
                name, GroupedLinear(seen, out, groups) if isolated else nn.Linear(seen, out)
            )
            self.add_module(f"{activation}{name[-1]}", ACTIVATIONS[activation]())
            self.add_module(f"drop{name[-1]}", make_dropout(dropout, inverted=inverted_dropout))
            initialise(name, full / seen)
            seen, full = out, channels[name]
        self.fc8 = nn.Linear(seen, num_classes)
        initialise("fc8", full / seen)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, num_classes)."""
        for layer in self.children():
            x = layer(x)
        return x

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Weights N(0, std²) and constant biases, per layer as in the preset (§5).

        A layer that has fewer inputs than published, by ``width``, ``stem`` or ``image_size``, gets
        a std larger by the square root of that, so that its output starts at the published scale.
        """
        for name, (std, bias) in self.initial.items():
            nn.init.normal_(self.get_parameter(f"{name}.weight"), 0, std, generator)
            nn.init.constant_(self.get_parameter(f"{name}.bias"), bias)


@register("alexnet")
def alexnet(
    num_classes: int = 1000,
    *,
    preset: Preset = "authors",
    variant: Variant = "2012",
    groups: Groups | None = None,
    one_column: bool = False,
    conv6: bool = False,
    lrn: bool | tuple[str, ...] = True,
    lrn_alpha: float | None = None,
    lrn_alpha_convention: AlphaConvention | None = None,
    lrn_k: float | None = None,
    pool_before_norm: bool = False,
    within_map_norm: bool | None = None,
    stem: tuple[int, int] = (11, 4),
    overlapping_pooling: bool = True,
    dropout: float = 0.5,
    inverted_dropout: bool = False,
    activation: Activation = "relu",
    remove: Collection[str] = (),
    fc_channels: int = 4096,
    initialisation: Preset | None = None,
    bias: float | None = None,
    width: float = 1.0,
    image_size: int = 224,
) -> AlexNet:
    """Build AlexNet, by default the authors' net 145.

    Args:
        num_classes: length of the logits.
        preset: ``"authors"`` (as run) or ``"paper"`` (as written); see the module's table.
        variant: ``"one_weird_trick"`` is Krizhevsky's one-column net of 2014: 64-192-384-256-256,
            no within-map norm, bias of fc8 -7.
        groups: 2 as published; 1 lets every layer see all channels of the one below (62,378,344
            parameters); ``"isolated"`` cuts every connection between the columns below fc8, and has
            the larger widths with which net 150 compensated (conv2 320, fc6 8192).
        one_column: half of the convolutional net (net 145-half, §3.2): 48-128-192-192-256 and full
            fully connected layers, 59,798,312 parameters.
        conv6: one more convolution after the last pool, as in the nets pre-trained on more classes
            (§6).
        lrn: the layers with local response normalisation: all, none, or some of
            ``("conv1", "conv2")``. None also removes the within-map norm, as in net 148 (§3.3).
        lrn_alpha: α, by default 1e-4.
        lrn_alpha_convention: ``"divided"`` or ``"paper"``, see `LocalResponseNorm`; by default the
            preset's.
        lrn_k: k, by default 2. Caffe's replications left it at 1.
        pool_before_norm: ReLU, pool, norm in the layers with a norm, as in CaffeNet.
        within_map_norm: the second norm of layer 2; by default the preset's.
        stem: kernel and stride of conv1; (5, 2) suits images of 64 px.
        overlapping_pooling: pool 3x3 with stride 2; if False, 2x2 with stride 2, which gives maps of
            the same size (§3.4).
        dropout: probability of dropping an output of fc6 and fc7 (§4.2).
        inverted_dropout: divide by what is kept in training, as Caffe's replications do, instead of
            multiplying by it at test time, see `OriginalDropout`.
        activation: the non-linearity, to replace ReLU (§3.1).
        remove: layers to leave out, of conv2 to conv5, fc6 and fc7; pools stay.
        fc_channels: outputs of fc6 and fc7 (2048 and 8192 in Zeiler and Fergus's Table 3).
        initialisation: the preset that gives the initial weights' standard deviations; by default `preset`.
        bias: initial bias of conv2, conv4, conv5, fc6 and fc7; by default 1 before a ReLU, for
            which the paper introduced it (§5), and 0 before any other activation.
        width: multiplies all hidden channel counts.
        image_size: side of the crop in pixels.

    Raises:
        ValueError: knobs that do not go together, or an image too small for the pools.
    """
    check_choice("preset", preset, Preset)
    check_choice("initialisation", initialisation or preset, Preset)
    check_choice("variant", variant, Variant)
    check_choice("activation", activation, Activation)
    if groups is not None:
        check_choice("groups", groups, Groups)
    if lrn_alpha_convention is not None:
        check_choice("lrn_alpha_convention", lrn_alpha_convention, AlphaConvention)
    if groups is not None and (one_column or variant == "one_weird_trick"):
        raise ValueError("groups does nothing in a net of one column")
    if one_column and variant == "one_weird_trick":
        raise ValueError("the one_weird_trick variant has its own single column: drop one_column")
    removable = {"conv2", "conv3", "conv4", "conv5", "fc6", "fc7"}
    if unknown := set(remove) - removable:
        raise ValueError(f"cannot remove {sorted(unknown)}: choose from {sorted(removable)}")
    if {"fc6", "fc7"} <= set(remove) and (
        dropout != 0.5 or inverted_dropout or fc_channels != 4096
    ):
        raise ValueError("dropout, inverted_dropout and fc_channels do nothing without fc6 and fc7")

    form = "one weird trick" if variant == "one_weird_trick" else "two columns"
    form = "one column" if one_column else "isolated" if groups == "isolated" else form
    channels = dict(zip(LAYERS, CHANNELS[form], strict=True))
    channels["fc6"] = channels["fc6"] * fc_channels // 4096
    channels["fc7"] = fc_channels
    channels = {name: n for name, n in channels.items() if name not in remove}
    if not conv6:
        del channels["conv6"]

    isolated = groups == "isolated"
    columns = 1 if groups == 1 or form.startswith("one") else 2

    normalised = {"conv1", "conv2"} & channels.keys() if lrn is True else set(lrn or ())
    if absent := normalised - ({"conv1", "conv2"} & channels.keys()):
        raise ValueError(f"no local response normalisation can follow {sorted(absent)}")
    constants = (lrn_alpha, lrn_alpha_convention, lrn_k)
    if not normalised and (pool_before_norm or constants != (None, None, None)):
        raise ValueError(
            "lrn_alpha, lrn_alpha_convention, lrn_k and pool_before_norm do nothing without lrn"
        )
    norms: dict[str, nn.Module] = {
        f"norm{name[-1]}": LocalResponseNorm(
            alpha=1e-4 if lrn_alpha is None else lrn_alpha,
            k=2.0 if lrn_k is None else lrn_k,
            groups=columns if preset == "authors" or isolated else 1,
            alpha_convention=lrn_alpha_convention
            or ("divided" if preset == "authors" else "paper"),
        )
        for name in normalised
    }
    if within_map_norm is None:
        as_run = preset == "authors" and variant == "2012"
        within_map_norm = as_run and "conv2" in normalised
    if within_map_norm:
        if "conv2" in remove:
            raise ValueError("the within-map norm follows conv2, which is removed")
        norms["within2"] = WithinMapNorm()

    return AlexNet(
        num_classes,
        preset=preset,
        initialisation=initialisation or preset,
        channels=channels,
        groups=columns,
        isolated=isolated,
        norms=norms,
        stem=stem,
        pool_kernel=3 if overlapping_pooling else 2,
        pool_before_norm=pool_before_norm,
        dropout=dropout,
        inverted_dropout=inverted_dropout,
        activation=activation,
        bias=bias if bias is not None else float(activation == "relu"),
        fc8_bias=-7.0 if variant == "one_weird_trick" else 0.0,
        width=width,
        image_size=image_size,
    )


FIDELITY = {
    "alexnet": (
        Fidelity(
            "geometry",
            "same",
            "five convolutions, 55-27-13-6",
            "§3.5; layer.py",
            "sizes round up and read zeros past the edge, so that 224 gives 55",
            checked="sides and parameters of every layer: test_alexnet.test_layer_table",
        ),
        Fidelity(
            "columns",
            "same",
            "two; conv2, conv4, conv5 see their own",
            "§3.2, §3.5",
            checked="which half reaches which: test_alexnet.test_columns",
        ),
        Fidelity(
            "order of layers 1, 2, 5",
            "same",
            "norm and pool before ReLU in layer 1, a within-map norm in layer 2",
            "layers-145.cfg",
            "preset='paper' follows the text, which differs; pool_before_norm=True is CaffeNet's",
            checked=(
                "test_alexnet.test_order_of_layers_as_run; the authors' cfg, interpreted in "
                "the audit of November 2026, gave the same scores to 1e-15"
            ),
        ),
        Fidelity(
            "local response normalisation",
            "same",
            "n=5, α=1e-4 (divided by n as run), β=0.75, k=2, inside each column",
            "§3.3; layer-params-145.cfg",
            "preset='paper': α as in the formula, over all channels; Caffe's replications are "
            "preset='paper', lrn_alpha_convention='divided', lrn_k=1",
            checked=(
                "test_alexnet.test_response_norm_of_each_preset, "
                "test_layers.test_equals_torch_forward_and_backward"
            ),
        ),
        Fidelity(
            "activation", "same", "ReLU", "§3.1", checked="test_alexnet.test_order_of_layers_as_run"
        ),
        Fidelity(
            "pooling",
            "same",
            "max, 3x3 with stride 2, rounding up",
            "§3.4; layer.py",
            checked=(
                "sides at 224, and where rounding up shows: "
                "test_lookalikes.test_alexnets_pools_round_up"
            ),
        ),
        Fidelity(
            "dropout",
            "same",
            "0.5 on the outputs of fc6 and fc7",
            "§4.2; src/layer.cu",
            "masks in training, scales by 0.5 at test time; inverted_dropout=True is Caffe's",
            checked="test_dropout.test_inverted_dropout_is_the_same_training_only_if_it_is_compensated",
        ),
        Fidelity(
            "initialisation",
            "same",
            "std 0.03 in conv3-5, else 0.01; biases 1 in conv2, 4, 5, fc6, fc7",
            "§5; layers-145.cfg",
            "the paper has 0.01 everywhere: preset='paper'",
            checked="measured on the network: test_alexnet.test_initialisation",
        ),
        Fidelity(
            "input",
            "same",
            "RGB 0-255 minus the mean image",
            "§2",
            checked="test_augment.test_the_mean_image_is_cut_at_the_centre",
        ),
    ),
}
