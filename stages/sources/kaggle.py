"""ILSVRC as Kaggle hands it out: unpacked, the validation images flat, labels and boxes in CSV files."""

import csv
import io

from stages.dataset import ImageClass
from stages.errors import PipelineError
from stages.sources.annotations import Objects, make_box, of_class, parse_objects
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

IMAGES = "ILSVRC/Data/CLS-LOC"
ANNOTATIONS = "ILSVRC/Annotations/CLS-LOC"
TRAIN_BOXES = "LOC_train_solution.csv"
VAL_LABELS = "LOC_val_solution.csv"
WORDS = "LOC_synset_mapping.txt"


def _matches(folder: Folder) -> bool:
    present = set(folder.children())
    return bool({"ILSVRC/", "CLS-LOC/", "Data/", VAL_LABELS} & present) and "train/" not in present


def _check(folder: Folder) -> None:
    present = folder.children(IMAGES)
    missing = [f"{IMAGES}/{split}" for split in ("train/", "val/") if split not in present]
    missing += [name for name in (VAL_LABELS, WORDS) if name not in folder.children()]
    if missing:
        raise PipelineError(
            f"{folder} looks like Kaggle's copy of ILSVRC but has no {' and no '.join(missing)}",
            f"give the folder that holds ILSVRC/, {VAL_LABELS} and {WORDS}, as the zip unpacks",
        )


def _read(folder: Folder) -> Source:
    words = _words(folder)
    val = _solution(folder, VAL_LABELS)
    train_objects = _train_objects(folder)
    images = []
    for file, size in folder.list(f"{IMAGES}/train").items():
        parts = file.removeprefix(f"{IMAGES}/train/").split("/")
        if len(parts) != 2 or parts[0] not in words:
            raise PipelineError(
                f"{folder}/{file} is in no folder of a class that {WORDS} names",
                "unpack the zip again into an empty folder",
            )
        name, stem = image_name(file, parts[0]), parts[1].rsplit(".", 1)[0]
        objects = of_class(train_objects.get(stem, ()), parts[0])
        images.append(SourceImage("train", parts[0], name, WholeFile(folder, file, size), objects))
    val_files = folder.list(f"{IMAGES}/val")
    if len(val_files) < len(val):
        raise PipelineError(
            f"{VAL_LABELS} names {len(val)} images, of which {len(val_files)} are in {folder}",
            "unpack the zip again into an empty folder",
        )
    for file, size in val_files.items():
        stem = file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if stem not in val:
            raise PipelineError(f"{VAL_LABELS} has no line for {file}", FETCH_AGAIN)
        synset, objects = val[stem]
        images.append(
            SourceImage("val", synset, image_name(file), WholeFile(folder, file, size), objects)
        )
    return make_source(folder, LAYOUT.form, images, known_classes(folder) or words)


def _train_objects(folder: Folder) -> dict[str, Objects]:
    """From the one CSV file, or where it was left out from the half a million XML files."""
    if folder.exists(TRAIN_BOXES):
        return {name: objects for name, (_, objects) in _solution(folder, TRAIN_BOXES).items()}
    return {
        file.rsplit("/", 1)[-1].removesuffix(".xml"): parse_objects(folder.read(file), file)
        for file in folder.list(f"{ANNOTATIONS}/train")
    }


def _solution(folder: Folder, name: str) -> dict[str, tuple[str, Objects]]:
    """Class and objects by image, of lines like ``ILSVRC2012_val_00000001,n01751748 111 108 230 365``."""
    try:
        rows = csv.DictReader(io.StringIO(folder.read(name).decode()))
        return {row["ImageId"]: _prediction(row["PredictionString"].split()) for row in rows}
    except (KeyError, ValueError, AttributeError, IndexError) as error:
        raise PipelineError(
            f"{folder}/{name} has a line that cannot be read: {error!r}", FETCH_AGAIN
        ) from error


def _prediction(words: list[str]) -> tuple[str, Objects]:
    # Each object's class and corners; the first one's class is the image's.
    groups = [words[i : i + 5] for i in range(0, len(words), 5)]
    if any(len(group) != 5 for group in groups):
        raise ValueError("a box has not four corners")
    return words[0], tuple(
        SourceObject(synset, make_box(map(int, corners))) for synset, *corners in groups
    )


def _words(folder: Folder) -> dict[str, ImageClass]:
    """The classes of ``n01440764 tench, Tinca tinca`` lines."""
    lines = folder.read(WORDS).decode("utf-8", "replace").splitlines()
    pairs = (line.strip().split(" ", 1) for line in lines if line.strip())
    return {pair[0]: ImageClass(pair[0], None, pair[-1]) for pair in pairs}


LAYOUT = Layout("Kaggle's ILSVRC (CLS-LOC)", _matches, _check, _read)
