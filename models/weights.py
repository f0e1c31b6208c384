"""A network's weights in one safetensors file that also says what they are. No pickle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn

from models.registry import create

# Raised when a network's defaults change, for a file holds only the knobs that were given.
FORMAT = 2
# The defaults that networks had when a format was written, where they differ from today's.
_DEFAULTS_BEFORE: Mapping[int, Mapping[str, Mapping[str, Any]]] = {
    1: {
        "alexnet": {"inverted_dropout": True},
        "zfnet": {"inverted_dropout": True},
        **{f"vgg_{net}": {"ceil_mode": False} for net in "abcde"},
        "vgg_a_lrn": {"ceil_mode": False, "lrn_alpha_convention": "paper", "lrn_k": 2.0},
        "preact_resnet200": {"stride_in": "1x1", "pool": "ceil"},
    }
}


@dataclass(frozen=True)
class Provenance:
    """What a weights file holds and where the weights come from.

    Attributes:
        network: its name for `models.create`.
        classes: names or synsets, in the order of the logits.
        knobs: the other arguments of `models.create`, of JSON's types; sequences are tuples.
        recipe: the hash of the recipe that trained it.
        protocol: how the error was measured, e.g. ``"val, 10 crops"``.
        error_percent: the errors measured by that protocol, e.g. ``{"top1": 40.7, "top5": 18.2}``.
    """

    network: str
    classes: Sequence[str]
    knobs: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    protocol: str = ""
    error_percent: Mapping[str, float] = field(default_factory=dict)


def save_weights(model: nn.Module, path: Path, provenance: Provenance) -> None:
    """Write the state of ``model`` to ``path``, atomically.

    The metadata holds the fields of ``provenance``, each as JSON, and the format.
    """
    fields = {**asdict(provenance), "format": FORMAT}
    metadata = {name: json.dumps(value) for name, value in fields.items()}
    partial = path.with_name(f"{path.name}.partial")
    save_model(model, str(partial), metadata)
    partial.replace(path)


def read_provenance(path: Path) -> Provenance:
    """What the file says it holds, without reading the weights.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or was not written by `save_weights`, or by a later version of it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        fields = {name: json.loads(value, object_hook=_tuples) for name, value in metadata.items()}
        written = fields.pop("format", 1)
        if written > FORMAT:
            raise ValueError(f"{path} was written by a later version of this project")
        network, knobs = fields["network"], fields.get("knobs", {})
        fields["knobs"] = {**_defaults_before(written, network, knobs), **knobs}
        return Provenance(**fields | {"classes": tuple(fields["classes"])})
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a weights file that says what it holds") from error


def load_weights(model: nn.Module, path: Path) -> Provenance:
    """Load the state of the same network; every name and shape must match.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or its names or shapes differ from those of ``model``.
    """
    provenance = read_provenance(path)
    try:
        load_model(model, path)
    except RuntimeError as error:
        raise ValueError(
            f"{path} holds a {provenance.network} with knobs {dict(provenance.knobs)} and "
            f"{len(provenance.classes)} classes, which does not fit: {error}"
        ) from error
    return provenance


def load_network(path: Path) -> tuple[nn.Module, Provenance]:
    """Build the network that the file names, with its knobs and classes, and load it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as for `load_weights`, or `models.create` does not know that network.
    """
    provenance = read_provenance(path)
    model = create(provenance.network, len(provenance.classes), **provenance.knobs)
    load_weights(model, path)
    return model, provenance


def _defaults_before(written: int, network: str, knobs: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a file left out, because it was the default when it was written."""
    defaults = _DEFAULTS_BEFORE.get(written, {}).get(network, {})
    if {"fc6", "fc7"} <= set(knobs.get("remove", ())):  # then there is nothing that drops
        return {name: value for name, value in defaults.items() if name != "inverted_dropout"}
    return defaults


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
