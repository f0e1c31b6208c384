"""COCO as it unpacks and in one tar: objects, crowds, captions, and what is wrong with a copy."""

import copy
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stages.dataset import Box
from stages.load.samples import Dataset
from stages.shard import shard
from stages.shard.verify import verify
from stages.sources import check_source, open_source
from stages.sources.source import SourceObject
from tests.conftest import add
from tests.stages.sources.originals import refused, refused_at_once
from tests.stages.sources.test_voc import picture

CATEGORIES = [{"id": 1, "name": "zebra"}, {"id": 90, "name": "traffic light"}]


def annotation(image: int, category: int, box: list, crowd: int = 0) -> dict[str, Any]:
    outline = {"counts": [1, 2], "size": [3, 4]} if crowd else [[1.5, 2.5, 3.5]]
    return {
        "id": 7,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "iscrowd": crowd,
        "segmentation": outline,
    }


def instances(numbers: list[int], *annotations: dict[str, Any]) -> dict[str, Any]:
    images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": 60, "height": 40} for n in numbers]
    return {"images": images, "categories": CATEGORIES, "annotations": list(annotations)}


def captions(numbers: list[int], *texts: tuple[int, object]) -> dict[str, Any]:
    said = [{"id": 1, "image_id": number, "caption": text} for number, text in texts]
    return {"images": instances(numbers)["images"], "annotations": said}


JSON = {
    "instances_train2017": instances(
        [3, 9],
        annotation(9, 1, [1.5, 2.25, 10.5, 20]),
        annotation(9, 90, [0, 0, 60, 40], crowd=1),
        annotation(9, 1, [5, 5, 0.5, 0]),
    ),
    "instances_val2017": instances([12], annotation(12, 90, [1, 2, 3, 4])),
    "captions_train2017": captions(
        [3, 9], (9, "Second by id. "), (3, "A\nzebra."), (9, ""), (9, "First.")
    ),
    "captions_val2017": captions([12], (12, "A light.")),
}
NUMBERS = {"train2017": [3, 9], "val2017": [12]}


def files(content: dict[str, Any]) -> dict[str, bytes]:
    found = {
        f"{split}/{number:012d}.jpg": picture(60 + number)
        for split, numbers in NUMBERS.items()
        for number in numbers
    }
    for name, value in content.items():
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        found[f"annotations/{name}.json"] = data
    return found


