"""Tiny-ImageNet-200 as Stanford's CS231N hands it out: 64-pixel images with one box each.

Its test images have no labels and are left out.
"""

from collections.abc import Iterator

from stages.dataset import ImageClass
from stages.errors import PipelineError
from stages.sources.annotations import Objects, make_box
from stages.sources.classes import known_classes
from stages.sources.locations import WholeFile
from stages.sources.source import (
    FETCH_AGAIN,
    Layout,
    Source,
    SourceImage,
    SourceObject,
    image_name,
    make_source,
)
from stages.storage import Folder

SYNSETS = "wnids.txt"
WORDS = "words.txt"
VAL_LABELS = "val/val_annotations.txt"


def _matches(folder: Folder) -> bool:
    return SYNSETS in folder.children() or "val_annotations.txt" in folder.children("val")


def _check(folder: Folder) -> None:
    needed = {"": (SYNSETS, WORDS, "train/", "val/"), "val": ("images/", "val_annotations.txt")}
    missing = [
        f"{under}/{name}".lstrip("/")
        for under, names in needed.items()
        for name in names
        if name not in folder.children(under)
    ]
    if missing:
        raise PipelineError(
            f"{folder} looks like Tiny-ImageNet-200 but has no {' and no '.join(missing)}",
            "unpack tiny-imagenet-200.zip again, and give the folder tiny-imagenet-200",
        )


def _read(folder: Folder) -> Source:
    synsets = folder.read(SYNSETS).decode().split()
    words = dict(_fields(folder, WORDS, 2))
    classes = {key: ImageClass(key, None, words.get(key, key)) for key in synsets}
    images = [*_train_images(folder, synsets), *_val_images(folder)]
    return make_source(folder, LAYOUT.form, images, known_classes(folder) or classes)


def _train_images(folder: Folder, synsets: list[str]) -> Iterator[SourceImage]:
    objects: dict[str, Objects] = {}
    for synset in synsets:
        for name, *corners in _fields(folder, f"train/{synset}/{synset}_boxes.txt", 5):
            objects[name] = _objects(synset, corners, folder)
    for file, size in folder.list("train").items():
        parts = file.split("/")
        if len(parts) == 3 and parts[2] == f"{parts[1]}_boxes.txt":
            continue
        if len(parts) != 4 or parts[1] not in synsets or parts[2] != "images":
            raise PipelineError(
                f"{folder}/{file} is not train/SYNSET/images/IMAGE of a synset in {SYNSETS}",
                "unpack tiny-imagenet-200.zip again into an empty folder",
            )
        location = WholeFile(folder, file, size)
        known = objects.get(parts[3], ())
        yield SourceImage("train", parts[1], image_name(file), location, known)


def _val_images(folder: Folder) -> Iterator[SourceImage]:
    labels = {name: rest for name, *rest in _fields(folder, VAL_LABELS, 6)}
    files = folder.list("val/images")
    if len(files) < len(labels):
        raise PipelineError(
            f"{folder}/{VAL_LABELS} names {len(labels)} images, of which {len(files)} are there",
            FETCH_AGAIN,
        )
    for file, size in files.items():
        name = file.removeprefix("val/images/")
        if name not in labels:
            raise PipelineError(f"{folder}/{VAL_LABELS} has no line for {name!r}", FETCH_AGAIN)
        synset, *corners = labels[name]
        location = WholeFile(folder, file, size)
        objects = _objects(synset, corners, folder)
        yield SourceImage("val", synset, image_name(file), location, objects)


def _fields(folder: Folder, file: str, count: int) -> Iterator[list[str]]:
    for number, line in enumerate(folder.read(file).decode().splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) != count:
            raise PipelineError(
                f"line {number} of {folder}/{file} has {len(fields)} fields, not {count}",
                FETCH_AGAIN,
            )
        yield fields


def _objects(synset: str, corners: list[str], folder: Folder) -> Objects:
    try:
        return (SourceObject(synset, make_box(map(int, corners))),)
    except ValueError as error:
        raise PipelineError(f"{folder} has a box of {corners}", FETCH_AGAIN) from error


LAYOUT = Layout("Tiny-ImageNet-200", _matches, _check, _read)
