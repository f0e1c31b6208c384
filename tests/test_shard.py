"""Shards hold the original bytes, plain WebDataset reads them, and they appear whole or not at all."""

import hashlib
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from stages.dataset import Dataset, is_dataset
from stages.errors import PipelineError
from stages.shard import shard
from stages.sources import CLASSES, GROUND_TRUTH, TRAIN_ARCHIVE, VAL_ARCHIVE, open_source
from tests.conftest import tar_of


def test_original_bytes_at_the_manifest_offsets(source: Path, dataset: Dataset) -> None:
    originals = {}
    for image in open_source(source).images:
        originals[image.name.removesuffix(".JPEG")] = (image.read(), image.synset)
    for split in ("train", "val"):
        samples = dataset.samples(split)
        for index, key in enumerate(samples.keys):
            data, synset = originals.pop(key)
            assert samples.read(index) == data
            assert dataset.info.classes[samples.labels[index]].synset == synset
    assert not originals


def test_plain_webdataset_reads_the_shards(dataset: Dataset) -> None:
    manifest = pq.read_table(dataset.root / "manifest.parquet").to_pylist()
    shards = sorted(
        {str(dataset.root / row["shard"]) for row in manifest if row["split"] == "train"}
    )
    assert len(shards) > 1
    read = {s["__key__"]: s for s in webdataset.WebDataset(shards, shardshuffle=False)}
    rows = [row for row in manifest if row["split"] == "train"]
    assert set(read) == {row["key"] for row in rows}
    for row in rows:
        assert hashlib.sha256(read[row["key"]]["jpg"]).hexdigest() == row["sha256"]
        assert int(read[row["key"]]["cls"]) == row["label"]


def test_labels_are_places_among_the_sorted_synsets(dataset: Dataset) -> None:
    synsets = [item.synset for item in dataset.info.classes]
    assert synsets == sorted(synsets)
    for row in pq.read_table(dataset.root / "manifest.parquet").to_pylist():
        assert synsets[row["label"]] == row["synset"]


def test_samples_are_shuffled_over_the_split(dataset: Dataset) -> None:
    labels = dataset.samples("train").labels
    assert (np.diff(labels) != 0).sum() > len(labels) / 2


def test_statistics_are_those_of_the_pixels(dataset: Dataset) -> None:
    samples = dataset.samples("train")
    images = []
    for index in range(len(samples)):
        with (dataset.root / "x.jpg").open("wb") as file:
            file.write(samples.read(index))
        images.append(np.asarray(Image.open(dataset.root / "x.jpg").convert("RGB"), np.float64))
    (dataset.root / "x.jpg").unlink()
    pixels = np.stack(images).reshape(-1, 3)
    statistics = dataset.info.statistics
    assert np.allclose(statistics.mean, pixels.mean(axis=0), atol=1e-3)
    covariance = np.cov(pixels.T, bias=True)
    vectors = np.array(statistics.eigenvectors)
    rebuilt = vectors.T @ np.diag(statistics.eigenvalues) @ vectors
    assert np.allclose(rebuilt, covariance, rtol=1e-3, atol=0.5)
    assert np.allclose(
        dataset.mean_image.transpose(1, 2, 0), np.stack(images).mean(axis=0), atol=1e-3
    )


def test_the_same_source_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert shard(open_source(source), first) == shard(open_source(source), second)
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_a_bad_image_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / CLASSES).write_text((source / CLASSES).read_text())
    with tarfile.open(source / TRAIN_ARCHIVE) as old:
        members = [(m.name, old.extractfile(m).read()) for m in old.getmembers()]
    name = members[0][0].removesuffix(".tar")
    spoilt = tar_of([(f"{name}_1.JPEG", b"<html>not an image</html>")])
    (folder / TRAIN_ARCHIVE).write_bytes(tar_of([(members[0][0], spoilt), *members[1:]]))
    for file in (VAL_ARCHIVE, GROUND_TRUTH):
        (folder / file).symlink_to(source / file)
    with pytest.raises(PipelineError, match=f"{name}_1.JPEG.*not a readable image"):
        shard(open_source(folder), tmp_path / "out" / "data")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_killed_attempt_is_swept_and_done_again(source: Path, tmp_path: Path) -> None:
    (tmp_path / ".data.partial").mkdir()
    (tmp_path / ".data.partial" / "train-000000.tar").write_bytes(b"half")
    assert not is_dataset(tmp_path / "data")
    shard(open_source(source), tmp_path / "data")
    assert is_dataset(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_too_little_room_is_said_before_writing(source: Path, tmp_path: Path) -> None:
    found = open_source(source)
    location = replace(found.images[0].location, size=1 << 60)
    huge = replace(found, images=(replace(found.images[0], location=location),))
    with pytest.raises(PipelineError, match=r"needs \d+\.\d GiB"):
        shard(huge, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_data_set_says_so(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"schema_version": 99}')
    with pytest.raises(PipelineError, match="schema version 99"):
        Dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(PipelineError, match="not a readable data set"):
        Dataset(tmp_path)
