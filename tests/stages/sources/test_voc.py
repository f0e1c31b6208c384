"""PASCAL VOC as it is downloaded and as it unpacks: splits, objects, and what is wrong with a copy."""

import io
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.dataset import Box
from stages.errors import PipelineError
from stages.load.samples import Dataset
from stages.shard import Resize, shard
from stages.shard.verify import verify
from stages.sources import check_source, fingerprint, open_source
from stages.sources.source import SourceObject
from stages.storage import open_folder
from tests.conftest import add, command
from tests.stages.sources.originals import refused, refused_at_once

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def picture(width: int = 60, height: int = 40) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def xml(*objects: tuple[str, tuple, int]) -> str:
    text = ""
    for name, corners, difficult in objects:
        sides = zip(CORNERS, corners, strict=True)
        box = "".join(f"<{side}>{corner}</{side}>" for side, corner in sides)
        text += f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        text += f"<bndbox>{box}</bndbox></object>"
    return f"<annotation>{text}</annotation>"


FILES: dict[str, bytes] = {
    "ImageSets/Main/trainval.txt": b"000005\n000007\n\n",
    "ImageSets/Main/test.txt": b"000001 \n",
    "ImageSets/Main/train.txt": b"000005\n",
    "ImageSets/Layout/test.txt": b"000001\n",
    **{f"JPEGImages/{key}.jpg": picture() for key in ("000001", "000005", "000007", "000009")},
    "Annotations/000001.xml": xml(("dog", (1, 1, 60, 40), 0), ("cat", (2, 3, 9, 9), 1)).encode(),
    "Annotations/000005.xml": xml(("aeroplane", (5, 6, 7.5, 8), 0)).encode(),
    "Annotations/000007.xml": b"<annotation></annotation>",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that holds VOCdevkit/, with one image that no list names."""
    for path, content in FILES.items():
        file = tmp_path / "voc" / "VOCdevkit" / "VOC2007" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path / "voc"


def packed(path: Path, files: dict[str, bytes], start: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            add(tar, f"{start}VOCdevkit/VOC2007/{name}", content)
    return path


def expected_objects(path: Path) -> dict[str, list[tuple]]:
    """Name, corners counted from 0 and difficult, of every object as its XML has it."""
    found = {}
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith(".xml"):
                top = ElementTree.fromstring(tar.extractfile(member).read())
                found[Path(member.name).stem] = [
                    (
                        item.findtext("name"),
                        *(float(item.findtext(f"bndbox/{side}")) - 1 for side in CORNERS),
                        item.findtext("difficult") == "1",
                    )
                    for item in top.findall("object")
                ]
    return found


def test_the_real_tar_goes_all_the_way(shared_data: Path, tmp_path: Path) -> None:
    tar = shared_data / "detection-captions" / "voc2007-mini.tar"
    check_source(tar, labelled=False)
    found = open_source(tar)
    assert (found.name, found.form) == ("voc2007-mini", "PASCAL VOC 2007")
    info = shard(found, tmp_path / "data", shard_bytes=1 << 20)
    assert info.counts == {"train": 36, "val": 14}
    classes = [item.synset for item in info.classes]
    assert len(classes) == 20
    assert classes == sorted(classes)
    assert (classes[0], classes[-1]) == ("aeroplane", "tvmonitor")
    assert not info.labelled
    dataset = Dataset(tmp_path / "data")
    original = expected_objects(tar)
    seen = 0
    for split in ("train", "val"):
        samples = dataset.samples(split)
        for key, objects in zip(samples.keys, samples.objects, strict=True):
            stored = [
                (classes[label], *box, difficult)
                for label, box, difficult in zip(
                    objects.labels, objects.boxes.tolist(), objects.difficult, strict=True
                )
            ]
            assert stored == original[key]
            seen += len(stored)
    assert seen == 169
    every = [dataset.samples(split).objects.every for split in ("train", "val")]
    assert sum(int(objects.difficult.sum()) for objects in every) == 38
    # As the XML of image 000151 has it: a bottle at 153 136 375 264, a person at 4 49 375 440.
    samples = dataset.samples("train")
    objects = samples.objects[samples.keys.index("000151")]
    assert [classes[label] for label in objects.labels] == ["bottle", "person"]
    assert objects.boxes.tolist() == [[152, 135, 374, 263], [3, 48, 374, 439]]
    assert verify(tmp_path / "data") == []
    again = shard(open_source(tmp_path / "data"), tmp_path / "again")
    assert (again.digest, again.classes) == (info.digest, info.classes)


def test_boxes_shrink_with_their_images(shared_data: Path, tmp_path: Path) -> None:
    found = open_source(shared_data / "detection-captions" / "voc2007-mini.tar")
    shard(found, tmp_path / "data", resize=Resize(125))
    samples = Dataset(tmp_path / "data").samples("train")
    place = samples.keys.index("000151")
    assert samples.sizes[place].tolist() == [125, 166]
    down = 166 / 500
    expected = [153 * down - down, 264 * down - 1]
    (_, top, right, bottom) = samples.objects[place].boxes[0].tolist()
    assert right == 124  # at the border it stays there
    assert [top, bottom] == pytest.approx([135 * down, expected[1]], abs=1e-4)
    assert verify(tmp_path / "data") == []


def test_the_splits_are_those_that_everybody_reports(root: Path) -> None:
    check_source(root, labelled=False)
    found = open_source(root)
    assert [(i.split, i.synset, i.name) for i in found.images] == [
        ("train", None, "000005.jpg"),
        ("train", None, "000007.jpg"),
        ("val", None, "000001.jpg"),
    ]
    assert [image.objects for image in found.images] == [
        (SourceObject("aeroplane", Box(4, 5, 6.5, 7)),),
        (),
        (SourceObject("dog", Box(0, 0, 59, 39)), SourceObject("cat", Box(1, 2, 8, 8), True)),
    ]
    assert found.images[0].read() == FILES["JPEGImages/000005.jpg"]


@pytest.mark.parametrize("start", ["", "./"])
def test_the_two_tars_as_they_are_downloaded(root: Path, tmp_path: Path, start: str) -> None:
    test = {path: data for path, data in FILES.items() if "test" in path or "000001" in path}
    train = {path: data for path, data in FILES.items() if path not in test}
    packed(tmp_path / "tars" / "VOCtrainval_06-Nov-2007.tar", train, start)
    packed(tmp_path / "tars" / "VOCtest_06-Nov-2007.tar", test, start)
    check_source(tmp_path / "tars", labelled=False)
    found, unpacked = open_source(tmp_path / "tars"), open_source(root)
    assert found.classes == unpacked.classes
    for image, other in zip(found.images, unpacked.images, strict=True):
        assert (image.split, image.name, image.objects) == (other.split, other.name, other.objects)
        assert image.read() == other.read()
    url = "memory://bucket/sets/voc"
    for path in (tmp_path / "tars").iterdir():
        open_folder(url).write_atomic(path.name, path.read_bytes())
    assert [i.read() for i in open_source(url).images] == [i.read() for i in found.images]
    (tmp_path / "tars" / "VOCtest_06-Nov-2007.tar").unlink()
    refused(tmp_path / "tars", r"has no .*Main/test\.txt", "both VOCtrainval and VOCtest")


def test_a_tar_by_its_own_name(root: Path, tmp_path: Path, monkeypatch) -> None:
    """Whatever lies beside it."""
    tar = packed(tmp_path / "sets" / "VOC.tar", FILES)
    packed(tmp_path / "sets" / "other.tar", {"JPEGImages/000001.jpg": b"x"})
    (tmp_path / "sets" / "dataset.json").write_text("{}")
    before = fingerprint(tar)
    assert len(open_source(tar).images) == 3
    monkeypatch.chdir(tar.parent)
    assert open_source("VOC.tar").images == open_source(tar).images
    assert open_source(f"file://{tar}").name == "VOC"
    packed(tmp_path / "sets" / "other.tar", FILES)
    assert fingerprint(tar) == before
    refused(tar.parent / "absent.tar", "does not exist", "give a folder")
    (tar.parent / "notes.txt").write_text("x")
    refused(
        tar.parent / "notes.txt", r"is a file, not a folder or a \.tar", "the folder that holds"
    )
    url = "memory://bucket/alone/VOC.tar"
    open_folder("memory://bucket/alone").write_atomic("VOC.tar", tar.read_bytes())
    assert len(open_source(url).images) == 3


def test_commands_take_the_tar_and_refuse_to_classify_it(tmp_path: Path) -> None:
    tar = packed(tmp_path / "VOC.tar", FILES)
    done = command("pipeline.shard", tar, tmp_path / "data", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "PASCAL VOC 2007: 3 images of 20 classes" in done.stdout
    assert len(pq.read_table(tmp_path / "data" / "manifest.parquet")) == 3
    for data in (tar, tmp_path / "data"):
        workspace = tmp_path / "workspace"
        done = command("pipeline.run", "--year", 2012, "--data", data, "--workspace", workspace)
        assert done.returncode == 2
        problem, fix = done.stderr.strip().splitlines()
        assert problem.startswith(f"error: {data} is ")
        assert "its images have no class labels" in problem
        assert "one folder per class" in fix
        begun = [path.name for path in workspace.rglob("*") if path.is_file()]
        assert begun in ([], [".gitignore"])


def test_images_without_a_class_are_refused_where_one_is_needed(root: Path) -> None:
    with pytest.raises(PipelineError, match="is PASCAL VOC, and its images have no class"):
        check_source(root)


def test_a_folder_too_deep_is_refused(root: Path) -> None:
    for folder in (root / "VOCdevkit", root / "VOCdevkit" / "VOC2007"):
        refused_at_once(
            folder, "looks like PASCAL VOC but has no VOCdevkit/", "the folder that holds"
        )


def test_half_a_set_is_refused(root: Path) -> None:
    (root / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    refused_at_once(
        root, r"VOC2007 has no ImageSets/Main/test\.txt", "both VOCtrainval and VOCtest"
    )


def test_two_years_are_refused(root: Path) -> None:
    (root / "VOCdevkit" / "VOC2012").mkdir()
    refused_at_once(root, "holds VOC2007 and VOC2012", "of one year")


def test_two_sets_in_one_folder_are_refused(root: Path) -> None:
    for name in ("train/a", "val/a"):
        (root / name).mkdir(parents=True)
    refused_at_once(root, "looks like PASCAL VOC and like a folder a class", "one of them")


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        (
            "ImageSets/Main/test.txt",
            b"000005\n",
            "1 images .* in trainval and in test, first 000005",
        ),
        ("ImageSets/Main/test.txt", b"000002\n", "lists the test image '000002' but has no"),
        ("ImageSets/Main/test.txt", b"../../000001\n", "lists the test image '../../000001'"),
        ("ImageSets/Main/test.txt", b"", "has no val images"),
        ("ImageSets/Main/test.txt", b"\xff\xfe", "is not a list of images"),
        ("Annotations/000001.xml", b"<annotation>", r"000001\.xml is not an annotation"),
        ("Annotations/000001.xml", b"", r"000001\.xml is not an annotation"),
        (
            "Annotations/000001.xml",
            b'<!DOCTYPE x [<!ENTITY a "a">]><annotation>&a;</annotation>',
            r"000001\.xml is not an annotation: it declares a document type",
        ),
        ("Annotations/000001.xml", bytes(2 << 20), "has 2,097,152 bytes"),
        (
            "Annotations/000001.xml",
            xml(("zebra", (1, 1, 2, 2), 0)).encode(),
            r"000001\.jpg .* an object of the class 'zebra', which is not among",
        ),
        (
            "Annotations/000001.xml",
            xml(("dog", (1, "inf", 2, 2), 0)).encode(),
            "is not an annotation: a box has the corner inf",
        ),
    ],
)
def test_a_damaged_copy_is_refused(
    root: Path, tmp_path: Path, path: str, content: bytes, problem: str
) -> None:
    (root / "VOCdevkit" / "VOC2007" / path).write_bytes(content)
    refused(root, problem, "fetch it again|copy is complete|as they are published")
    tar = packed(tmp_path / "voc.tar", {**FILES, path: content})
    refused(tar, problem, "fetch it again|copy is complete|as they are published")


def test_a_truncated_tar_is_refused(tmp_path: Path) -> None:
    tar = packed(tmp_path / "voc.tar", FILES)
    content = tar.read_bytes()
    tar.write_bytes(content[: len(content) // 2])
    refused(tar, "truncated", "fetch it again")
