"""The names of the networks: one table from a published name to the function that builds it."""

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
        ValueError: unknown name, or knobs that do not go together.
        TypeError: a knob that this network does not have.
    """
    return builder(name)(num_classes=num_classes, **knobs)


class _NothingDrawn(TorchFunctionMode):
    """Leaves tensors as they are: on the meta device a draw costs seconds, to import a compiler."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in {"normal_", "uniform_"}:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def create_on_meta(name: str, num_classes: int = 1000, **knobs: Any) -> nn.Module:
    """`create` without memory for weights: for shapes and counts.

    Raises:
        ValueError, TypeError: as `create`.
    """
    with torch.device("meta"), _NothingDrawn():
        return create(name, num_classes, **knobs)


def knobs_of(name: str) -> set[str]:
    """What `create` takes for ``name`` beside the number of classes.

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
    """Refuse a ``value`` that is none of ``choices``, a `typing.Literal`.

    Raises:
        ValueError: with the choices.
    """
    if value not in get_args(choices):
        listed = ", ".join(map(str, get_args(choices)))
        raise ValueError(f"{knob} is one of {listed}, not {value!r}")
