"""Kaggle's ILSVRC: validation images flat, labels and boxes in CSV files."""

from pathlib import Path

import pytest

from stages.sources import check_source, open_source
from tests.stages.sources.originals import Originals, contents, expected, refused, refused_at_once


def _line(name: str, synset: str, boxes: tuple) -> str:
    corners = [f"{b.xmin} {b.ymin} {b.xmax} {b.ymax}" for b in boxes]
    return f"{name.removesuffix('.JPEG')},{' '.join(f'{synset} {c}' for c in corners)} "


def _annotation(boxes: tuple) -> str:
    objects = (
        f"<object><bndbox><xmin>{b.xmin}</xmin><ymin>{b.ymin}</ymin>"
        f"<xmax>{b.xmax}</xmax><ymax>{b.ymax}</ymax></bndbox></object>"
        for b in boxes
    )
    return f"<annotation>{''.join(objects)}</annotation>"


@pytest.fixture
def root(originals: Originals, tmp_path: Path) -> Path:
    root = tmp_path / "imagenet-object-localization-challenge"
    images = root / "ILSVRC" / "Data" / "CLS-LOC"
    (images / "val").mkdir(parents=True)
    (images / "test").mkdir()
    (images / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(originals.images[0].data)
    for image in originals.images:
        folder = images / image.split / (image.synset if image.split == "train" else "")
        folder.mkdir(exist_ok=True, parents=True)
        (folder / image.name).write_bytes(image.data)
    for split in ("train", "val"):
        lines = [_line(image.name, image.synset, image.boxes) for image in originals.of(split)]
        (root / f"LOC_{split}_solution.csv").write_text(
            "\n".join(["ImageId,PredictionString", *lines, ""])
        )
    words = (f"{synset} {originals.words[synset]}\n" for synset in originals.synsets)
    (root / "LOC_synset_mapping.txt").write_text("".join(words))
    return root


def test_bytes_labels_boxes_and_words(root: Path, originals: Originals) -> None:
    check_source(root)
    found = open_source(root)
    assert contents(found) == expected(originals)
    assert {item.synset: item.words for item in found.classes} == originals.words
    boxes = {image.name: image.boxes for image in originals.images}
    assert {image.name: image.boxes for image in found.images} == boxes


def test_boxes_of_the_annotations_where_there_is_no_table(root: Path, originals: Originals) -> None:
    (root / "LOC_train_solution.csv").unlink()
    for image in originals.of("train"):
        folder = root / "ILSVRC" / "Annotations" / "CLS-LOC" / "train" / image.synset
        folder.mkdir(parents=True, exist_ok=True)
        (folder / image.name.replace(".JPEG", ".xml")).write_text(_annotation(image.boxes))
    boxes = {image.name: image.boxes for image in originals.images}
    assert {image.name: image.boxes for image in open_source(root).images} == boxes


def test_missing_labels_are_refused(root: Path) -> None:
    (root / "LOC_val_solution.csv").unlink()
    refused_at_once(root, r"has no LOC_val_solution\.csv", r"holds ILSVRC/, LOC_val_solution\.csv")


def test_a_folder_too_deep_is_refused(root: Path) -> None:
    refused_at_once(
        root / "ILSVRC", "looks like Kaggle's copy", "give the folder that holds ILSVRC/"
    )
    refused_at_once(
        root / "ILSVRC" / "Data" / "CLS-LOC", "val is flat", "give the official archives"
    )


def test_a_missing_validation_image_is_refused(root: Path, originals: Originals) -> None:
    (root / "ILSVRC/Data/CLS-LOC/val" / next(originals.of("val")).name).unlink()
    refused(root, "names 42 images, of which 41", "unpack the zip again")


def test_a_validation_image_without_a_label_is_refused(root: Path) -> None:
    (root / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00099999.JPEG").write_bytes(b"x")
    refused(root, "has no line for .*00099999", "fetch it again")


def test_a_damaged_table_is_refused(root: Path) -> None:
    (root / "LOC_val_solution.csv").write_text("<html>please log in</html>")
    refused(root, "has no val|cannot be read|names 0 images|no line for", "fetch it again")


def test_a_train_folder_of_no_class_is_refused(root: Path) -> None:
    folder = next((root / "ILSVRC/Data/CLS-LOC/train").iterdir())
    folder.rename(folder.with_name("n99999999"))
    refused(root, "is in no folder of a class", "unpack the zip again")
