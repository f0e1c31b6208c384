"""The networks that were released as Caffe weights, and how their layers map to ours.

Where Caffe's networks differ from ours as modules, not as functions, the weights are changed:

- Caffe reads images with OpenCV, so every network released for it takes BGR: the input channels of
  the first convolution are reversed.
- Batch normalisation is two layers, BatchNorm (mean, variance, and the factor by which both are too
  large) and Scale (gamma and beta). They become one `torch.nn.BatchNorm2d`; eps is 1e-5 in both.
- The released ResNet-50 has a bias in conv1. BN(x + b) with mean m is BN(x) with mean m - b.

Where they differ as functions (order of pool and norm, constants of the LRN, pools that round up,
place of the stride) the network is built with the knobs of `RELEASES`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from models.pretrained.caffemodel import CaffeLayer, read_caffemodel
from models.pretrained.preprocessing import RGB, Preprocessing
from models.registry import check_choice, create_on_meta

ChannelOrder = Literal["BGR", "RGB"]


def _same(name: str) -> str:
    """For AlexNet, CaffeNet and VGG, whose layers we name as their authors did."""
    return name


def _googlenet(name: str) -> str:
    if branch := re.fullmatch(r"(inception_\d\w)/(\w+)", name):
        module, part = branch.groups()
        return f"{module}.{part if part == 'pool_proj' else f'conv{part}'}.conv"
    return {
        "conv1/7x7_s2": "conv1.conv",
        "conv2/3x3_reduce": "conv2_reduce.conv",
        "conv2/3x3": "conv2.conv",
        "loss1/conv": "aux1.conv.conv",
        "loss1/fc": "aux1.fc",
        "loss1/classifier": "aux1.classifier",
        "loss2/conv": "aux2.conv.conv",
        "loss2/fc": "aux2.fc",
        "loss2/classifier": "aux2.classifier",
        "loss3/classifier": "classifier",
    }.get(name, name)


def _resnet(name: str) -> str:
    """Units of a stage are called a, b, c, ..., or, from ResNet-101 on, a, b1, b2, ..."""
    if unit := re.fullmatch(r"(res|bn|scale)(\d)([a-z])(\d*)_branch(1|2[abc])", name):
        kind, stage, letter, number, branch = unit.groups()
        index = int(number) if number else ord(letter) - ord("a")
        if branch == "1":
            part = f"shortcut.{0 if kind == 'res' else 1}"
        else:
            part = f"{'conv' if kind == 'res' else 'bn'}{'abc'.index(branch[1]) + 1}"
        return f"conv{stage}_x.{index}.{part}"
    return {"bn_conv1": "bn1", "scale_conv1": "bn1", "fc1000": "fc"}.get(name, name)


def _senet(name: str) -> str:
    """Batch normalisation is named after its convolution: ``.../bn`` and ``.../bn/scale``."""
    convolution = re.sub(r"/bn(/scale)?$", "", name)
    normalised = convolution != name
    if unit := re.fullmatch(r"conv(\d)_(\d+)_(3x3|1x1_\w+)", convolution):
        stage, number, part = unit.groups()
        first, second = {
            "1x1_reduce": ("conv1", "bn1"),
            "3x3": ("conv2", "bn2"),
            "1x1_increase": ("conv3", "bn3"),
            "1x1_down": ("se.fc1", ""),
            "1x1_up": ("se.fc2", ""),
            "1x1_proj": ("shortcut.0", "shortcut.1"),
        }.get(part, ("", ""))
        return f"conv{stage}_x.{int(number) - 1}.{second if normalised else first}"
    stem = {
        "conv1/7x7_s2": ("conv1", "bn1"),
        "conv1_1/3x3_s2": ("conv1.0", "conv1.1"),
        "conv1_2/3x3": ("conv1.3", "conv1.4"),
        "conv1_3/3x3": ("conv1.6", "bn1"),
        "classifier": ("fc", ""),
    }
    return stem.get(convolution, (name, name))[normalised]


@dataclass(frozen=True)
class Release:
    """Weights that were published for Caffe, and the network of ours that computes the same function.

    Attributes:
        network: its name for `models.create`.
        module: maps the name of a Caffe layer to that of our module.
        classifier: our last layer.
        mean_rgb: the mean to subtract, on the 0-255 scale; there is no division.
        knobs: arguments for `models.create`.
        order: layers without weights whose order distinguishes the network from its twin.
        notes: what the weights do not show.
    """

    network: str
    module: Callable[[str], str]
    classifier: str
    mean_rgb: RGB
    knobs: Mapping[str, Any] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


_BVLC = {
    "preset": "paper",
    "lrn_alpha_convention": "divided",
    "lrn_k": 1.0,
    "inverted_dropout": True,
    "image_size": 227,
}
_MEAN_IMAGE = "trained with a mean image, see `read_mean_image`; mean_rgb is its average"
_BVLC_NOTES = ("LRN over all channels with k = 1 and alpha / 5; crops of 227", _MEAN_IMAGE)
_BVLC_MEAN = 122.67891434, 116.66876762, 104.00698793  # of imagenet_mean.binaryproto
_VGG_MEAN = 123.68, 116.779, 103.939
_RESNET_MEAN = 123.151630838, 115.902882574, 103.062623801  # of ResNet_mean.binaryproto
_ROUNDED_MEAN = 123.0, 117.0, 104.0
_POOL = "max pool 3 x 3, stride 2, unpadded and rounding up"
_FIRST_1X1 = "stride 2 in the first 1 x 1 convolution of a block, not in the 3 x 3"
_RESNET_NOTES = _FIRST_1X1, _POOL, _MEAN_IMAGE


def _vgg(network: str) -> Release:
    notes = ("pools round up, which matters where a side is not a multiple of 32",)
    return Release(network, _same, "fc8", _VGG_MEAN, notes=notes)


RELEASES: dict[str, Release] = {
    "alexnet": Release(  # BVLC/caffe, models/bvlc_alexnet
        "alexnet", _same, "fc8", _BVLC_MEAN, _BVLC, ("norm1", "pool1"), _BVLC_NOTES
    ),
    "caffenet": Release(  # BVLC/caffe, models/bvlc_reference_caffenet
        "alexnet",
        _same,
        "fc8",
        _BVLC_MEAN,
        _BVLC | {"pool_before_norm": True},
        ("pool1", "norm1"),
        ("pools before it normalises", *_BVLC_NOTES),
    ),
    "vgg_d": _vgg("vgg_d"),  # VGG_ILSVRC_16_layers
    "vgg_e": _vgg("vgg_e"),  # VGG_ILSVRC_19_layers
    "googlenet": Release(  # BVLC/caffe, models/bvlc_googlenet
        "googlenet",
        _googlenet,
        "classifier",
        _ROUNDED_MEAN,
        notes=("the last pool is 7 x 7 in Caffe and global here: the same at 224 only",),
    ),
    **{  # KaimingHe/deep-residual-networks
        name: Release(name, _resnet, "fc", _RESNET_MEAN, notes=_RESNET_NOTES)
        for name in ("resnet50", "resnet101", "resnet152")
    },
    **{  # hujie-frank/SENet
        name: Release(name, _senet, "fc", _ROUNDED_MEAN, notes=(_FIRST_1X1, _POOL))
        for name in ("se_resnet50", "se_resnet101", "se_resnet152")
    },
    **{
        name: Release(name, _senet, "fc", _ROUNDED_MEAN, notes=(_POOL,))
        for name in ("se_resnext50_32x4d", "se_resnext101_32x4d", "senet154")
    },
}


class Match(NamedTuple):
    """Where the weights of one Caffe layer went; ``into`` is empty if nowhere."""

    layer: CaffeLayer
    into: tuple[str, ...]
    note: str = ""

    def __str__(self) -> str:
        shapes = " ".join("x".join(map(str, blob.shape)) for blob in self.layer.blobs)
        into = ", ".join(self.into) or "UNUSED"
        line = f"{self.layer.name} ({self.layer.type} {shapes}) -> {into}"
        return f"{line}; {self.note}" if self.note else line


@dataclass(frozen=True)
class Report:
    """How a file was loaded; ``str()`` lists every layer.

    Attributes:
        network: its name for `models.create`.
        num_classes: length of the logits.
        knobs: the other arguments of `models.create`.
        preprocessing: how to prepare the images.
        matches: one for each layer with weights.
        notes: what the weights do not show.
    """

    network: str
    num_classes: int
    knobs: Mapping[str, Any]
    preprocessing: Preprocessing
    matches: tuple[Match, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{self.network} of {self.num_classes} classes, knobs {dict(self.knobs)}"
        return "\n".join([head, *self.notes, *map(str, self.matches)])


def load_caffemodel(
    path: Path, network: str, *, channel_order: ChannelOrder = "BGR", **knobs: Any
) -> tuple[nn.Module, Report]:
    """Build a network with the weights of a file, for as many classes as its classifier has.

    Strict: every weight of ours comes from the file, and every weight in the file is used; the
    layers' geometry and order, as far as the file states them, are checked too.

    Args:
        path: a ``.caffemodel``.
        network: a key of `RELEASES`.
        channel_order: the order of the channels in training; all of `RELEASES` took BGR.
        **knobs: arguments for `models.create`, where your own file differs from the release.

    Returns:
        The network, in evaluation mode, for RGB images, and what went where.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such network, or the file is damaged or does not fit; the message lists
            all differences.
    """
    check_choice("channel_order", channel_order, ChannelOrder)
    if network not in RELEASES:
        near = get_close_matches(network, RELEASES) or sorted(RELEASES)
        raise ValueError(f"no Caffe release is called {network!r}; did you mean {', '.join(near)}?")
    release = RELEASES[network]
    layers = read_caffemodel(path)
    learned = [layer for layer in layers if layer.blobs]
    modules = {release.module(layer.name): layer for layer in learned}
    if release.classifier not in modules:
        listed = ", ".join(layer.name for layer in learned)
        raise ValueError(f"{path} is not {network}: there is no classifier among {listed}")
    num_classes = modules[release.classifier].blobs[-1].numel()
    knobs = dict(release.knobs) | knobs
    if network == "googlenet" and "aux1.classifier" not in modules:
        knobs = {"aux_heads": "none"} | knobs
    model = create_on_meta(release.network, num_classes, **knobs).eval()

    state, matches, problems = _match(model, learned, release.module, channel_order == "BGR")
    stated = tuple(layer.name for layer in layers if layer.name in release.order)
    if len(stated) == len(release.order) and stated != release.order:
        problems.append(f"{network} has {' before '.join(release.order)}; the file does not")
    report = Report(
        release.network,
        num_classes,
        knobs,
        Preprocessing(cast(int, model.input_size), release.mean_rgb),
        tuple(matches),
        release.notes,
    )
    if problems:
        raise ValueError("\n  ".join([f"{path} is not {network}:", *problems, f"tried: {report}"]))
    model.load_state_dict(state, assign=True)
    return model, report


def _parts(layer: CaffeLayer) -> dict[str, Tensor]:
    """The blobs of a layer by the names that torch has for them; none for an unknown layer."""
    if layer.type == "BatchNorm" and len(layer.blobs) == 3 and layer.blobs[2].numel() == 1:
        mean, variance, factor = layer.blobs
        scale = 1 / factor.item() if factor.item() else 0.0
        return {"running_mean": mean * scale, "running_var": variance * scale}
    if layer.type in ("Convolution", "InnerProduct", "Scale") and len(layer.blobs) <= 2:
        return dict(zip(("weight", "bias"), layer.blobs, strict=False))
    return {}


def _match(
    model: nn.Module, learned: Sequence[CaffeLayer], module: Callable[[str], str], bgr: bool
) -> tuple[dict[str, Tensor], list[Match], list[str]]:
    """The state of ``model``, where each layer went, and what does not fit."""
    expected, modules = model.state_dict(), dict(model.named_modules())
    first = next(name for name, m in modules.items() if isinstance(m, nn.Conv2d))
    state = {k: torch.tensor(0) for k in expected if k.endswith("num_batches_tracked")}
    shifts: dict[str, Tensor] = {}
    matches, problems = [], []
    for layer in learned:
        name, into, notes = module(layer.name), [], []
        parts = _parts(layer)
        for part, value in parts.items():
            key, target = f"{name}.{part}", state
            if part == "bias" and key not in expected:
                key, target = re.sub(r"conv(\d)\.bias$", r"bn\1.running_mean", key), shifts
            if key not in expected:
                continue
            into.append(key)
            if key in target:
                problems.append(f"{layer.name}: {key} already comes from another layer")
            if _significant(value) != _significant(expected[key]):
                shapes = f"{tuple(value.shape)} does not fit {tuple(expected[key].shape)}"
                problems.append(f"{layer.name}: {shapes} of {key}")
            else:
                value = value.reshape(expected[key].shape)
                if target is shifts:
                    notes.append("bias folded into the mean")
                elif bgr and key == f"{first}.weight":
                    value = value.flip(1)
                    notes.append("BGR to RGB")
            target[key] = value
        matches.append(Match(layer, tuple(into), ", ".join(notes)))
        if not into or len(into) < len(parts):
            problems.append(f"{'partly ' if into else ''}unused: {matches[-1]}")
        problems += _geometry(layer, modules.get(name))
    problems += [f"missing: {key}" for key in expected if key not in state]
    if not problems:
        for key, shift in shifts.items():
            state[key] = state[key] - shift
    return state, matches, problems


def _significant(value: Tensor) -> tuple[int, ...]:
    """The shape without its ones: Caffe's legacy shapes have more of them than ours."""
    return tuple(n for n in value.shape if n != 1)


def _geometry(layer: CaffeLayer, ours: nn.Module | None) -> list[str]:
    if not isinstance(ours, nn.Conv2d):
        return []
    have = {"pad": ours.padding[0], "group": ours.groups, "stride": ours.stride[0]}
    return [
        f"{layer.name}: {what} {value} in the file, {have[what]} in ours"
        for what, value in layer.geometry.items()
        if value != have[what]
    ]
