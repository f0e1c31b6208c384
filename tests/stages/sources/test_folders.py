"""One folder per class, as folders or in one tar."""

import shutil
from pathlib import Path

import pytest

from stages.dataset import ImageClass
from stages.sources import CLASSES, check_source, open_source
from tests.conftest import tar_of
from tests.stages.sources.originals import (
    SPLITS,
    Originals,
    contents,
    expected,
    refused,
    refused_at_once,
)


def _write(root: Path, originals: Originals, val: str = "val") -> None:
    for image in originals.images:
        folder = root / {"train": "train", "val": val}[image.split] / image.synset
        folder.mkdir(parents=True, exist_ok=True)
        (folder / image.name).write_bytes(image.data)


@pytest.fixture
def root(originals: Originals, tmp_path: Path) -> Path:
    _write(tmp_path / "set", originals)
    return tmp_path / "set"


@pytest.mark.parametrize("val", ["val", "validation", "valid", "test"])
def test_bytes_and_labels(originals: Originals, tmp_path: Path, val: str) -> None:
    _write(tmp_path / "set", originals, val)
    check_source(tmp_path / "set")
    found = open_source(tmp_path / "set")
    assert contents(found) == expected(originals)
    assert {i.name for i in found.images} == {i.name for i in originals.images}
    assert {i.origin for i in found.images if i.split == "val"} == {
        f"{val}/{i.synset}/{i.name}" for i in originals.of("val")
    }


def test_one_tar_of_folders(originals: Originals, tmp_path: Path) -> None:
    names = {"train": "./train", "val": "./test"}  # as `tar -cf x.tar .` names them
    files = [(f"{names[i.split]}/{i.synset}/{i.name}", i.data) for i in originals.images]
    (tmp_path / "set.tar").write_bytes(tar_of(files))
    check_source(tmp_path)
    assert contents(open_source(tmp_path)) == expected(originals)


def test_files_of_the_same_name_in_several_classes(originals: Originals, tmp_path: Path) -> None:
    data = originals.images[0].data
    for split in SPLITS:
        for name in ("zebra", "polar bear", "Bär"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "0001.jpg").write_bytes(data)
            (tmp_path / split / name / "a.photo of it.PNG").write_bytes(data)
    found = open_source(tmp_path)
    assert [item.synset for item in found.classes] == ["Bär", "polar bear", "zebra"]
    assert found.classes[0] == ImageClass("Bär", None, "Bär")
    keys = [image.key for image in found.images if image.split == "train"]
    assert len(set(keys)) == 6
    assert "zebra_0001" in keys
    assert all(key.isascii() and key.replace("-", "_").replace("_", "").isalnum() for key in keys)


def test_a_class_list_beside_the_folders_names_the_classes(
    root: Path, source: Path, originals: Originals
) -> None:
    assert open_source(root).classes[0].words == originals.synsets[0]
    shutil.copy(source / CLASSES, root)
    assert {i.synset: i.words for i in open_source(root).classes} == originals.words
    assert all(item.ilsvrc_id for item in open_source(root).classes)


def test_imagenette_mixes_what_ilsvrc_called_train_into_val(
    originals: Originals, tmp_path: Path
) -> None:
    moved = next(originals.of("train"))
    _write(tmp_path, originals)
    (tmp_path / "noisy_imagenette.csv").write_text("path,noisy_labels_0\n")
    path = tmp_path / "train" / moved.synset / moved.name
    path.rename(tmp_path / "val" / moved.synset / moved.name)
    (image,) = [image for image in open_source(tmp_path).images if image.name == moved.name]
    assert (image.split, image.synset) == ("val", moved.synset)


def test_the_shared_cifar_subset(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "cifar10-mini.tar").symlink_to(shared_data / "small-sets" / "cifar10-mini.tar")
    found = open_source(tmp_path)
    assert [item.synset for item in found.classes][:3] == ["airplane", "automobile", "bird"]
    assert sum(image.split == "train" for image in found.images) == 3000
    assert sum(image.split == "val" for image in found.images) == 600
    assert found.images[0].read()[:2] == b"\xff\xd8"


