"""What a recognised source is: its classes, and its images by where their bytes lie."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
class SourceObject:
    """One object in an image.

    Attributes:
        synset: the key of its class; empty only while it is not known whose annotation it is.
        box: where it is. Nothing is clipped or put in order: ILSVRC has boxes that extend beyond
            their image and empty boxes.
        difficult: whether a test should neither ask for it nor count it as wrong.
    """

    synset: str
    box: Box
    difficult: bool = False


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One encoded image.

    Attributes:
        split: train or val.
        synset: the key of its class: a WordNet id, or the class's own name where there is none; None in
            a source whose images have no class of their own.
        name: unique within its split and fit for a tar: letters, digits, ``-`` and ``_``, one suffix.
        location: where its bytes lie.
        objects: as annotated, where the source has them, in its order.
        captions: sentences about it, where the source has them, in its order.
    """

    split: Split
    synset: str | None
    name: str
    location: Location
    objects: tuple[SourceObject, ...] = ()
    captions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The sample's key in a WebDataset shard: its name without the suffix."""
        return self.name.rsplit(".", 1)[0]

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Where its objects are."""
        return tuple(item.box for item in self.objects)

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
        classes: in the order of their sorted keys, whatever order the source has; a label, of an image
            or an object, is the place in it. They are the classes of the training images, else of the
            objects, and there are none where images have only captions.
        images: in the source's order; all have a class of their own, or none has.
    """

    name: str
    form: str
    classes: tuple[ImageClass, ...]
    images: tuple[SourceImage, ...]

    @property
    def labelled(self) -> bool:
        """Whether the images have a class each."""
        return self.images[0].synset is not None


@dataclass(frozen=True)
class Layout:
    """One form in which people hold images.

    Attributes:
        form: what it is called.
        matches: whether a folder looks like it, even if incomplete; looks at names only.
        check: raises `PipelineError` where it is incomplete; looks at names only.
        read: lists the images.
        labelled: whether its images have a class each; looks at names, or at what says so.
    """

    form: str
    matches: Callable[[Folder], bool]
    check: Callable[[Folder], None]
    read: Callable[[Folder], Source]
    labelled: Callable[[Folder], bool] = lambda folder: True


def make_source(
    folder: Folder,
    form: str,
    images: Iterable[SourceImage],
    known: Mapping[str, ImageClass],
    classes: Collection[str] = (),
) -> Source:
    """Put a source together, having checked what must hold of every one.

    Args:
        folder: where it lies.
        form: see `Source`.
        images: all of them.
        known: what is known of the classes by their keys; one that is not in it has its key for words.
        classes: the keys of all classes that objects may be of, where images have no class of their own.

    Raises:
        PipelineError: a split without images, a validation class without training images, images with
            and without a class, an object of none of the ``classes``, two images of one name, or a name
            that is not fit for a tar.
    """
    images = tuple(images)
    present: dict[str, set[str | None]] = {"train": set(), "val": set()}
    names: dict[str, set[str]] = {"train": set(), "val": set()}
    for image in images:
        present[image.split].add(image.synset)
        if _KEY.fullmatch(image.key) is None:
            raise PipelineError(
                f"{folder} has a {image.split} image called {image.key!r}, which is not a valid sample name",
                "use 1 to 96 letters (A to Z, a to z), digits, - and _",
            )
        if image.key in names[image.split]:
            raise PipelineError(
                f"{folder} has two {image.split} images called {image.key}",
                "rename or remove one of them",
            )
        names[image.split].add(image.key)
    for split, keys in names.items():
        if not keys:
            raise PipelineError(
                f"{folder} has no {split} images", "check that the copy is complete"
            )
    if None in present["train"] | present["val"]:
        keys_of_classes = _classes_of_objects(folder, images, classes)
    else:
        keys_of_classes = _classes_of_images(present)
        others = Counter(o.synset in keys_of_classes for image in images for o in image.objects)
        if others[False]:
            # Labels are of the images' classes; more of them would change what every label means.
            form = f"{form}; objects of other classes left out: {others[False]:,}"
    described = (known.get(key, ImageClass(key, None, key)) for key in sorted(keys_of_classes))
    return Source(folder.name, form, tuple(described), images)


def _classes_of_images(present: Mapping[str, set[str | None]]) -> set[str]:
    train, val = ({key for key in present[split] if key is not None} for split in ("train", "val"))
    if strangers := val - train:
        raise PipelineError(
            f"{len(strangers)} validation classes have no training image, first {min(strangers)}",
            "check that no training images are missing and that both splits belong to the same data set",
        )
    return train


def _classes_of_objects(
    folder: Folder, images: Sequence[SourceImage], classes: Collection[str]
) -> set[str]:
    if labelled := [image.name for image in images if image.synset is not None]:
        raise PipelineError(
            f"{len(labelled):,} of the {len(images):,} images of {folder} have a class, first "
            f"{labelled[0]}, and the others have none",
            "give images that all have a class, or none that has",
        )
    known = set(classes)
    for image in images:
        for item in image.objects:
            if item.synset not in known:
                raise PipelineError(
                    f"{image.origin} in {folder} has an object of the class {item.synset!r}, which is "
                    "not among the data set's classes",
                    FETCH_AGAIN,
                )
    return known


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
