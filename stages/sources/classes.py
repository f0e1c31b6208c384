"""What is known of classes: WordNet id, the devkit's number and words."""

import csv
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from stages.dataset import ImageClass
from stages.errors import PipelineError
from stages.sources.source import FETCH_AGAIN
from stages.storage import Folder, open_folder

CLASSES = "classes.tsv"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"

_DEVKIT_META = "ILSVRC2012_devkit_t12/data/meta.mat"
_LARGEST_MEMBER = 64 << 20


def read_classes(root: Path | str) -> list[ImageClass]:
    """The classes by the devkit's own numbers, from ``classes.tsv`` or else from the devkit.

    The number (1 to 1000) is what validation labels are given in. It is not the label: that is the
    place among the sorted synsets, and using one for the other trains to chance without any error.

    Raises:
        PipelineError: neither file is there, or it cannot be read.
    """
    return classes_in(open_folder(root))


def classes_in(folder: Folder) -> list[ImageClass]:
    """`read_classes` of an opened folder."""
    if folder.exists(CLASSES):
        try:
            rows = csv.DictReader(io.StringIO(folder.read(CLASSES).decode()), delimiter="\t")
            return [
                ImageClass(row["wnid"], int(row["ILSVRC2012_ID"]), row["words"]) for row in rows
            ]
        except (KeyError, ValueError, TypeError) as error:
            raise PipelineError(
                f"{folder}/{CLASSES} cannot be read: {error}",
                "it needs the tab-separated columns wnid, ILSVRC2012_ID and words",
            ) from error
    if folder.exists(DEVKIT):
        return _devkit_classes(folder)
    raise PipelineError(
        f"{folder} has neither {DEVKIT} nor {CLASSES}",
        f"put {DEVKIT} beside the images, without unpacking it",
    )


def known_classes(folder: Folder) -> Mapping[str, ImageClass]:
    """The classes of the list that may lie beside any source, by synset; empty without a list."""
    if folder.exists(CLASSES) or folder.exists(DEVKIT):
        return {item.synset: item for item in classes_in(folder)}
    return {}


def devkit_member(folder: Folder, name: str) -> bytes:
    """A file of the devkit.

    Raises:
        PipelineError: the devkit is damaged or lacks it.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(folder.read(DEVKIT))) as archive:
            member = archive.extractfile(name)
            if member is None:
                raise KeyError(name)
            return member.read(_LARGEST_MEMBER)
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise PipelineError(f"{folder}/{DEVKIT} cannot be read: {error}", FETCH_AGAIN) from error


def _devkit_classes(folder: Folder) -> list[ImageClass]:
    import scipy.io  # half a second, and only the official devkit needs it

    meta = scipy.io.loadmat(io.BytesIO(devkit_member(folder, _DEVKIT_META)), squeeze_me=True)
    return [
        ImageClass(str(row["WNID"]), int(row["ILSVRC2012_ID"]), str(row["words"]))
        for row in meta["synsets"]
        if int(row["num_children"]) == 0  # the 860 inner nodes of WordNet follow the 1000 leaves
    ]
