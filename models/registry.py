"""The networks by name: one table from a published name to the function that builds the network."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any, TypeVar, get_args

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Builder = Callable[..., nn.Module]
B = TypeVar("B", bound=Builder)

_BUILDERS: dict[str, Builder] = {}

# The methods of Tensor and functions of torch.nn.init that draw initial weights.
DRAWS = {"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_"}


def register(name: str) -> Callable[[B], B]:
    """Make the decorated ``builder(num_classes=1000, **knobs) -> nn.Module`` known as ``name``."""

    def add(builder: B) -> B:
        if name in _BUILDERS:
            raise ValueError(f"two networks are registered as {name!r}")
        _BUILDERS[name] = builder
        return builder

    return add


def names() -> list[str]:
    """The names that `create` knows, sorted."""
    return sorted(_BUILDERS)


def builder(name: str) -> Builder:
    """The function that builds ``name``.

    Raises:
        ValueError: no network has that name; the message suggests the nearest ones.
    """
    if name not in _BUILDERS:
        near = get_close_matches(name, _BUILDERS) or names()
        raise ValueError(f"no network is called {name!r}; did you mean {', '.join(near)}?")
    return _BUILDERS[name]


def create(name: str, num_classes: int = 1000, **knobs: Any) -> nn.Module:
    """Build a network as published; each knob changes one documented thing about it.

    Args:
        name: one of `names`.
        num_classes: length of the logits.
        **knobs: arguments of that network's builder (see its docstring).

    Raises:
        ValueError: the name is unknown, or the knobs do not go together.
        TypeError: this network has no such knob.
    """
    return builder(name)(num_classes=num_classes, **knobs)


class _NoDraws(TorchFunctionMode):
    """Skips random initialisation: on the meta device the first draw spends seconds importing a compiler."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def create_on_meta(name: str, num_classes: int = 1000, **knobs: Any) -> nn.Module:
    """`create` without allocating memory for the weights: for shapes and counts.

    Raises:
        ValueError, TypeError: as `create`.
    """
    with torch.device("meta"), _NoDraws():
        return create(name, num_classes, **knobs)


def knobs_of(name: str) -> set[str]:
    """The knobs that `create` accepts for ``name``, besides the number of classes.

    Raises:
        ValueError: unknown name.
    """
    knobs: set[str] = set()
    for parameter in signature(builder(name)).parameters.values():
        if parameter.kind is Parameter.VAR_KEYWORD:  # **knobs: Unpack[SomeTypedDict]
            (typed_dict,) = get_args(parameter.annotation)
            knobs.update(typed_dict.__annotations__)
        else:
            knobs.add(parameter.name)
    return knobs - {"num_classes"}


def check_choice(knob: str, value: object, choices: object) -> None:
    """Refuse a ``value`` that is not one of ``choices``, a `typing.Literal`.

    Raises:
        ValueError: it is not; the message lists the choices.
    """
    if value not in get_args(choices):
        listed = ", ".join(map(str, get_args(choices)))
        raise ValueError(f"{knob} must be one of {listed}, not {value!r}")