def test_a_flat_validation_folder_is_refused(root: Path) -> None:
    for path in list((root / "val").iterdir()):
        for image in path.iterdir():
            image.rename(root / "val" / image.name)
        path.rmdir()
    refused_at_once(root, r"val is flat: it holds 'ILSVRC2012_val_", r"valprep\.sh")


def test_a_loose_file_among_class_folders_is_refused(root: Path) -> None:
    (root / "train" / "extra.JPEG").write_bytes(b"x")
    refused_at_once(root, r"holds 'extra\.JPEG' beside its class folders", "move the file")


def test_a_missing_split_is_refused(root: Path) -> None:
    shutil.rmtree(root / "val")
    refused_at_once(root, "has no val/ folder", "train/CLASS/IMAGE")


def test_an_emptied_class_is_refused(root: Path) -> None:
    folder = next((root / "train").iterdir())
    shutil.rmtree(folder)
    folder.mkdir()
    refused(root, f"{folder.name}/ is empty", "get other numbers")


def test_a_class_that_only_val_has_is_refused(root: Path) -> None:
    folder = next((root / "val").iterdir())
    folder.rename(root / "val" / "n99999999")
    refused(
        root, "have no training image, first n99999999", "both splits belong to the same data set"
    )


def test_what_is_no_image_is_refused(root: Path) -> None:
    (next((root / "train").iterdir()) / "Thumbs.db").write_bytes(b"x")
    refused(root, r"Thumbs\.db', which is not named as an image", "remove it")


def test_folders_in_a_class_are_refused(root: Path) -> None:
    folder = next((root / "train").iterdir()) / "images"
    folder.mkdir()
    (folder / "x.JPEG").write_bytes(b"x")
    refused(root, r"images/x\.JPEG', which is not SPLIT/CLASS/IMAGE", "move images")


def test_two_images_of_one_name_are_refused(root: Path) -> None:
    folder = next((root / "train").iterdir())
    (folder / "x.jpg").write_bytes(b"x")
    (folder / "x.png").write_bytes(b"x")
    refused(root, "has two train images called", "rename")


def test_a_link_out_of_the_folder_is_refused(root: Path) -> None:
    (next((root / "train").iterdir()) / "x.jpg").symlink_to("/etc/passwd")
    refused(root, r"x\.jpg is a link", "cp -rL")


def test_names_that_lead_out_of_a_tar_are_refused(originals: Originals, tmp_path: Path) -> None:
    files = [("train/a/x.jpg", b"x"), ("train/../../x.jpg", b"x"), ("val/a/x.jpg", b"x")]
    (tmp_path / "set.tar").write_bytes(tar_of(files))
    refused(tmp_path, "which is not SPLIT/CLASS/IMAGE", "move images")


def test_a_truncated_tar_is_refused(originals: Originals, tmp_path: Path) -> None:
    files = [(f"{i.split}/{i.synset}/{i.name}", i.data) for i in originals.images]
    data = tar_of(files)
    (tmp_path / "set.tar").write_bytes(data[: len(data) // 2])
    refused(tmp_path, "truncated", "fetch it again")
    (tmp_path / "set.tar").write_bytes(data[:700])
    refused(tmp_path, "truncated", "fetch it again")
    (tmp_path / "set.tar").write_bytes(tar_of([("notes/x.txt", b"x")]))
    refused_at_once(tmp_path, "begins with 'notes/x.txt'", "tar -cf NAME.tar train val")


def test_a_web_page_under_a_tars_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_text("<!DOCTYPE html><html>please log in</html>")
    refused_at_once(tmp_path, "is a web page, not a tar archive", "log in, and fetch it again")
