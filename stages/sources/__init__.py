"""Recognise the form in which somebody holds images and list them, without unpacking anything.

Each form is a module here with a `Layout`, and they are tried in the order of `LAYOUTS`. Labels always
come out as the place of a class's key among the sorted keys; for ImageNet the key is the WordNet id.
"""

import hashlib
from pathlib import Path

from stages.errors import PipelineError
from stages.sources import (
    archives,
    cifar,
    folders,
    kaggle,
    mnist,
    parquet,
    sharded,
    tiny_imagenet,
    webdataset,
)
from stages.sources.archives import GROUND_TRUTH, TRAIN_ARCHIVE, VAL_ARCHIVE
from stages.sources.classes import CLASSES, DEVKIT, read_classes
from stages.sources.source import Layout, Source, SourceImage
from stages.storage import Folder, open_folder

__all__ = [
    "CLASSES",
    "DEVKIT",
    "GROUND_TRUTH",
    "TRAIN_ARCHIVE",
    "VAL_ARCHIVE",
    "Source",
    "SourceImage",
    "check_source",
    "fingerprint",
    "open_source",
    "read_classes",
]

# The surest marks first. What looks like one form and is incomplete is refused, not tried as the next.
LAYOUTS: tuple[Layout, ...] = (
    sharded.LAYOUT,
    archives.LAYOUT,
    kaggle.LAYOUT,
    tiny_imagenet.LAYOUT,
    webdataset.LAYOUT,
    cifar.LAYOUT,
    mnist.LAYOUT,
    parquet.LAYOUT,
    folders.LAYOUT,
    folders.TAR_LAYOUT,
)
_KNOWN = (
    f"give a folder with the official archives ({TRAIN_ARCHIVE}, {VAL_ARCHIVE}, {DEVKIT}), Kaggle's "
    "ILSVRC/, train/CLASS and val/CLASS folders, Tiny-ImageNet-200, Hugging Face's Parquet files, "
    "WebDataset shards, or CIFAR's or MNIST's files; a .zip must be unpacked first"
)
_EMBEDDED = "say embedded for the embedded images"
_SAMPLED_FILES = 1000


def open_source(root: Path | str) -> Source:
    """Recognise a source and list its images.

    Args:
        root: its folder, as a path or the URL of an object store.

    Raises:
        PipelineError: missing, empty, incomplete, truncated, contradictory, or of no known form.
    """
    folder = open_folder(root)
    return _recognise(folder).read(folder)


def check_source(root: Path | str) -> None:
    """Look whether a folder is a data set or a source by the names in it, reading no image.

    Raises:
        PipelineError: it is neither; the message says what is missing.
    """
    _recognise(open_folder(root))


def fingerprint(root: Path | str) -> str:
    """Twelve hexadecimal digits that change with the files of a source.

    Over each file's name and size, and the first and last 64 KiB of the first thousand: reading all of
    ImageNet's 144 GB to find that nothing changed would take longer than most runs.
    """
    folder = open_folder(root)
    digest = hashlib.sha256()
    for number, (name, size) in enumerate(folder.list().items()):
        digest.update(f"{name} {size}\n".encode("utf-8", "surrogateescape"))
        if number < _SAMPLED_FILES:
            with folder.open_input(name) as file:
                digest.update(file.read(65536))
                file.seek(max(0, size - 65536))
                digest.update(file.read(65536))
    return digest.hexdigest()[:12]


def _recognise(folder: Folder) -> Layout:
    if folder.path is not None and not folder.path.exists():
        raise PipelineError(f"{folder} does not exist", f"{_KNOWN}; or {_EMBEDDED}")
    if folder.path is not None and not folder.path.is_dir():
        raise PipelineError(f"{folder} is a file, not a folder", "give the folder that holds it")
    layout = next((layout for layout in LAYOUTS if layout.found(folder)), None)
    if layout is None:
        inside = ", ".join(folder.children()[:5]) or "nothing"
        raise PipelineError(
            f"{folder} holds no images in a form that is known, but {inside}", _KNOWN
        )
    layout.check(folder)
    return layout
