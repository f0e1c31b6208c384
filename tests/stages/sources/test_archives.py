"""Archives are read as they are, and labels come out in the right order."""

import gzip
import hashlib
import json
import multiprocessing
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from torchvision.datasets import imagenet as torchvision_imagenet

from stages.dataset import Box
from stages.errors import PipelineError
from stages.sources import (
    CLASSES,
    DEVKIT,
    GROUND_TRUTH,
    TRAIN_ARCHIVE,
    VAL_ARCHIVE,
    SourceImage,
    open_source,
    read_classes,
)
from stages.sources.source import SourceObject
from tests.conftest import add, tar_of
from tests.stages.sources.originals import Originals

SIDES = ("xmin", "ymin", "xmax", "ymax")


def test_images_are_found_in_nested_tars(source: Path) -> None:
    found = open_source(source)
    assert len(found.classes) == 6
    train = [image for image in found.images if image.split == "train"]
    assert len(train) == 96
    with tarfile.open(source / TRAIN_ARCHIVE) as outer:
        member = outer.getmembers()[2]
        with tarfile.open(fileobj=outer.extractfile(member)) as inner:
            wanted = {m.name: inner.extractfile(m).read() for m in inner.getmembers()}
    mine = [image for image in train if image.synset == member.name.removesuffix(".tar")]
    assert {image.name for image in mine} == set(wanted)
    for image in mine:
        assert image.read() == wanted[image.name]
        assert image.size == len(wanted[image.name])
        assert image.origin == f"{TRAIN_ARCHIVE}/{image.name}"


def test_boxes_are_those_of_the_annotations(boxed_source: Path) -> None:
    found = open_source(boxed_source).images
    assert all(len(image.boxes) == 1 for image in found)
    for split, archive in (("train", "train_v2.tar.gz"), ("val", "val_v3.tgz")):
        image = next(image for image in found if image.split == split)
        with tarfile.open(boxed_source / f"ILSVRC2012_bbox_{archive}") as tar:
            member = next(m for m in tar.getmembers() if m.name.endswith(f"/{image.key}.xml"))
            xml = tar.extractfile(member).read().decode()
        corners = [int(re.search(rf"<{side}>(\d+)<", xml)[1]) for side in SIDES]
        assert image.boxes == (Box(*corners),)


def _object(name: str, corners: str, more: str = "") -> str:
    sides = zip(SIDES, corners.split(), strict=True)
    box = "".join(f"<{side}>{corner}</{side}>" for side, corner in sides)
    return f"<object>{name}<bndbox>{box}</bndbox>{more}</object>"


def _annotate(folder: Path, image: SourceImage, *objects: str) -> None:
    xml = f"<annotation>{''.join(objects)}</annotation>".encode()
    packed = gzip.compress(tar_of([(f"val/{image.key}.xml", xml)]))
    (folder / "ILSVRC2012_bbox_val_v3.tgz").write_bytes(packed)


def test_each_object_has_its_own_class(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "copy")
    before = open_source(source)
    image = next(image for image in before.images if image.split == "val")
    other = next(i.synset for i in before.classes if i.synset != image.synset)
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    _annotate(
        tmp_path / "copy",
        image,
        _object(f"<name> {other} </name>", "1 2 30.4 40.6", "<difficult>1</difficult>"),
        _object("", "5 6 7 8", part),
        _object("<name>n00000000</name><difficult>0</difficult>", "0 0 1 1"),
    )
    found = open_source(tmp_path / "copy")
    (annotated,) = [image for image in found.images if image.objects]
    assert annotated.key == image.key
    assert annotated.objects == (
        SourceObject(other, Box(1, 2, 30, 41), difficult=True),
        SourceObject(str(image.synset), Box(5, 6, 7, 8)),
        SourceObject("n00000000", Box(0, 0, 1, 1)),
    )
    assert found.classes == before.classes  # which one more would give other labels
    assert found.form == f"{before.form}; objects of other classes left out: 1"


@pytest.mark.parametrize(
    ("corners", "difficult", "problem"),
    [
        ("1 2 x 4", "0", "could not convert string to float"),
        ("1 2 nan 4", "0", "a box has the corner nan"),
        ("1 2 inf 4", "0", "a box has the corner inf"),
        ("1 2 1e30 4", "0", "a box has the corner 1e"),
        ("1 2 3 4", "yes", "difficult is 'yes', neither 0 nor 1"),
    ],
)
def test_an_object_that_is_not_one_is_refused(
    source: Path, tmp_path: Path, corners: str, difficult: str, problem: str
) -> None:
    shutil.copytree(source, tmp_path / "copy")
    image = next(image for image in open_source(source).images if image.split == "val")
    flag = f"<difficult>{difficult}</difficult>"
    _annotate(tmp_path / "copy", image, _object("<name>a</name>", corners, flag))
    with pytest.raises(PipelineError, match=f"is not an annotation: {problem}") as raised:
        open_source(tmp_path / "copy")
    assert "fetch it again" in raised.value.fix


