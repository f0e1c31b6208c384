"""Networks with other libraries' weights, for the test protocols of this project.

A name says where the network comes from:

=========================================  =====================================================
``torchvision:resnet50``                   torchvision's model, with its default weights
``torchvision:resnet50.IMAGENET1K_V1``     with the weights of that name
``timm:legacy_senet154``                   timm's model; ``timm:resnet50.a1_in1k`` selects a tag
``caffe:resnet50``                         a Caffe release, see `models.pretrained.caffe`
``my_package.my_module:factory``           what that function returns; **imports and runs the code
                                           of that module**, which no other name does
=========================================  =====================================================

Weights come from a file, or from the library's own cache if they have been downloaded before.
Nothing is downloaded unless asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.pretrained.caffe import load_caffemodel
from models.pretrained.preprocessing import RGB, Preprocessing


def load_pretrained(
    name: str, weights: Path | None = None, *, num_classes: int = 1000, download: bool = False
) -> tuple[nn.Module, Preprocessing]:
    """Build a network with its weights, in evaluation mode: (N, 3, S, S) images to logits.

    Args:
        name: see the module.
        weights: a state dict (``.pth`` or ``.pt``, with nothing but tensors), a ``.safetensors`` or,
            for ``caffe:``, a ``.caffemodel`` file. None for the library's cache, or for a factory
            that loads its weights itself.
        num_classes: length of the logits.
        download: let the library download weights that are not in its cache.

    Returns:
        The network, and the images that it expects: S and their normalisation.

    Raises:
        ValueError: the name is unknown, or the weights are missing, do not fit or have another number
            of classes; the message says what to do.
        FileNotFoundError: there is no such file.
    """
    origin, _, rest = name.partition(":")
    if not rest:
        raise ValueError(
            f"{name!r} does not say where the network comes from: use torchvision:NAME, timm:NAME, "
            "caffe:NAME or MODULE:FACTORY"
        )
    if weights is not None and not weights.is_file():
        raise FileNotFoundError(f"there are no weights at {weights}")
    if origin == "torchvision":
        model, preprocessing = _torchvision(rest, weights, num_classes, download)
    elif origin == "timm":
        model, preprocessing = _timm(rest, weights, num_classes, download)
    elif origin == "caffe":
        if weights is None:
            raise ValueError(f"{name} needs weights: give the path of its .caffemodel")
        model, report = load_caffemodel(weights, rest)
        preprocessing = report.preprocessing
    else:
        model, preprocessing = _factory(origin, rest, weights)
    model.eval()
    _check_logits(model, name, preprocessing.input_size, num_classes)
    return model, preprocessing


def _torchvision(
    name: str, weights: Path | None, num_classes: int, download: bool
) -> tuple[nn.Module, Preprocessing]:
    from torchvision import models as torchvision_models  # slow, and most runs do not need it

    name, _, tag = name.partition(".")
    known = torchvision_models.list_models(module=torchvision_models)
    if name not in known:
        raise ValueError(_unknown(f"torchvision:{name}", name, known))
    published = torchvision_models.get_model_weights(name)
    if tag and tag not in published.__members__:
        raise ValueError(
            _unknown(f"weights {tag} of torchvision:{name}", tag, published.__members__)
        )
    chosen = published[tag] if tag else published.DEFAULT
    transform = chosen.transforms()
    preprocessing = Preprocessing(
        transform.crop_size[0], _pixels(transform.mean), _pixels(transform.std)
    )
    if weights is None:
        _check_published(f"torchvision:{name}", num_classes, len(chosen.meta["categories"]))
        if not download and not _in_hub_cache(chosen.url):
            raise ValueError(_not_cached(f"torchvision:{name}", chosen.url))
        return torchvision_models.get_model(name, weights=chosen), preprocessing
    state = _read(weights)
    knobs: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # As torchvision builds them for its weights, which were ported from nets for pixels in -1 to 1.
        auxiliary = any(key.startswith(("aux", "AuxLogits")) for key in state)
        knobs = {"transform_input": True, "init_weights": False, "aux_logits": auxiliary}
    model = torchvision_models.get_model(name, weights=None, num_classes=num_classes, **knobs)
    _load(model, state, weights, f"torchvision:{name}", num_classes)
    return model, preprocessing


def _timm(
    name: str, weights: Path | None, num_classes: int, download: bool
) -> tuple[nn.Module, Preprocessing]:
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ValueError(_unknown(f"timm:{architecture}", architecture, timm.list_models()))
    tagged = [n for n in timm.list_pretrained(f"{architecture}.*") if n.startswith(architecture)]
    if tag and name not in tagged:
        raise ValueError(_unknown(f"timm:{name}", name, tagged))
    published = timm.get_pretrained_cfg(name)
    preprocessing = Preprocessing(
        published.input_size[-1], _pixels(published.mean), _pixels(published.std)
    )
    if weights is None:
        _check_published(f"timm:{name}", num_classes, published.num_classes)
        cached, source = _in_timm_cache(published), published.hf_hub_id or published.url
        if not source:
            raise ValueError(f"timm publishes no weights for {name}: give the path of your own")
        if cached is None and not download:
            raise ValueError(_not_cached(f"timm:{name}", source))
        overlay = {} if cached is None else {"file": str(cached)}
        return timm.create_model(name, True, pretrained_cfg_overlay=overlay), preprocessing
    model = timm.create_model(name, num_classes=num_classes)
    _load(model, _read(weights), weights, f"timm:{name}", num_classes)
    return model, preprocessing


def _factory(module: str, function: str, weights: Path | None) -> tuple[nn.Module, Preprocessing]:
    """What the user's own function returns, with ``weights`` if given."""
    name = f"{module}:{function}"
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists; one that it imports does not
        raise ValueError(
            f"{name}: no module {error.name!r} on the path; other names begin with torchvision:, "
            "timm: or caffe:"
        ) from error
    if not hasattr(imported, function):
        raise ValueError(_unknown(name, function, dir(imported)))
    returned = getattr(imported, function)()
    match returned:
        case nn.Module() as model, Preprocessing() as preprocessing:
            pass
        case _:
            raise ValueError(
                f"{name} returned {type(returned).__name__}: it must return a module and the "
                "models.pretrained.preprocessing.Preprocessing of its images"
            )
    if weights is not None:
        _load(model, _read(weights), weights, name, None)
    return model, preprocessing


