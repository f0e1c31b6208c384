"""Recognise the form in which somebody holds images and list them, without unpacking anything.

Each form is a module here with a `Layout`, and they are tried in the order of `LAYOUTS`. Labels, of images
and of objects, always come out as the place of a class's key among the sorted keys, whatever numbers the
source has; for ImageNet the key is the WordNet id, for others the class's name.
"""

import hashlib
from pathlib import Path

from stages.errors import PipelineError
from stages.sources import (
    archives,
    cifar,
    coco,
    folders,
    kaggle,
    mnist,
    parquet,
    sharded,
    tiny_imagenet,
    voc,
    webdataset,
)
from stages.sources.archives import GROUND_TRUTH, TRAIN_ARCHIVE, VAL_ARCHIVE
from stages.sources.classes import CLASSES, DEVKIT, read_classes
from stages.sources.source import Layout, Source, SourceImage
from stages.sources.tars import OneFile
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
    voc.LAYOUT,
    coco.LAYOUT,
    cifar.LAYOUT,
    mnist.LAYOUT,
    parquet.LAYOUT,
    folders.LAYOUT,
    folders.TAR_LAYOUT,
)
_KNOWN = (
    f"give a folder with the official archives ({TRAIN_ARCHIVE}, {VAL_ARCHIVE}, {DEVKIT}), Kaggle's "
    "ILSVRC/, train/CLASS and val/CLASS folders, Tiny-ImageNet-200, Hugging Face's Parquet files, "
    "WebDataset shards, CIFAR's or MNIST's files, PASCAL VOC's VOCdevkit/ or its tars, or COCO's "
    "train2017/, val2017/ and annotations/; a .zip must be unpacked first"
)
_EMBEDDED = "say embedded for the embedded images"
_SAMPLED_FILES = 1000


def open_source(root: Path | str) -> Source:
    """Recognise a source and list its images.

    Args:
        root: its folder, or a tar that holds all of it; as a path or the URL of an object store.

    Raises:
        PipelineError: missing, empty, incomplete, truncated, contradictory, or of no known form.
    """
    folder = _open(root)
    return _recognise(folder).read(folder)


def check_source(root: Path | str, *, labelled: bool = True) -> None:
    """Check whether a folder is a data set or a source by the names in it, reading no image.

    Args:
        root: as for `open_source`.
        labelled: whether its images must have a class each, which a classifier needs.

    Raises:
        PipelineError: it is neither, or its images have no class labels; the message says what is missing.
    """
    folder = _open(root)
    layout = _recognise(folder)
    if labelled and not layout.labelled(folder):
        raise PipelineError(
            f"{open_folder(root)} is {layout.form}, and its images have no class labels, only objects or "
            "captions, so a classifier cannot be trained or tested on them",
            "give images that have a class each, such as ILSVRC's or one folder per class",
        )


def fingerprint(root: Path | str) -> str:
    """Twelve hexadecimal digits that change with the files of a source.

    Over each file's name and size, and the first and last 64 KiB of the first thousand: reading all of
    ImageNet's 144 GB to find that nothing changed would take longer than most runs.
    """
    folder = _open(root)
    digest = hashlib.sha256()
    for number, (name, size) in enumerate(folder.list().items()):
        digest.update(f"{name} {size}\n".encode("utf-8", "surrogateescape"))
        if number < _SAMPLED_FILES:
            with folder.open_input(name) as file:
                digest.update(file.read(65536))
                file.seek(max(0, size - 65536))
                digest.update(file.read(65536))
    return digest.hexdigest()[:12]


def _open(root: Path | str) -> Folder:
    """The folder of a source; of a tar the folder that holds it, without what lies beside it there."""
    where, query, arguments = str(root).partition("?")
    if where.endswith(".tar"):
        above, _, name = where.rpartition("/")
        folder = open_folder(
            f"{above or ('/' if where.startswith('/') else '.')}{query}{arguments}"
        )
        if folder.exists(name):
            return OneFile(folder.url, name)
    return open_folder(root)


def _recognise(folder: Folder) -> Layout:
    if folder.path is not None and not folder.path.exists():
        raise PipelineError(f"{folder} does not exist", f"{_KNOWN}; or {_EMBEDDED}")
    if folder.path is not None and not folder.path.is_dir():
        raise PipelineError(
            f"{folder} is a file, not a folder or a .tar", "give the folder that holds it"
        )
    layout = next((layout for layout in LAYOUTS if layout.matches(folder)), None)
    if layout is None:
        inside = ", ".join(folder.children()[:5]) or "nothing"
        raise PipelineError(
            f"{folder} contains no data set in a known layout (found: {inside})", _KNOWN
        )
    # These are recognised by their folders alone, which may stand beside those of another set.
    by_folders = (voc.LAYOUT, coco.LAYOUT, folders.LAYOUT)
    if layout in by_folders:
        for other in by_folders:
            if other is not layout and other.matches(folder):
                raise PipelineError(
                    f"{folder} looks like {layout.form} and like {other.form}",
                    "give a folder that holds one of them",
                )
    layout.check(folder)
    return layout