def test_images_without_a_box_archive_have_no_boxes(source: Path) -> None:
    assert not any(image.boxes for image in open_source(source).images)


def test_images_are_read_by_other_processes(source: Path, originals: Originals) -> None:
    images = open_source(source).images
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.map(SourceImage.read, images[:5]) == [i.data for i in originals.images[:5]]


def test_devkit_numbers_are_not_the_sorted_order(shared_data: Path) -> None:
    """The trap that gives 0.1 % accuracy without any error."""
    classes = {item.ilsvrc_id: item for item in read_classes(shared_data / "devkit")}
    assert sorted(classes) == list(range(1, 1001))
    index = json.loads((shared_data / "devkit" / "imagenet_class_index.json").read_text())
    by_synset = sorted(item.synset for item in classes.values())
    assert by_synset == [index[str(label)][0] for label in range(1000)]
    assert sum(classes[label + 1].synset == synset for label, synset in enumerate(by_synset)) < 20


@pytest.mark.parametrize("name", ["in224-10", "orig-12"])
def test_labels_agree_with_the_real_devkit(shared_data: Path, name: str, tmp_path: Path) -> None:
    """Without the folder's own lists, the devkit's 50,000 lines give the same labels by file number."""
    real = shared_data / "mini-imagenet-real" / name
    for archive in (TRAIN_ARCHIVE, VAL_ARCHIVE):
        (tmp_path / archive).symlink_to(real / archive)
    (tmp_path / DEVKIT).symlink_to(shared_data / "devkit" / DEVKIT)
    found = open_source(tmp_path)
    by_name = {image.name: image.synset for image in found.images if image.split == "val"}
    rows = [line.split("\t") for line in (real / "val_labels.tsv").read_text().splitlines()[1:]]
    assert by_name == {row[0]: row[1] for row in rows}
    assert [item.synset for item in found.classes] == sorted({row[1] for row in rows})
    own = open_source(real)
    assert [item.synset for item in own.classes] == [item.synset for item in found.classes]
    assert [item.ilsvrc_id for item in own.classes] == [item.ilsvrc_id for item in found.classes]


def test_every_label_of_the_devkit(shared_data: Path, tmp_path: Path, monkeypatch) -> None:
    """All 50,000, of archives as the publisher's: synsets as torchvision reads them off the same devkit."""
    devkit = shared_data / "devkit" / DEVKIT
    (tmp_path / DEVKIT).symlink_to(devkit)
    public = json.loads((shared_data / "devkit" / "imagenet_class_index.json").read_text())
    order = [public[str(label)][0] for label in range(1000)]
    with tarfile.open(tmp_path / TRAIN_ARCHIVE, "w") as archive:
        for synset in order:
            add(archive, f"{synset}.tar", tar_of([(f"{synset}_1.JPEG", b"x")]))
    with tarfile.open(tmp_path / VAL_ARCHIVE, "w") as archive:
        # A tar's members need not stand in the order of their names; 7919 is coprime to 50,000.
        for number in range(50_000):
            add(archive, f"ILSVRC2012_val_{number * 7919 % 50_000 + 1:08d}.JPEG", b"x")

    found = open_source(tmp_path)

    # The devkit at hand holds the publisher's two files only, and so has another checksum.
    checksum = hashlib.md5(devkit.read_bytes()).hexdigest()
    monkeypatch.setitem(torchvision_imagenet.ARCHIVE_META, "devkit", (DEVKIT, checksum))
    torchvision_imagenet.parse_devkit_archive(tmp_path)
    _, expected = torchvision_imagenet.load_meta_file(tmp_path)
    assert len(expected) == 50_000
    assert [item.synset for item in found.classes] == order
    by_name = {image.name: image.synset for image in found.images if image.split == "val"}
    assert by_name == {
        f"ILSVRC2012_val_{line:08d}.JPEG": synset for line, synset in enumerate(expected, 1)
    }
    train = {image.name: image.synset for image in found.images if image.split == "train"}
    assert train == {f"{synset}_1.JPEG": synset for synset in order}


def _missing(folder: Path) -> None:
    shutil.rmtree(folder)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def _no_val_archive(folder: Path) -> None:
    (folder / VAL_ARCHIVE).unlink()


def _empty_archive(folder: Path) -> None:
    (folder / VAL_ARCHIVE).write_bytes(b"")


