"""Tiny-ImageNet-200 as it unpacks: boxes and labels in text files."""

from pathlib import Path

import pytest

from stages.sources import check_source, open_source
from tests.stages.sources.originals import Originals, contents, expected, refused, refused_at_once


@pytest.fixture
def root(originals: Originals, tmp_path: Path) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    (root / "val" / "images").mkdir(parents=True)
    (root / "test" / "images").mkdir(parents=True)
    (root / "test" / "images" / "test_0.JPEG").write_bytes(originals.images[0].data)
    # The file is not sorted in the original either: labels do not follow it.
    (root / "wnids.txt").write_text("\n".join(reversed(originals.synsets)) + "\n")
    words = (f"{synset}\t{originals.words[synset]}\n" for synset in originals.synsets)
    (root / "words.txt").write_text("".join(words) + "n00001740\tentity\n")
    val = []
    for image in originals.images:
        (box,) = image.boxes
        corners = f"{box.xmin}\t{box.ymin}\t{box.xmax}\t{box.ymax}"
        if image.split == "val":
            name = f"val_{len(val)}.JPEG"
            val.append(f"{name}\t{image.synset}\t{corners}\n")
            (root / "val" / "images" / name).write_bytes(image.data)
        else:
            folder = root / "train" / image.synset
            (folder / "images").mkdir(parents=True, exist_ok=True)
            (folder / "images" / image.name).write_bytes(image.data)
            with (folder / f"{image.synset}_boxes.txt").open("a") as file:
                file.write(f"{image.name}\t{corners}\n")
    (root / "val" / "val_annotations.txt").write_text("".join(val))
    return root


def test_bytes_labels_boxes_and_words(root: Path, originals: Originals) -> None:
    check_source(root)
    found = open_source(root)
    assert contents(found) == expected(originals)
    assert {item.synset: item.words for item in found.classes} == originals.words
    boxes = {image.data: image.boxes for image in originals.images}
    assert all(image.boxes == boxes[image.read()] for image in found.images)


def test_missing_labels_are_refused(root: Path) -> None:
    (root / "val" / "val_annotations.txt").unlink()
    refused_at_once(root, r"has no val/val_annotations\.txt", "unpack tiny-imagenet-200")


def test_an_incomplete_copy_is_refused(root: Path) -> None:
    (root / "val" / "images" / "val_3.JPEG").unlink()
    refused(root, "names 42 images, of which 41 are there", "fetch it again")


def test_a_cut_line_is_refused(root: Path) -> None:
    path = root / "val" / "val_annotations.txt"
    path.write_text(path.read_text().rstrip().rsplit("\t", 2)[0])
    refused(root, "line 42 of .* has 4 fields, not 6", "fetch it again")


def test_an_image_without_a_label_is_refused(root: Path) -> None:
    path = root / "val" / "images"
    (path / "val_0.JPEG").rename(path / "val_9999.JPEG")
    refused(root, r"has no line for 'val_9999\.JPEG'", "fetch it again")


def test_a_synset_that_leads_elsewhere_is_refused(root: Path) -> None:
    (root / "wnids.txt").write_text("../../etc\n")
    refused(root, "leads out of", "who made it")
