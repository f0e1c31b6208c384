"""CIFAR-10 and CIFAR-100, binary version."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.dataset import read_info
from stages.shard import shard
from stages.sources import check_source, open_source
from tests.stages.sources.originals import refused, refused_at_once

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
RECORD = np.dtype([("label", np.uint8), ("pixels", np.uint8, (3, 32, 32))])


def _records(seed: int, count: int) -> np.ndarray:
    records = np.zeros(count, RECORD)
    records["label"] = np.arange(count) % 10
    records["pixels"] = np.random.default_rng(seed).integers(256, size=(count, 3, 32, 32))
    return records


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cifar-10-batches-bin"
    root.mkdir()
    (root / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    (root / "readme.html").write_text("<html></html>")
    for number in range(1, 6):
        _records(number, 20).tofile(root / f"data_batch_{number}.bin")
    _records(6, 20).tofile(root / "test_batch.bin")
    return root


def test_pixels_and_labels(root: Path) -> None:
    check_source(root)
    found = open_source(root)
    assert [item.synset for item in found.classes] == NAMES
    assert found.classes[0].ilsvrc_id is None
    train = np.concatenate([_records(number, 20) for number in range(1, 6)])
    for split, records in (("train", train), ("val", _records(6, 20))):
        images = [image for image in found.images if image.split == split]
        assert [image.synset for image in images] == [NAMES[i] for i in records["label"]]
        assert images[3].name == f"{split}_00003.png"
        for image, pixels in zip(images, records["pixels"], strict=True):
            data = image.read()
            assert len(data) == image.size
            with Image.open(io.BytesIO(data)) as decoded:
                assert (decoded.format, decoded.mode) == ("PNG", "RGB")
                assert np.array_equal(np.asarray(decoded), pixels.transpose(1, 2, 0))


def test_classes_without_an_ilsvrc_id_are_kept_through_sharding(root: Path, tmp_path: Path) -> None:
    found = open_source(root)
    shard(found, tmp_path / "data")
    assert read_info(tmp_path / "data").classes == found.classes


def test_cifar_100_has_a_coarse_label_before_the_fine_one(tmp_path: Path) -> None:
    names = [f"class {number:02d}".replace(" ", "_") for number in range(100)]
    (tmp_path / "fine_label_names.txt").write_text("\n".join(names))
    (tmp_path / "coarse_label_names.txt").write_text("coarse")
    record = np.dtype([("coarse", np.uint8), ("label", np.uint8), ("pixels", np.uint8, 3072)])
    records = np.zeros(100, record)
    records["label"] = np.arange(100)[::-1]
    for name in ("train.bin", "test.bin"):
        records.tofile(tmp_path / name)
    found = open_source(tmp_path)
    assert [image.synset for image in found.images if image.split == "val"] == names[::-1]


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    for name in ("batches.meta", "test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    refused_at_once(tmp_path, "pickles, which are not loaded", r"cifar-10-binary\.tar\.gz")


def test_the_python_version_of_cifar_100_is_refused(tmp_path: Path) -> None:
    for name in ("meta", "train", "test", "file.txt~"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
    refused_at_once(tmp_path, "pickles, which are not loaded", r"cifar-100-binary\.tar\.gz")


def test_a_packed_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"\x1f\x8b")
    refused_at_once(tmp_path, "not CIFAR's files themselves", "unpack the binary version")


def test_a_missing_batch_is_refused(root: Path) -> None:
    (root / "data_batch_4.bin").unlink()
    refused_at_once(root, r"has no data_batch_4\.bin", "fetch it again")


@pytest.mark.parametrize("size", [0, 3073 * 7 + 100])
def test_a_truncated_batch_is_refused(root: Path, size: int) -> None:
    path = root / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:size])
    refused(root, f"has {size:,} bytes, not a multiple", "fetch it again")


def test_a_label_without_a_class_is_refused(root: Path) -> None:
    data = bytearray((root / "test_batch.bin").read_bytes())
    data[0] = 200
    (root / "test_batch.bin").write_bytes(data)
    refused(root, "has the label 200 and there are 10 classes", "fetch it again")
