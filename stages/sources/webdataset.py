"""WebDataset shards: ``KEY.jpg`` with ``KEY.cls`` (a number), or with the number in ``KEY.json``.

The splits are those of timm's ``_info.json``, or else those that the shards' names say
(``imagenet1k-train-0000.tar``). Only images, numbers and JSON are looked at; members of any other kind,
pickles among them, are never loaded.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from typing import Any

from stages.dataset import Split
from stages.errors import PipelineError
from stages.sources.locations import Span
from stages.sources.numbered import NumberedImage, numbered_source
from stages.sources.source import FETCH_AGAIN, IMAGE_SUFFIXES, Layout, Source, image_name
from stages.sources.tars import files, open_tar
from stages.storage import Folder

INFO = ("_info.json", "info.json")
_SHARD = re.compile(r"(?:.*[_.-])?(train|val|validation|test)[_.-]\d+(?:-of-\d+)?\.tar")
_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "validation": "val"}
_LARGEST_LABEL = 1 << 20  # bytes of a .json member


def _matches(folder: Folder) -> bool:
    names = folder.children()
    tars = [name for name in names if name.endswith(".tar")]
    return bool(tars) and (any(name in INFO for name in names) or any(map(_SHARD.fullmatch, tars)))


def _check(folder: Folder) -> None:
    _shards(folder)


def _shards(folder: Folder) -> dict[Split, dict[str, int | None]]:
    """The shards of each split, with the number of samples where it is known."""
    present = folder.children()
    shards: dict[Split, dict[str, int | None]] = {"train": {}, "val": {}}
    info = next((name for name in INFO if name in present), None)
    if info is not None:
        try:
            for split, value in json.loads(folder.read(info))["splits"].items():
                if split in _SPLITS:
                    lengths = map(int, value["shard_lengths"])
                    shards[_SPLITS[split]] |= dict(zip(value["filenames"], lengths, strict=True))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PipelineError(
                f"{folder}/{info} cannot be read: {error!r}",
                "it needs splits with filenames and shard_lengths as timm writes them; or remove it",
            ) from error
    else:
        for name in present:
            match = _SHARD.fullmatch(name)
            if match and match[1] in _SPLITS:
                shards[_SPLITS[match[1]]][name] = None
    for split, names in shards.items():
        if not names:
            raise PipelineError(
                f"{folder} has shards but none of the {split} split",
                "fetch both splits into one folder (NAME-train-0000.tar, NAME-validation-00.tar)",
            )
        missing = [name for name in names if not folder.exists(name)]
        if missing:
            raise PipelineError(
                f"{folder} lacks {len(missing)} of {len(names)} {split} shards, first {missing[0]!r}",
                "fetch them too",
            )
    return shards


def _read(folder: Folder) -> Source:
    images: list[NumberedImage] = []
    for split, shards in _shards(folder).items():
        for shard, length in shards.items():
            samples = list(_samples(folder, shard, split))
            if length is not None and len(samples) != length:
                raise PipelineError(
                    f"{folder}/{shard} holds {len(samples)} samples, not {length}", FETCH_AGAIN
                )
            images += samples
    return numbered_source(folder, LAYOUT.form, images, [])


def _samples(folder: Folder, shard: str, split: Split) -> Iterator[NumberedImage]:
    where = f"{folder}/{shard}"
    with open_tar(folder, shard) as tar:
        # In the one pass that finds the members: apart, each would be a request to an object store.
        labels = {
            member.name: content.read()
            for member in tar
            if member.name.endswith((".cls", ".json"))
            and member.size <= _LARGEST_LABEL
            and (content := tar.extractfile(member)) is not None
        }
        samples: dict[str, dict[str, tarfile.TarInfo]] = {}
        for member in files(tar, where):
            # WebDataset's rule: the key ends at the first dot of the last part of the name.
            match = re.fullmatch(r"((?:.*/)?[^/.]+)\.([^/]+)", member.name)
            if match is None:
                continue
            parts = samples.setdefault(match[1], {})
            if parts.setdefault(match[2].lower(), member) is not member:
                raise PipelineError(f"{where} holds {member.name!r} twice", FETCH_AGAIN)
        for key, members in samples.items():
            suffix = next((suffix for suffix in members if suffix in IMAGE_SUFFIXES), None)
            if suffix is None:
                raise PipelineError(
                    f"sample {key!r} of {where} has no image, only {', '.join(members)}",
                    "give shards whose samples have .jpg (or .png, .webp) with .cls or .json",
                )
            image = members[suffix]
            location = Span(folder, shard, image.offset_data, image.size)
            labelled = members.get("cls") or members.get("json")
            if labelled is None or labelled.name not in labels:
                raise PipelineError(
                    f"sample {key!r} of {where} has no label",
                    "give shards with .cls or .json members",
                )
            label = _label(labels[labelled.name], f"{labelled.name!r} in {where}")
            yield NumberedImage(split, label, image.name, image_name(f"{key}.{suffix}"), location)


def _label(content: bytes, where: str) -> int:
    try:
        value: Any = json.loads(content)
        return int(value["label"] if isinstance(value, dict) else value)
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineError(
            f"{where} is not a label but {content[:40]!r}",
            "give shards whose .cls is a number, or whose .json has one called label",
        ) from error


LAYOUT = Layout("WebDataset shards", _matches, _check, _read)