def unpacked(root: Path, content: dict[str, Any]) -> Path:
    for path, data in files(content).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def packed(path: Path, content: dict[str, Any]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files(content).items():
            add(tar, name, data)
    return path


def test_the_real_tar_goes_all_the_way(shared_data: Path, tmp_path: Path) -> None:
    tar = shared_data / "detection-captions" / "coco-mini.tar"
    check_source(tar, labelled=False)
    info = shard(open_source(tar), tmp_path / "data", shard_bytes=2 << 20)
    assert info.source == "COCO 2017 (instances and captions)"
    assert info.counts == {"train": 48, "val": 12}
    classes = [item.synset for item in info.classes]
    assert len(classes) == 80
    assert classes == sorted(classes)
    assert classes[:3] == ["airplane", "apple", "backpack"]
    assert not info.labelled
    dataset = Dataset(tmp_path / "data")
    counts = {"train": (452, 3, 240), "val": (90, 1, 60)}
    with tarfile.open(tar) as archive:
        for split, (objects, crowds, said) in counts.items():
            samples = dataset.samples(split)
            assert len(samples.objects.every) == objects
            assert samples.objects.every.difficult.sum() == crowds
            assert sum(map(len, samples.captions)) == said
            truth = json.load(archive.extractfile(f"annotations/captions_{split}2017.json"))
            names = {item["id"]: item["file_name"] for item in truth["images"]}
            for key, texts in zip(samples.keys, samples.captions, strict=True):
                own = [a for a in truth["annotations"] if names[a["image_id"]] == f"{key}.jpg"]
                assert texts == [a["caption"] for a in own]
            truth = json.load(archive.extractfile(f"annotations/instances_{split}2017.json"))
            words = {item["id"]: item["name"] for item in truth["categories"]}
            counted = Counter(classes[label] for label in samples.objects.every.labels)
            assert counted == Counter(words[a["category_id"]] for a in truth["annotations"])
            for row, box in zip(samples.sizes, samples.objects, strict=True):
                assert (box.boxes[:, :2] >= 0).all()
                assert (box.boxes[:, 2:] <= row - 1 + 0.01).all()
    # As instances_val2017.json has it: a dog at 58.42 159.35, 221.99 wide and 463.45 high.
    samples = dataset.samples("val")
    objects = samples.objects[samples.keys.index("000000377575")]
    (place,) = [n for n, label in enumerate(objects.labels) if classes[label] == "dog"]
    assert objects.boxes[place].tolist() == pytest.approx([58.42, 159.35, 279.41, 621.80], abs=1e-4)
    assert verify(tmp_path / "data") == []
    again = shard(open_source(tmp_path / "data"), tmp_path / "again")
    assert (again.digest, again.classes) == (info.digest, info.classes)


def test_objects_crowds_and_captions(tmp_path: Path) -> None:
    unpacked(tmp_path / "coco", JSON)
    packed(tmp_path / "coco.tar", JSON)
    check_source(tmp_path / "coco", labelled=False)
    found = open_source(tmp_path / "coco")
    assert [item.synset for item in found.classes] == ["traffic light", "zebra"]
    assert [(i.split, i.synset, i.name) for i in found.images] == [
        ("train", None, "000000000003.jpg"),
        ("train", None, "000000000009.jpg"),
        ("val", None, "000000000012.jpg"),
    ]
    assert [image.objects for image in found.images] == [
        (),
        (
            SourceObject("zebra", Box(1.5, 2.25, 11, 21.25)),
            SourceObject("traffic light", Box(0, 0, 59, 39), difficult=True),
            SourceObject("zebra", Box(5, 5, 5, 5)),
        ),
        (SourceObject("traffic light", Box(1, 2, 3, 5)),),
    ]
    assert [image.captions for image in found.images] == [
        ("A\nzebra.",),
        ("Second by id. ", "First."),
        ("A light.",),
    ]
    other = open_source(tmp_path / "coco.tar")
    for image, same in zip(found.images, other.images, strict=True):
        assert (image.name, image.objects, image.captions) == (
            same.name,
            same.objects,
            same.captions,
        )
        assert image.read() == same.read()
    info = shard(found, tmp_path / "data")
    assert info.flags == {"box-empty": 1}
    assert Dataset(tmp_path / "data").samples("val").captions == [["A light."]]
    assert verify(tmp_path / "data") == []


@pytest.mark.parametrize("kind", ["instances", "captions"])
def test_one_kind_of_annotation_is_enough(tmp_path: Path, kind: str) -> None:
    content = {name: value for name, value in JSON.items() if name.startswith(kind)}
    found = open_source(unpacked(tmp_path / "coco", content))
    assert found.form == f"COCO 2017 ({kind})"
    assert len(found.classes) == (2 if kind == "instances" else 0)
    assert any(image.objects for image in found.images) == (kind == "instances")
    assert any(image.captions for image in found.images) == (kind == "captions")
    assert shard(found, tmp_path / "data").classes == found.classes
    assert verify(tmp_path / "data") == []


def changed(name: str, **values: Any) -> dict[str, Any]:
    content = copy.deepcopy(JSON)
    content[name] |= values
    return content


BOX = [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("instances_val2017", b"{", "instances_val2017.json is not COCO's annotation"),
        ("instances_val2017", b"[" * 100_000, "is not COCO's annotation"),
        ("instances_val2017", b"[]", "is not COCO's annotation"),
        ("instances_val2017", b'{"images": NaN}', "is not COCO's annotation: .*it holds NaN"),
        ("instances_val2017", {"annotations": [{}]}, "is not COCO's annotation: KeyError"),
        ("instances_val2017", {"annotations": [annotation(12, 2, BOX)]}, r"KeyError\(2\)"),
        ("instances_val2017", {"annotations": [annotation(3, 1, BOX)]}, "of no image"),
        ("instances_val2017", {"annotations": [annotation(12, 1, [1, 2, -3, 4])]}, "has a box"),
        ("instances_val2017", {"annotations": [annotation(12, 1, [1, 2, 3])]}, "not COCO's"),
        ("instances_val2017", {"annotations": [annotation(12, 1, "abcd")]}, "not COCO's"),
        ("instances_val2017", {"annotations": [annotation(12, 1, [1, 2, 1e30, 4])]}, "the corner"),
        ("instances_val2017", {"annotations": [annotation(12, 1, BOX, 2)]}, "has iscrowd 2"),
        ("instances_val2017", {"categories": CATEGORIES * 2}, "two categories have one id"),
        ("instances_val2017", {"categories": [{"id": 90, "name": ""}]}, "a category is called ''"),
        ("instances_val2017", {"categories": CATEGORIES[1:]}, "categories .* differ between"),
        ("instances_val2017", instances([12, 12]), "two images have one id"),
        ("instances_val2017", instances([13]), "list different images"),
        ("captions_val2017", captions([12], (13, "x")), "a caption is of no image: 13"),
        ("captions_val2017", captions([12], (12, 5)), "captions are not a list of texts"),
        ("captions_val2017", captions([12], (12, "\ud800")), "is not COCO's annotation"),
    ],
)
def test_bad_annotations_are_refused(
    tmp_path: Path, name: str, value: bytes | dict[str, Any], problem: str
) -> None:
    content = {**JSON, name: value} if isinstance(value, bytes) else changed(name, **value)
    refused(unpacked(tmp_path / "coco", content), problem, "fetch it again")
    refused(packed(tmp_path / "coco.tar", content), problem, "fetch it again")