def _truncated_inside_an_image(folder: Path) -> None:
    data = (folder / TRAIN_ARCHIVE).read_bytes()
    (folder / TRAIN_ARCHIVE).write_bytes(data[: len(data) // 2 + 100])


def _truncated_between_members(folder: Path) -> None:
    with tarfile.open(folder / VAL_ARCHIVE) as archive:
        end = archive.getmembers()[20].offset
    data = (folder / VAL_ARCHIVE).read_bytes()
    (folder / VAL_ARCHIVE).write_bytes(data[:end])


def _flat_train(folder: Path) -> None:
    (folder / TRAIN_ARCHIVE).write_bytes(tar_of([("n01440764_1.JPEG", b"x")]))


def _traversal(folder: Path) -> None:
    (folder / VAL_ARCHIVE).write_bytes(tar_of([("../../ILSVRC2012_val_00000001.JPEG", b"x")]))


def _web_page(folder: Path) -> None:
    (folder / TRAIN_ARCHIVE).write_bytes(b"\n<!doctype html><html>please log in</html>" * 100)


def _not_a_tar(folder: Path) -> None:
    (folder / TRAIN_ARCHIVE).write_bytes(bytes(range(256)) * 100)


def _link_in_a_tar(folder: Path) -> None:
    link = tarfile.TarInfo("ILSVRC2012_val_00099999.JPEG")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(folder / VAL_ARCHIVE, "a") as archive:
        archive.addfile(link)


def _truncated_boxes(folder: Path) -> None:
    packed = gzip.compress(tar_of([("val/ILSVRC2012_val_00000001.xml", bytes(100_000))]))
    (folder / "ILSVRC2012_bbox_val_v3.tgz").write_bytes(packed[: len(packed) // 2])


def _exploding_boxes(folder: Path) -> None:
    xml = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
    packed = gzip.compress(tar_of([("val/ILSVRC2012_val_00000001.xml", xml)]))
    (folder / "ILSVRC2012_bbox_val_v3.tgz").write_bytes(packed)


def _annotation_in_another_encoding(folder: Path) -> None:
    xml = '<?xml version="1.0" encoding="utf-16"?><annotation/>'.encode("utf-16")
    packed = gzip.compress(tar_of([("val/ILSVRC2012_val_00000001.xml", xml)]))
    (folder / "ILSVRC2012_bbox_val_v3.tgz").write_bytes(packed)


def _enormous_annotation(folder: Path) -> None:
    packed = gzip.compress(tar_of([("val/ILSVRC2012_val_00000001.xml", bytes(2 << 20))]))
    (folder / "ILSVRC2012_bbox_val_v3.tgz").write_bytes(packed)


def _no_labels(folder: Path) -> None:
    (folder / GROUND_TRUTH).unlink()


def _no_classes(folder: Path) -> None:
    (folder / CLASSES).unlink()


def _too_few_labels(folder: Path) -> None:
    lines = (folder / GROUND_TRUTH).read_text().splitlines()
    (folder / GROUND_TRUTH).write_text("\n".join(lines[:-1]))


def _missing_synset(folder: Path) -> None:
    with tarfile.open(folder / TRAIN_ARCHIVE) as old:
        members = [(m.name, old.extractfile(m).read()) for m in old.getmembers()]
    (folder / TRAIN_ARCHIVE).write_bytes(tar_of(members[:-1]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_missing, "does not exist"),
        (_empty, r"contains no data set in a known layout \(found: nothing\)"),
        (_no_val_archive, f"has no {VAL_ARCHIVE}"),
        (_file, "is a file, not a folder"),
        (_empty_archive, "is empty"),
        (_truncated_inside_an_image, "truncated|damaged"),
        (_truncated_between_members, "truncated"),
        (_flat_train, "instead of one tar per synset"),
        (_traversal, "not ILSVRC2012_val_XXXXXXXX.JPEG"),
        (_web_page, "is a web page, not a tar archive"),
        (_not_a_tar, "is not a tar archive"),
        (_link_in_a_tar, "which is a link"),
        (_truncated_boxes, "is truncated or not a gzipped tar"),
        (_exploding_boxes, "is not an annotation: it declares a document type"),
        (_annotation_in_another_encoding, "is not an annotation: it declares a document type"),
        (_enormous_annotation, "has 2,097,152 bytes"),
        (_no_labels, "has neither"),
        (_no_classes, "has neither"),
        (_too_few_labels, "41 labels for 42 validation images"),
        (_missing_synset, "have no training image"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(
    source: Path, tmp_path: Path, spoil, message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    spoil(folder)
    with pytest.raises(PipelineError) as raised:
        open_source(folder)
    assert re.search(message, raised.value.problem), raised.value.problem
    assert raised.value.fix


def test_an_archive_inside_the_class_list_of_another_set(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    with tarfile.open(folder / TRAIN_ARCHIVE, "a") as archive:
        add(archive, "n00000001.tar", tar_of([("n00000001_1.JPEG", b"x")]))
    with pytest.raises(PipelineError, match="class list lacks"):
        open_source(folder)
