"""Archives are read as they are, and labels come out in the right order."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from stages.errors import PipelineError
from stages.sources import (
    CLASSES,
    DEVKIT,
    GROUND_TRUTH,
    TRAIN_ARCHIVE,
    VAL_ARCHIVE,
    open_source,
    read_classes,
)
from tests.conftest import add, tar_of


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
    data = (source / TRAIN_ARCHIVE).read_bytes()
    for image in mine:
        assert data[image.offset : image.offset + image.size] == wanted[image.name]


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


def test_every_label_of_the_devkit(shared_data: Path) -> None:
    """All 50,000 lines: number -> synset -> place among the sorted synsets, against the public index."""
    classes = {item.ilsvrc_id: item.synset for item in read_classes(shared_data / "devkit")}
    with tarfile.open(shared_data / "devkit" / DEVKIT) as devkit:
        truth = devkit.extractfile(f"ILSVRC2012_devkit_t12/data/{GROUND_TRUTH}").read().split()
    public = json.loads((shared_data / "devkit" / "imagenet_class_index.json").read_text())
    place = {synset: int(label) for label, (synset, _) in public.items()}
    labels = [place[classes[int(number)]] for number in truth]
    assert len(labels) == 50_000
    assert all(labels.count(label) == 50 for label in (0, 1, 499, 999))


def _missing(folder: Path) -> None:
    shutil.rmtree(folder)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


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


def _not_a_tar(folder: Path) -> None:
    (folder / TRAIN_ARCHIVE).write_bytes(b"<html>please log in</html>" * 100)


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
    ("spoil", "told"),
    [
        (_missing, "does not exist"),
        (_empty, "has no ILSVRC2012_img_train.tar and no ILSVRC2012_img_val.tar"),
        (_file, "is a file, not a folder"),
        (_empty_archive, "is empty"),
        (_truncated_inside_an_image, "truncated|damaged"),
        (_truncated_between_members, "truncated"),
        (_flat_train, "where a tar a synset"),
        (_traversal, "not ILSVRC2012_val_XXXXXXXX.JPEG"),
        (_not_a_tar, "is not a tar archive"),
        (_no_labels, "has neither"),
        (_no_classes, "has neither"),
        (_too_few_labels, "41 labels for 42 validation images"),
        (_missing_synset, "have no training image"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(
    source: Path, tmp_path: Path, spoil, told: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    spoil(folder)
    with pytest.raises(PipelineError) as raised:
        open_source(folder)
    assert re.search(told, raised.value.problem), raised.value.problem
    assert raised.value.fix


def test_an_archive_inside_the_class_list_of_another_set(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    with tarfile.open(folder / TRAIN_ARCHIVE, "a") as archive:
        add(archive, "n00000001.tar", tar_of([("n00000001_1.JPEG", b"x")]))
    with pytest.raises(PipelineError, match="class list lacks"):
        open_source(folder)
