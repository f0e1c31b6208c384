"""What a recognised source is: its classes, and its images by where their bytes lie."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from stages.dataset import Box, ImageClass, Split
from stages.errors import PipelineError
from stages.sources.locations import Location
from stages.storage import Folder

FETCH_AGAIN = "compare its size and checksum with the publisher's, and fetch it again"

IMAGE_SUFFIXES = frozenset(
    ["jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm"]
)
_ILSVRC_NAME = re.compile(r"n\d{8}_\d+|ILSVRC2012_val_\d{8}")
# A tar's header holds 100 bytes, and .jpg or .cls comes after the key.
_KEY = re.compile(r"[A-Za-z0-9_-]{1,96}")
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One encoded image.

    Attributes:
        split: train or val.
        synset: the key of its class: a WordNet id, or the class's own name where there is none.
        name: unique within its split and fit for a tar: letters, digits, ``-`` and ``_``, one suffix.
        location: where its bytes lie.
        boxes: of the objects of its class, as annotated, where the source has them. Nothing is clipped or
            put in order: ILSVRC has boxes that stick out of their image and boxes of no area.
    """

    split: Split
    synset: str
    name: str
    location: Location
    boxes: tuple[Box, ...] = ()

    @property
    def key(self) -> str:
        """The sample's key in a WebDataset shard: its name without the suffix."""
        return self.name.rsplit(".", 1)[0]

    @property
    def size(self) -> int:
        """Bytes, known without reading (see `Location.size`)."""
        return self.location.size

    @property
    def origin(self) -> str:
        """Where it came from, relative to the source's folder."""
        return self.location.origin(self.name)

    def read(self) -> bytes:
        """The encoded image; any number of threads and processes may read in any order.

        Raises:
            PipelineError: the file is missing, cut short or damaged.
        """
        return self.location.read()


@dataclass(frozen=True)
class Source:
    """A recognised source.

    Attributes:
        name: the folder's name.
        form: how it was recognised, and what could not be checked of it.
        classes: in the order of their sorted keys; a label is the place in it.
        images: in the source's order.
    """

    name: str
    form: str
    classes: tuple[ImageClass, ...]
    images: tuple[SourceImage, ...]


@dataclass(frozen=True)
class Layout:
    """One form in which people hold images.

    Attributes:
        form: what it is called.
        found: whether a folder looks like it, be it incomplete; looks at names only.
        check: raises `PipelineError` where it is incomplete; looks at names only.
        read: lists the images.
    """

    form: str
    found: Callable[[Folder], bool]
    check: Callable[[Folder], None]
    read: Callable[[Folder], Source]


def make_source(
    folder: Folder, form: str, images: Iterable[SourceImage], known: Mapping[str, ImageClass]
) -> Source:
    """Put a source together, having checked what must hold of every one.

    Args:
        folder: where it lies.
        form: see `Source`.
        images: all of them.
        known: what is known of the classes by their keys; one that is not in it has its key for words.

    Raises:
        PipelineError: a split without images, a validation class without training images, two images of
            one name, or a name that is not fit for a tar.
    """
    images = tuple(images)
    present: dict[str, set[str]] = {"train": set(), "val": set()}
    names: dict[str, set[str]] = {"train": set(), "val": set()}
    for image in images:
        present[image.split].add(image.synset)
        if _KEY.fullmatch(image.key) is None:
            raise PipelineError(
                f"{folder} has a {image.split} image called {image.key!r}, which fits into no shard",
                "name it with 1 to 96 letters of English, digits, - and _",
            )
        if image.key in names[image.split]:
            raise PipelineError(
                f"{folder} has two {image.split} images called {image.key}",
                "rename or remove one of them",
            )
        names[image.split].add(image.key)
    for split, keys in names.items():
        if not keys:
            raise PipelineError(f"{folder} has no {split} images", "check that the copy is whole")
    if strangers := present["val"] - present["train"]:
        raise PipelineError(
            f"{len(strangers)} validation classes have no training image, first {min(strangers)}",
            "check that the training images are whole and that both splits are of one set",
        )
    classes = tuple(known.get(key, ImageClass(key, None, key)) for key in sorted(present["train"]))
    return Source(folder.name, form, classes, images)


def image_name(path: str, prefix: str = "") -> str:
    """A name for `SourceImage` from a file's path: ILSVRC's own stays, another gets ``prefix``.

    What does not fit into a tar's or a WebDataset's name is replaced, and then a digest of the path keeps
    names apart.
    """
    stem, _, suffix = path.rsplit("/", 1)[-1].rpartition(".")
    if not _ILSVRC_NAME.fullmatch(stem) and prefix and not stem.startswith(f"{prefix}_"):
        stem = f"{prefix}_{stem}"
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", stem)
    if safe != stem or len(safe) > _LONGEST_NAME:
        digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        safe = f"{safe[: _LONGEST_NAME - 9]}-{digest}"
    return f"{safe}.{suffix}"


def is_image(path: str) -> bool:
    """Whether a file's name says that it is an image; its content may still say otherwise."""
    return path.rpartition(".")[2].lower() in IMAGE_SUFFIXES
