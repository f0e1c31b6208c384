"""MNIST's idx files, plain and gzipped."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.sources import check_source, open_source
from tests.stages.sources.originals import refused, refused_at_once


def _idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


def _set(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(seed).integers(256, size=(count, 28, 28), dtype=np.uint8)
    return images, (np.arange(count)[::-1] % 10).astype(np.uint8)


TRAIN, VAL = _set(1, 30), _set(2, 20)


@pytest.fixture(params=["plain", "gzipped"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for prefix, (images, labels) in (("train", TRAIN), ("t10k", VAL)):
        for name, values in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            if request.param == "plain":
                (tmp_path / f"{prefix}-{name}").write_bytes(_idx(values))
            else:
                (tmp_path / f"{prefix}-{name}.gz").write_bytes(gzip.compress(_idx(values)))
    return tmp_path


def _decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.asarray(image)


def test_pixels_and_labels(root: Path) -> None:
    check_source(root)
    found = open_source(root)
    assert [item.synset for item in found.classes] == list("0123456789")
    for split, (pixels, labels) in (("train", TRAIN), ("val", VAL)):
        images = [image for image in found.images if image.split == split]
        assert [int(image.synset) for image in images] == labels.tolist()
        for image, values in zip(images, pixels, strict=True):
            data = image.read()
            assert len(data) == image.size
            assert np.array_equal(_decoded(data), values)


def test_the_real_test_images(shared_data: Path, tmp_path: Path) -> None:
    """The ten thousand, 9,000 of which stand in for the training images."""
    real = shared_data / "small-sets" / "mnist"
    images = gzip.decompress((real / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((real / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = np.frombuffer(images, np.uint8).reshape(-1, 28, 28)
    digits = np.frombuffer(labels, np.uint8)
    for prefix, part in (("train", slice(9000)), ("t10k", slice(9000, None))):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(_idx(pixels[part]))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(_idx(digits[part]))
    found = open_source(tmp_path).images
    assert len(found) == 10_000
    for number in (0, 4321, 8999, 9000, 9999):
        assert int(found[number].synset) == digits[number]
        assert np.array_equal(_decoded(found[number].read()), pixels[number])
    refused_at_once(real, "has no train-images-idx3-ubyte", "fetch all four files")


def _spoil(root: Path, name: str, change) -> None:
    (path,) = root.glob(f"{name}*")
    content = path.read_bytes()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(change(gzip.decompress(content))))
    else:
        path.write_bytes(change(content))


def test_truncated_pixels_are_refused(root: Path) -> None:
    _spoil(root, "train-images", lambda content: content[:-5])
    refused(root, "has 23,515 values, not 23,520", "fetch it again")


def test_another_kind_of_file_is_refused(root: Path) -> None:
    _spoil(root, "t10k-labels", lambda content: b"<html>log in</html>")
    refused(root, "is not an idx file of unsigned bytes in 1 dimensions", "fetch it again")


def test_fewer_labels_than_images_are_refused(root: Path) -> None:
    _spoil(root, "t10k-labels", lambda content: _idx(VAL[1][:-1]))
    refused(root, "has 19 labels for 20 images", "fetch it again")


def test_a_cut_gzip_file_is_refused(tmp_path: Path) -> None:
    for prefix, (images, labels) in (("train", TRAIN), ("t10k", VAL)):
        packed = gzip.compress(_idx(images))
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(packed[: len(packed) // 2])
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(labels)))
    refused(tmp_path, "is truncated or not a gzip file", "fetch it again")


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(300 << 20), compresslevel=1)
    for prefix in ("train", "t10k"):
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(bomb)
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(bomb)
    refused(tmp_path, "unpacks to more than 256 MiB", "fetch it again")