def test_images_and_annotations_of_two_sets_are_refused(tmp_path: Path) -> None:
    root = unpacked(tmp_path / "coco", JSON)
    (root / "val2017" / "000000000099.jpg").write_bytes(picture())
    refused(root, "do not list 1 files of val2017/, first '000000000099.jpg'", "belong to them")
    (root / "val2017" / "000000000099.jpg").unlink()
    (root / "train2017" / "000000000003.jpg").rename(root / "train2017" / ".hidden.jpg")
    refused(root, "2 images of train2017/, of which 1 are not there", "fetch it again")


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    images = [{"id": 12, "file_name": "../train2017/000000000003.jpg"}]
    content = {n: v for n, v in changed("instances_val2017", images=images).items() if "ins" in n}
    refused(unpacked(tmp_path / "coco", content), "annotates 1 images .* of which 1", "again")


@pytest.mark.parametrize(
    ("absent", "problem"),
    [
        ("val2017/", "looks like COCO but has no val2017/"),
        ("annotations/", "has no annotations of both splits"),
        ("annotations/captions_val2017", "has no annotations/captions_val2017.json"),
        ("annotations/instances_train2017", "has no annotations/instances_train2017.json"),
    ],
)
def test_half_a_set_is_refused(tmp_path: Path, absent: str, problem: str) -> None:
    root = unpacked(tmp_path / "coco", JSON)
    for path in files(JSON):
        if path.startswith(absent):
            (root / path).unlink()
    for folder in (root / "val2017", root / "annotations"):
        if not any(folder.iterdir()):
            folder.rmdir()
    refused_at_once(
        root, problem, "give the folder that holds train2017/, val2017/ and annotations/"
    )


def test_zips_and_two_years_and_two_sets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "zips").mkdir()
    (tmp_path / "zips" / "train2017.zip").write_bytes(b"PK")
    refused_at_once(tmp_path / "zips", "holds train2017.zip, which is not read in place", "unzip")
    root = unpacked(tmp_path / "coco", JSON)
    (root / "train2014").mkdir()
    refused_at_once(
        root, "holds 2014 and 2017, but a data set is one year's images", "give the folder"
    )
    (root / "train2014").rmdir()
    (root / "VOCdevkit" / "VOC2007").mkdir(parents=True)
    refused_at_once(root, "looks like PASCAL VOC and like COCO", "one of them")
