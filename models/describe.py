"""The table of a network's layers, as papers print it, for any `nn.Module`."""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from models.parts.layers import GroupedLinear, WithinMapNorm
from models.registry import create_on_meta, knobs_of

Pair = tuple[int, int]

_UNLISTED = {f"torch.nn.modules.{kind}" for kind in ("activation", "dropout", "flatten")}


@dataclass(frozen=True)
class Layer:
    """One layer, in the order of the forward pass.

    Attributes:
        name: the submodule's name.
        kind: its class.
        kernel, stride, padding: (height, width) in pixels of its input; None if it has no window.
        groups: the number of groups of channels that do not see each other.
        channels: the channels of its output.
        size: (height, width) of its output; None once there are no maps.
        parameters: weights and biases; 0 if an earlier row has counted them.
        multiply_adds: for one image; only convolutions and fully connected layers count, as in
            the papers.
        receptive_field: the height in pixels of what one output sees, by the longest path; None
            after a layer that sees the whole image.
        jump: the distance in pixels between two neighbouring outputs; None where `receptive_field` is.
    """

    name: str
    kind: str
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    padding: tuple[int, int] | None
    groups: int
    channels: int
    size: tuple[int, int] | None
    parameters: int
    multiply_adds: int
    receptive_field: int | None
    jump: int | None


@dataclass(frozen=True)
class LayerTable:
    """The layers that an image passes through in evaluation mode; ``str()`` prints them.

    Attributes:
        name: the network's name.
        input_shape: (channels, height, width) of the image.
        layers: one row per layer; activations and dropout have none.
        training_parameters: the parameters of the whole network, with heads used only in training.
    """

    name: str
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    training_parameters: int

    @property
    def parameters(self) -> int:
        """Weights and biases that evaluation uses."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all convolutions and fully connected layers, for one image."""
        return sum(layer.multiply_adds for layer in self.layers)

    def __getitem__(self, name: str) -> Layer:
        """The first row of that name.

        Raises:
            KeyError: there is no such layer.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def __str__(self) -> str:
        head = ("layer", "kind", "kernel", "stride", "pad", "groups", "output", "parameters")
        rows = [(*head, "multiply-adds", "field", "jump")]
        for layer in self.layers:
            rows.append(
                (
                    layer.name,
                    layer.kind,
                    _by(layer.kernel),
                    _by(layer.stride),
                    _by(layer.padding),
                    str(layer.groups) if layer.groups > 1 else "",
                    "x".join(map(str, (layer.channels, *(layer.size or ())))),
                    f"{layer.parameters:,}" if layer.parameters else "",
                    f"{layer.multiply_adds:,}" if layer.multiply_adds else "",
                    str(layer.receptive_field or ""),
                    str(layer.jump or ""),
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.append(
            f"{self.name}, input {'x'.join(map(str, self.input_shape))}: "
            f"{self.parameters:,} parameters, {self.multiply_adds:,} multiply-adds"
        )
        if self.training_parameters != self.parameters:
            lines.append(f"in training: {self.training_parameters:,} parameters")
        return "\n".join(lines)


def describe(name: str, image_size: int | None = None, **knobs: Any) -> LayerTable:
    """The layer table of ``models.create(name, **knobs)``, without allocating its weights.

    Args:
        name: one of `models.names`.
        image_size: side of the image in pixels; by default the network's own.
        **knobs: as for `create`.

    Raises:
        ValueError: the name is unknown, the knobs do not go together, or the image is too small.
    """
    if image_size and "image_size" in knobs_of(name):
        knobs["image_size"] = image_size
    model = create_on_meta(name, **knobs)
    return layer_table(model, image_size or cast(int, model.input_size), name)


@torch.no_grad()
def layer_table(model: nn.Module, image_size: int, name: str = "") -> LayerTable:
    """The layer table of any module that takes a batch of images.

    One image of zeros goes through the module in evaluation mode. Layers are found by forward
    hooks, so an operation that is not a submodule, such as a sum or concatenation, has no row.
    """
    channels = next(
        cast(int, module.in_channels)
        for module in model.modules()
        if hasattr(module, "in_channels")
    )
    device = next(model.parameters()).device
    image = torch.zeros(1, channels, image_size, image_size, device=device)
    fields = _Fields(image)
    layers: list[Layer] = []
    counted: set[nn.Parameter] = set()

    def record(path: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        fields[output] = _field_after(module, fields[inputs[0]], fields[output])
        if type(module).__module__ in _UNLISTED or isinstance(module, nn.Identity):
            return
        new = set(module.parameters(recurse=False)) - counted
        counted.update(new)
        parameters = sum(parameter.numel() for parameter in new)
        layers.append(_row(path, module, output, parameters, fields[output]))

    hooks = [
        module.register_forward_hook(partial(record, path))
        for path, module in model.named_modules()
        if not list(module.children()) or list(module.parameters(recurse=False))
    ]
    was_training = model.training
    try:
        with fields:
            model.eval()(image)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    total = sum(parameter.numel() for parameter in model.parameters())
    return LayerTable(
        name or type(model).__name__, (channels, image_size, image_size), tuple(layers), total
    )


Field = tuple[int, int] | None  # height of the receptive field and jump, None: the whole image


class _Fields(TorchFunctionMode):
    """The field of every tensor: by default the largest of those that it was computed from."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self._fields: dict[int, tuple[Tensor, Field]] = {}  # the tensor keeps its id from reuse
        self[image] = 1, 1

    def __getitem__(self, tensor: Tensor) -> Field:
        return self._fields[id(tensor)][1]

    def __setitem__(self, tensor: Tensor, field: Field) -> None:
        self._fields[id(tensor)] = tensor, field

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        sources = [self[t] for t in tree_leaves((args, kwargs)) if id(t) in self._fields]
        if sources:
            for tensor in tree_leaves(result):
                if isinstance(tensor, Tensor):
                    self[tensor] = max(sources, key=lambda field: field or (0, 0))
        return result


def _window(module: nn.Module) -> tuple[Pair, Pair, Pair] | None:
    """Kernel, stride and padding of a layer that reads windows of its input; None for any other layer."""
    if isinstance(module, WithinMapNorm):
        return (module.size,) * 2, (1, 1), (module.size // 2,) * 2
    if not hasattr(module, "kernel_size"):
        return None
    return _pair(module.kernel_size), _pair(module.stride), _pair(module.padding)


def _field_after(module: nn.Module, before: Field, after: Field) -> Field:
    if isinstance(module, nn.Linear | GroupedLinear | nn.AdaptiveAvgPool2d):
        return None
    window = _window(module)
    if window is None or before is None:
        return after
    (kernel, _), (stride, _), _ = window
    dilation, _ = _pair(getattr(module, "dilation", 1))
    size, jump = before
    return size + (kernel - 1) * dilation * jump, jump * stride


def _row(path: str, module: nn.Module, output: Tensor, parameters: int, field: Field) -> Layer:
    kernel, stride, padding = _window(module) or (None, None, None)
    _, channels, *size = output.shape
    weight: Tensor | None = getattr(module, "weight", None)
    return Layer(
        name=path,
        kind=type(module).__name__,
        kernel=kernel,
        stride=stride,
        padding=padding,
        groups=getattr(module, "groups", 1),
        channels=channels,
        size=_pair(size) if size else None,
        parameters=parameters,
        multiply_adds=weight.numel() * prod(size) if weight is not None and weight.dim() > 1 else 0,
        receptive_field=field[0] if field else None,
        jump=field[1] if field else None,
    )


def _pair(value: Any) -> Pair:
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def _by(pair: Pair | None) -> str:
    if pair is None:
        return ""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
