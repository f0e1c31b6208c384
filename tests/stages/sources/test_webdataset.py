"""WebDataset shards, as timm and as others write them."""

import json
import pickle
from pathlib import Path

import pytest
import webdataset

from stages.sources import check_source, open_source
from tests.conftest import tar_of
from tests.stages.sources.originals import (
    SPLITS,
    Original,
    Originals,
    contents,
    expected,
    refused,
    refused_at_once,
)


def _parts(originals: Originals) -> dict[str, list[Original]]:
    """Shards by the names that timm's imagenet-1k-wds has."""
    train, val = list(originals.of("train")), list(originals.of("val"))
    return {
        "imagenet1k-train-0000.tar": train[:40],
        "imagenet1k-train-0001.tar": train[40:],
        "imagenet1k-validation-00.tar": val,
    }


def _write(root: Path, originals: Originals) -> None:
    for name, images in _parts(originals).items():
        with webdataset.TarWriter(str(root / name)) as writer:
            for image in images:
                key = image.name.removesuffix(".JPEG")
                sample = {"jpg": image.data, "cls": image.label}
                writer.write({"__key__": key, **sample, "json": {"filename": image.name}})


def _write_info(root: Path, originals: Originals) -> None:
    splits: dict[str, dict] = {}
    for name, images in _parts(originals).items():
        split = name.split("-")[1]
        value = splits.setdefault(
            split, {"name": split, "num_samples": 0, "filenames": [], "shard_lengths": []}
        )
        value["num_samples"] += len(images)
        value["filenames"].append(name)
        value["shard_lengths"].append(len(images))
    (root / "_info.json").write_text(json.dumps({"splits": splits}))


@pytest.mark.parametrize("info", [True, False])
def test_bytes_and_labels(originals: Originals, tmp_path: Path, info: bool) -> None:
    _write(tmp_path, originals)
    if info:
        _write_info(tmp_path, originals)
    check_source(tmp_path)
    found = open_source(tmp_path)
    assert contents(found) == expected(originals)
    assert tuple(item.synset for item in found.classes) == originals.synsets
    assert {image.key for image in found.images} == {
        image.name.removesuffix(".JPEG") for image in originals.images
    }


def _write_files(root: Path, train: list[tuple[str, bytes]], val: list[tuple[str, bytes]]) -> None:
    (root / "train-000000.tar").write_bytes(tar_of(train))
    (root / "val-000000.tar").write_bytes(tar_of(val))


def test_labels_in_json_under_unknown_names(originals: Originals, tmp_path: Path) -> None:
    files: dict[str, list[tuple[str, bytes]]] = {"train": [], "val": []}
    for number, image in enumerate(originals.images):
        files[image.split] += [
            (f"part/{number:06d}.jpeg", image.data),
            (f"part/{number:06d}.json", json.dumps({"label": image.label}).encode()),
        ]
    _write_files(tmp_path, files["train"], files["val"])
    found = open_source(tmp_path)
    assert contents(found) == expected(originals)
    assert "no image name tells its synset" in found.form
    assert [item.synset for item in found.classes] == list("012345")


class _Bomb:
    def __reduce__(self) -> tuple:
        return (Path("/tmp/a-pickle-was-loaded").touch, ())


def test_no_pickle_is_loaded(originals: Originals, tmp_path: Path) -> None:
    Path("/tmp/a-pickle-was-loaded").unlink(missing_ok=True)
    bomb = pickle.dumps(_Bomb())
    files = [("a.jpg", originals.images[0].data), ("a.cls", b"0"), ("a.pyd", bomb), ("a.pth", bomb)]
    _write_files(tmp_path, files, files)
    assert len(open_source(tmp_path).images) == 2
    files[1] = ("a.cls", bomb)
    _write_files(tmp_path, files, files)
    refused(tmp_path, r"'a\.cls' in .* is not a label but", "whose .cls is a number")
    assert not Path("/tmp/a-pickle-was-loaded").exists()


def test_labels_in_another_order_than_the_synsets_are_refused(tmp_path: Path) -> None:
    """The devkit's numbers taken for labels: n01440764 is ILSVRC2012_ID 449, n02119789 is 1."""
    files = [("n01440764_1.jpg", b"x"), ("n01440764_1.cls", b"448")]
    files += [("n02119789_1.jpg", b"x"), ("n02119789_1.cls", b"0")]
    _write_files(tmp_path, files, files)
    refused(tmp_path, "not in the order of sorted synsets", "by their places")


def test_a_missing_shard_is_refused(originals: Originals, tmp_path: Path) -> None:
    _write(tmp_path, originals)
    _write_info(tmp_path, originals)
    (tmp_path / "imagenet1k-train-0001.tar").unlink()
    refused_at_once(tmp_path, "lacks 1 of 2 train shards", "fetch them too")


def test_a_missing_split_is_refused(originals: Originals, tmp_path: Path) -> None:
    _write(tmp_path, originals)
    (tmp_path / "imagenet1k-validation-00.tar").unlink()
    refused_at_once(tmp_path, "none of the val split", "fetch both splits")


def test_fewer_samples_than_promised_are_refused(originals: Originals, tmp_path: Path) -> None:
    _write(tmp_path, originals)
    _write_info(tmp_path, originals)
    info = json.loads((tmp_path / "_info.json").read_text())
    info["splits"]["train"]["shard_lengths"][0] = 41
    (tmp_path / "_info.json").write_text(json.dumps(info))
    refused(tmp_path, "holds 40 samples, not 41", "fetch it again")


@pytest.mark.parametrize(
    "name", ["../outside.tar", "/etc/passwd", "pipe:touch /tmp/x", "http://x/y"]
)
def test_shards_elsewhere_are_refused(originals: Originals, tmp_path: Path, name: str) -> None:
    _write(tmp_path, originals)
    splits = {s: {"filenames": [name], "shard_lengths": [1]} for s in SPLITS}
    (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    refused_at_once(tmp_path, "leads out of|lacks 1 of 1 train shards", "")


def test_a_truncated_shard_is_refused(originals: Originals, tmp_path: Path) -> None:
    _write(tmp_path, originals)
    path = tmp_path / "imagenet1k-train-0000.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(tmp_path, "truncated", "fetch it again")


def test_a_web_page_is_refused(originals: Originals, tmp_path: Path) -> None:
    _write(tmp_path, originals)
    (tmp_path / "imagenet1k-train-0000.tar").write_text("<html>log in</html>")
    refused(tmp_path, "is a web page", "log in")


def test_samples_without_image_or_label_are_refused(tmp_path: Path) -> None:
    files = [("a.jpg", b"x")]
    _write_files(tmp_path, files, files)
    refused(tmp_path, "sample 'a' .* has no label", ".cls or .json")
    files = [("a.cls", b"1")]
    _write_files(tmp_path, files, files)
    refused(tmp_path, "has no image, only cls", "whose samples have .jpg")


def test_a_sample_twice_is_refused(tmp_path: Path) -> None:
    files = [("a.jpg", b"x"), ("a.cls", b"0"), ("a.jpg", b"y"), ("a.cls", b"1")]
    _write_files(tmp_path, files, files)
    refused(tmp_path, r"holds 'a\.jpg' twice", "fetch it again")


def test_names_are_only_names(originals: Originals, tmp_path: Path) -> None:
    """A member called ../../x becomes no path: the sample's name holds neither dot nor slash."""
    files = [("../../x.jpg", originals.images[0].data), ("../../x.cls", b"0")]
    _write_files(tmp_path, files, files)
    assert {image.name for image in open_source(tmp_path).images} == {"x.jpg"}
