"""MNIST, and sets in its form (Fashion-MNIST, KMNIST): idx files, gzipped or not; pixels become PNGs.

A class's key and words are its digit.
"""

import math
import struct
from collections.abc import Iterator

from stages.dataset import Split
from stages.errors import PipelineError
from stages.sources.locations import Pixels, unpacked
from stages.sources.source import FETCH_AGAIN, Layout, Source, SourceImage, make_source
from stages.storage import Folder

_PREFIXES: dict[Split, str] = {"train": "train", "val": "t10k"}
_KINDS = {"images": 3, "labels": 1}  # and their number of dimensions
_UBYTE = 0x08


def _matches(folder: Folder) -> bool:
    return any("-ubyte" in name for name in folder.children())


def _check(folder: Folder) -> None:
    missing = [
        f"{prefix}-{kind}-idx{dimensions}-ubyte(.gz)"
        for prefix in _PREFIXES.values()
        for kind, dimensions in _KINDS.items()
        if _file(folder, prefix, kind) is None
    ]
    if missing:
        raise PipelineError(
            f"{folder} looks like MNIST but has no {' and no '.join(missing)}",
            "fetch all four files into one folder",
        )


def _file(folder: Folder, prefix: str, kind: str) -> str | None:
    stem = f"{prefix}-{kind}-idx{_KINDS[kind]}-ubyte"
    names = (stem, f"{stem}.gz", stem.replace("-idx", ".idx"))
    return next((name for name in names if name in folder.children()), None)


def _read(folder: Folder) -> Source:
    images = [image for split in _PREFIXES for image in _images(folder, split)]
    return make_source(folder, LAYOUT.form, images, {})


def _images(folder: Folder, split: Split) -> Iterator[SourceImage]:
    prefix = _PREFIXES[split]
    file, labels_file = (_file(folder, prefix, kind) for kind in _KINDS)
    assert file is not None  # `_check`
    assert labels_file is not None
    (count, height, width), _ = _idx(folder, file, 3)
    (labelled,), labels = _idx(folder, labels_file, 1)
    if count != labelled:
        raise PipelineError(
            f"{folder}/{labels_file} has {labelled} labels for {count} images", FETCH_AGAIN
        )
    for number, label in enumerate(labels):
        offset = 16 + number * height * width
        location = Pixels(folder, file, offset, width, height, channels=1)
        yield SourceImage(split, str(label), f"{split}_{number:05d}.png", location)


def _idx(folder: Folder, file: str, dimensions: int) -> tuple[tuple[int, ...], bytes]:
    """The shape and the values of an idx file of unsigned bytes."""
    content = unpacked(folder, file) if file.endswith(".gz") else folder.read(file)
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, _UBYTE, dimensions]):
        raise PipelineError(
            f"{folder}/{file} is not an idx file of unsigned bytes in {dimensions} dimensions",
            FETCH_AGAIN,
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = math.prod(shape)
    if len(content) != header + expected:
        raise PipelineError(
            f"{folder}/{file} has {len(content) - header:,} values, not {expected:,}", FETCH_AGAIN
        )
    return shape, content[header:]


LAYOUT = Layout("MNIST's idx files; pixels as PNG", _matches, _check, _read)