def _in_hub_cache(url: str) -> Path | None:
    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)
    return path if path.is_file() else None


def _in_timm_cache(published: Any) -> Path | None:
    """The file with timm's published weights, if it is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    if published.hf_hub_id:
        names = [published.hf_hub_filename or "model.safetensors", "pytorch_model.bin"]
        for name in names:
            cached = try_to_load_from_cache(published.hf_hub_id, name)
            if isinstance(cached, str):
                return Path(cached)
    return _in_hub_cache(published.url) if published.url else None


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file: the file's content, or one entry of a checkpoint."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f"{path} is not a state dict, or holds Python objects besides tensors, which are not loaded "
            "because that runs code from the file: save model.state_dict() where you trust it"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is damaged or not a weights file: {error}") from error
    if isinstance(content, Mapping):
        inner = [content[k] for k in ("state_dict", "model") if isinstance(content.get(k), Mapping)]
        state = {
            str(key).removeprefix("module."): value
            for key, value in (inner[0] if inner else content).items()
        }
        if state and all(isinstance(value, Tensor) for value in state.values()):
            return state
    raise ValueError(f"{path} holds no state dict but a {type(content).__name__}")


def _load(
    model: nn.Module, state: Mapping[str, Tensor], path: Path, name: str, num_classes: int | None
) -> None:
    """Load every tensor of ``state`` into its place.

    Raises:
        ValueError: names or shapes differ; if only the number of classes does, the message says so.
    """
    own = model.state_dict()
    # Files from before torch 0.4.1 have no batch counter.
    missing = {k for k in own.keys() - state.keys() if not k.endswith("num_batches_tracked")}
    surplus = state.keys() - own.keys()
    differing = {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape}
    if not missing | surplus | differing:
        model.load_state_dict(state, strict=False)
        return
    sizes = {(tuple(own[key].shape[:1]), tuple(state[key].shape[:1])) for key in differing}
    match list(sizes):
        case [((ours,), (theirs,))] if not missing | surplus and ours == num_classes:
            raise ValueError(
                f"{path} has {theirs} classes, not {ours}: load it with num_classes={theirs}"
            )
    problems = {
        "missing": sorted(missing),
        "not in the network": sorted(surplus),
        "of a different shape": sorted(differing),
    }
    listed = "; ".join(
        f"{len(keys)} {what}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"
        for what, keys in problems.items()
        if keys
    )
    raise ValueError(f"{path} does not hold the weights of {name}: {listed}")


def _check_logits(model: nn.Module, name: str, side: int, num_classes: int) -> None:
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, side, side))
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"{name} turns one {side}x{side} image into {got}, not into logits of shape "
            f"(1, {num_classes}): num_classes must be the network's own"
        )


def _check_published(name: str, num_classes: int, published: int) -> None:
    if num_classes != published:
        raise ValueError(
            f"the published weights of {name} have {published} classes, not {num_classes}: "
            "give the path of your own weights"
        )


def _not_cached(name: str, source: str) -> str:
    return (
        f"the weights of {name} are not on this machine: give their path, or allow the download "
        f"(from {source})"
    )


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=5)
    return f"there is no {what}" + (f"; did you mean {', '.join(near)}?" if near else "")


def _pixels(fractions: Sequence[float]) -> RGB:
    """Channel statistics of pixels between 0 and 1, on the 0-255 scale."""
    red, green, blue = (255 * fraction for fraction in fractions)
    return red, green, blue
