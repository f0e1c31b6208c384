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

    The metadata holds the fields of ``provenance``, each as JSON.
    """
    metadata = {name: json.dumps(value) for name, value in asdict(provenance).items()}
    partial = path.with_name(f"{path.name}.partial")
    save_model(model, str(partial), metadata)
    partial.replace(path)


def read_provenance(path: Path) -> Provenance:
    """What the file says it holds, without reading the weights.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or was not written by `save_weights`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        fields = {name: json.loads(value, object_hook=_tuples) for name, value in metadata.items()}
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


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
