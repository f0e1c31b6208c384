"""ZFNet: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks",
arXiv:1311.2901 v3, ECCV 2014, Fig. 3.

62,357,608 parameters; 1,168,032,896 multiply-adds for a crop of 224. Not the winner of 2013, which
was Clarifai's unpublished ensemble, and not the net that the detection literature calls ZF, which
pads its layers differently and normalises within maps. Neither torchvision nor timm has either net.

Against AlexNet: a first kernel of 7x7 with stride 2, stride 2 in conv2, no columns, and contrast
normalisation after the pool. Pools 1 and 2 round up, as the sizes 110-55-26-13-6 need. Input is RGB
on the 0-255 scale minus the mean, where a few filters of the first layer would outgrow the rest:
after every step of the optimiser, `renormalise_filters` bounds them (§3).
"""

from collections.abc import Collection
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from models.fidelity import Fidelity
from models.parts.layers import LocalResponseNorm, Window, make_dropout, map_sides, scaled
from models.registry import register

CHANNELS = {"conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256}
WIDER = {"conv3": 512, "conv4": 1024, "conv5": 512}  # model (b) of Table 2
REMOVABLE = {"conv3", "conv4", "conv5", "fc6", "fc7"}
INITIAL_STD = 0.01
LARGEST_RMS = 0.1


class ZFNet(nn.Module):
    """A chain of named layers: ``conv1``, ``relu1``, ``pool1``, ``norm1``, ``conv2``, ..., ``fc8``.

    (N, 3, image_size, image_size), RGB on the 0-255 scale minus the mean, to logits
    (N, num_classes). Built by `zfnet`, which documents the arguments.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        channels: dict[str, int],
        stem: tuple[int, int],
        conv2_stride: int,
        lrn: bool,
        dropout: float,
        inverted_dropout: bool,
        initial_std: float,
        width: float,
        image_size: int,
    ) -> None:
        super().__init__()
        self.input_size = image_size
        self.initial_std: dict[str, float] = {}
        chain = (
            Window("conv1", *stem, padding=1),
            Window("pool1", 3, 2, ceil=True),
            Window("conv2", 5, conv2_stride),
            Window("pool2", 3, 2, ceil=True),
            Window("conv3", 3, 1, padding=1),
            Window("conv4", 3, 1, padding=1),
            Window("conv5", 3, 1, padding=1),
            Window("pool5", 3, 2),
        )
        sides = map_sides(image_size, chain)
        seen = full = 3  # channels of the layer below, here and at full width
        for layer in chain:
            number = layer.name[-1]
            if layer.name.startswith("pool"):
                self.add_module(layer.name, nn.MaxPool2d(3, 2, ceil_mode=layer.ceil))
                if lrn and layer.name != "pool5":
                    self.add_module(f"norm{number}", LocalResponseNorm())
            elif layer.name in channels:
                out = scaled(channels[layer.name], width)
                self.add_module(layer.name, nn.Conv2d(seen, out, *layer[1:4]))
                self.add_module(f"relu{number}", nn.ReLU())
                published_kernel = 7 if layer.name == "conv1" else layer.kernel
                fan_in_ratio = full / seen * (published_kernel / layer.kernel) ** 2
                self.initial_std[layer.name] = initial_std * sqrt(fan_in_ratio)
                seen, full = out, channels[layer.name]
        self.flatten = nn.Flatten()
        seen, full = seen * sides["pool5"] ** 2, full * 6**2
        for name in ("fc6", "fc7"):
            if name in channels:
                out = scaled(channels[name], width)
                self.add_module(name, nn.Linear(seen, out))
                self.add_module(f"relu{name[-1]}", nn.ReLU())
                self.add_module(f"drop{name[-1]}", make_dropout(dropout, inverted=inverted_dropout))
                self.initial_std[name] = initial_std * sqrt(full / seen)
                seen, full = out, channels[name]
        self.fc8 = nn.Linear(seen, num_classes)
        self.initial_std["fc8"] = initial_std * sqrt(full / seen)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, num_classes)."""
        for layer in self.children():
            x = layer(x)
        return x

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Weights N(0, ``initial_std``²), biases 0 (§3).

        "All weights are initialized to 10⁻²" must mean the standard deviation: equal weights would
        stay equal. A layer that has fewer inputs than published, by ``width``, ``stem`` or
        ``image_size``, gets a std larger by the square root of that.
        """
        for name, std in self.initial_std.items():
            nn.init.normal_(self.get_parameter(f"{name}.weight"), 0, std, generator)
            nn.init.zeros_(self.get_parameter(f"{name}.bias"))


@torch.no_grad()
def renormalise_filters(model: nn.Module, largest_rms: float = LARGEST_RMS) -> None:
    """Scale every convolution filter whose root mean square exceeds the bound back to it (§3).

    A filter is all the weights of one output channel; the bound is on its RMS as the text says, not
    on the L2 norm that cuda-convnet can bound.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            rms = module.weight.square().mean((1, 2, 3), keepdim=True).sqrt()
            module.weight.mul_((largest_rms / rms).clamp(max=1))


def renormalise_after_step(
    model: nn.Module, optimizer: Optimizer, largest_rms: float = LARGEST_RMS
) -> RemovableHandle:
    """Make every step of ``optimizer`` end with `renormalise_filters`; removing the handle undoes it."""

    def hook(*_: Any) -> None:
        renormalise_filters(model, largest_rms)

    return optimizer.register_step_post_hook(hook)


@register("zfnet")
def zfnet(
    num_classes: int = 1000,
    *,
    wider: bool = False,
    fc_channels: int = 4096,
    remove: Collection[str] = (),
    stem: tuple[int, int] = (7, 2),
    conv2_stride: int = 2,
    lrn: bool = True,
    dropout: float = 0.5,
    inverted_dropout: bool = False,
    initial_std: float = INITIAL_STD,
    width: float = 1.0,
    image_size: int = 224,
) -> ZFNet:
    """Build the net of Fig. 3.

    Args:
        num_classes: length of the logits.
        wider: 512, 1024, 512 channels in conv3, conv4, conv5: model (b) of Table 2, 107,627,624
            parameters.
        fc_channels: outputs of fc6 and fc7 (Table 3: 2048 or 8192).
        remove: layers to leave out, of conv3, conv4, conv5, fc6 and fc7 (Table 3); pool5 stays.
        stem: kernel and stride of conv1; (11, 2) and (7, 4) separate the two changes that the paper
            made at once (§4.1), (3, 1) suits images of 64 px.
        conv2_stride: the stride of conv2.
        lrn: contrast normalisation after pools 1 and 2, with AlexNet's constants (not stated).
        dropout: probability of dropping an output of fc6 and fc7.
        inverted_dropout: the form of Caffe and PyTorch, see `OriginalDropout`; by default that of
            Krizhevsky's code, on which the paper's is based.
        initial_std: standard deviation of a layer's initial weights at its published number of inputs.
        width: multiplies all hidden channel counts.
        image_size: side of the crop in pixels.

    Raises:
        ValueError: knobs that do not go together, or an image too small for a layer.
    """
    if unknown := set(remove) - REMOVABLE:
        raise ValueError(f"cannot remove {sorted(unknown)}: choose from {sorted(REMOVABLE)}")
    if {"fc6", "fc7"} <= set(remove) and (
        dropout != 0.5 or inverted_dropout or fc_channels != 4096
    ):
        raise ValueError("dropout, inverted_dropout and fc_channels do nothing without fc6 and fc7")
    if wider and WIDER.keys() <= set(remove):
        raise ValueError("wider does nothing without conv3, conv4 and conv5")
    channels = CHANNELS | (WIDER if wider else {}) | {"fc6": fc_channels, "fc7": fc_channels}
    return ZFNet(
        num_classes,
        channels={name: n for name, n in channels.items() if name not in remove},
        stem=stem,
        conv2_stride=conv2_stride,
        lrn=lrn,
        dropout=dropout,
        inverted_dropout=inverted_dropout,
        initial_std=initial_std,
        width=width,
        image_size=image_size,
    )


FIDELITY = {
    "zfnet": (
        Fidelity(
            "geometry",
            "same",
            "7x7 stride 2, 5x5 stride 2, three 3x3; maps of 110-55-26-13-6",
            "Fig. 3",
            "paddings are not stated: 1 in conv1, 0 in conv2, 1 in conv3-5 and pools that round up "
            "give these sizes",
            checked="map sides and parameters: test_zfnet.test_layer_table",
        ),
        Fidelity(
            "columns",
            "same",
            "none, every layer sees all channels",
            "§4.1",
            checked="parameters: test_zfnet.test_layer_table",
        ),
        Fidelity("activation", "same", "ReLU", "§2", checked="test_zfnet.test_norm_follows_pool"),
        Fidelity(
            "pooling",
            "same",
            "max, 3x3 with stride 2, before the norm",
            "Fig. 3",
            checked="rounding up: test_zfnet.test_layer_table",
        ),
        Fidelity(
            "contrast normalisation",
            "not stated",
            "across feature maps, after pools 1 and 2, constants not given",
            "Fig. 3, §2",
            "AlexNet's: n=5, α=1e-4 divided by n, β=0.75, k=2",
        ),
        Fidelity(
            "dropout",
            "same",
            "0.5 on layers 6 and 7",
            "§3",
            "as in Krizhevsky's code: masks in training, scales by 0.5 at test time",
            checked="test_dropout.test_inverted_dropout_is_the_same_training_only_if_it_is_compensated",
        ),
        Fidelity(
            "initialisation",
            "same",
            "weights 1e-2, biases 0",
            "§3",
            "read as N(0, 0.01²): a constant would never break the symmetry",
            checked="measured on the network: test_zfnet.test_initialisation",
        ),
        Fidelity(
            "filter renormalisation",
            "same",
            "filters of RMS above 1e-1 are scaled back to it",
            "§3",
            "after every step, by renormalise_after_step; how often is not stated",
            checked=(
                "test_zfnet.test_renormalisation_bounds_the_rms_of_large_filters_only, "
                "test_zfnet.test_renormalisation_follows_the_step_until_undone"
            ),
        ),
        Fidelity(
            "input",
            "same",
            "RGB 0-255 minus the per-pixel mean",
            "§3",
            checked="test_augment.test_the_mean_image_is_cut_at_the_centre",
        ),
    ),
}
