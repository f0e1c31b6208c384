"""Parquet in the form of Hugging Face's imagenet-1k."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.dataset import ImageClass
from stages.errors import PipelineError
from stages.shard import shard
from stages.shard.verify import verify
from stages.sources import check_source, open_source
from tests.stages.sources.originals import (
    Original,
    Originals,
    contents,
    expected,
    refused,
    refused_at_once,
)

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _path(image: Original) -> str:
    return f"{image.name.removesuffix('.JPEG')}_{image.synset}.JPEG"  # as the hub's files have it


def _write(
    file: Path,
    images: Sequence[Original],
    names: Sequence[str] = (),
    path: Callable[[Original], str | None] = _path,
    label: Callable[[Original], int] = lambda image: image.label,
) -> None:
    schema = pa.schema([("image", IMAGE), ("label", pa.int64())])
    if names:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}}
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    columns = {
        "image": [{"bytes": image.data, "path": path(image)} for image in images],
        "label": [label(image) for image in images],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema), file, row_group_size=10)


def _write_both(root: Path, originals: Originals, **options) -> None:
    train = list(originals.of("train"))
    names = [originals.words[synset] for synset in originals.synsets]
    _write(root / "data" / "train-00000-of-00002-ab.parquet", train[:50], names, **options)
    _write(root / "data" / "train-00001-of-00002-ab.parquet", train[50:], names, **options)
    val = list(originals.of("val"))
    _write(root / "data" / "validation-00000-of-00001-ab.parquet", val, names, **options)


def _contents(root: Path) -> set[tuple[str, int, bytes]]:
    found = open_source(root)
    labels = {item.synset: label for label, item in enumerate(found.classes)}
    return {(image.split, labels[image.synset], image.read()) for image in found.images}


def _expected(originals: Originals) -> set[tuple[str, int, bytes]]:
    return {(image.split, image.label, image.data) for image in originals.images}


def test_bytes_labels_names_and_words(originals: Originals, tmp_path: Path) -> None:
    _write_both(tmp_path, originals)
    test = list(originals.of("val"))[:3]
    _write(tmp_path / "data" / "test-00000-of-00001.parquet", test, label=lambda image: -1)
    check_source(tmp_path)
    assert _contents(tmp_path) == _expected(originals)
    found = open_source(tmp_path)
    assert {item.synset: item.words for item in found.classes} == originals.words
    assert {i.name for i in found.images} == {i.name for i in originals.images}
    total = sum(len(image.data) for image in originals.images)
    assert total <= sum(image.size for image in found.images) < 1.5 * total


def test_rows_are_read_in_any_order(originals: Originals, tmp_path: Path) -> None:
    _write_both(tmp_path, originals)
    by_name = {image.name: image.data for image in originals.images}
    for image in reversed(open_source(tmp_path).images):
        assert image.read() == by_name[image.name]


def test_the_layout_of_converted_files(originals: Originals, tmp_path: Path) -> None:
    _write(tmp_path / "default" / "train" / "0000.parquet", list(originals.of("train")))
    _write(tmp_path / "default" / "validation" / "0000.parquet", list(originals.of("val")))
    assert _contents(tmp_path) == _expected(originals)


def test_without_synsets_the_order_is_said_to_be_unchecked(
    originals: Originals, tmp_path: Path
) -> None:
    """Also of the data set that is made of it, sharded again."""
    _write_both(tmp_path, originals, path=lambda image: None)
    found = open_source(tmp_path)
    assert "no image name tells its synset" in found.form
    words = originals.words[originals.synsets[2]]
    assert found.classes[2] == ImageClass("2", None, words)
    assert _contents(tmp_path) == _expected(originals)
    shard(found, tmp_path / "shards")
    again = open_source(tmp_path / "shards")
    assert "no image name tells its synset" in again.form
    assert again.classes == found.classes


def test_labels_in_another_order_than_the_synsets_are_refused(
    originals: Originals, tmp_path: Path
) -> None:
    last = len(originals.synsets) - 1
    _write_both(tmp_path, originals, label=lambda image: last - image.label)
    refused(tmp_path, "not in the order of sorted synsets: label 0 is", "by their places")


def test_labels_that_contradict_the_names_are_refused(originals: Originals, tmp_path: Path) -> None:
    _write_both(tmp_path, originals)
    _write(
        tmp_path / "data" / "validation-00000-of-00001-ab.parquet",
        list(originals.of("val")),
        label=lambda image: (image.label + 1) % 6,
    )
    refused(tmp_path, "have the same label", "make this set again")


def test_unlabelled_images_in_a_split_are_refused(originals: Originals, tmp_path: Path) -> None:
    _write_both(tmp_path, originals, label=lambda image: -1)
    refused(tmp_path, "has the label -1", "remove the unlabelled images")


def test_a_missing_split_is_refused(originals: Originals, tmp_path: Path) -> None:
    _write_both(tmp_path, originals)
    (tmp_path / "data" / "validation-00000-of-00001-ab.parquet").unlink()
    refused_at_once(tmp_path, "none of the val split", "fetch both splits")


def test_a_missing_part_is_refused(originals: Originals, tmp_path: Path) -> None:
    _write_both(tmp_path, originals)
    (tmp_path / "data" / "train-00001-of-00002-ab.parquet").unlink()
    refused_at_once(tmp_path, "has 1 of the 2 files of the train split", "fetch the others too")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        pq.write_table(pa.table({"jpg": [b"x"], "label": [1]}), tmp_path / f"{split}-0.parquet")
    refused(tmp_path, "has the columns jpg, label", "image .a struct of bytes and path")


def test_files_of_no_split_are_refused(originals: Originals, tmp_path: Path) -> None:
    _write(tmp_path / "images.parquet", list(originals.of("train")))
    refused_at_once(tmp_path, "says neither train nor val", "put the split into the file's name")


def test_a_truncated_file_is_refused(originals: Originals, tmp_path: Path) -> None:
    _write_both(tmp_path, originals)
    file = tmp_path / "data" / "train-00001-of-00002-ab.parquet"
    file.write_bytes(file.read_bytes()[:5000])
    refused(tmp_path, "is truncated or not a Parquet file", "fetch it again")


def test_a_row_without_bytes_is_an_error_when_read(originals: Originals, tmp_path: Path) -> None:
    _write_both(tmp_path, originals)
    image = pa.array([{"bytes": None, "path": "x.JPEG"}], IMAGE)
    pq.write_table(pa.table({"image": image, "label": [0]}), tmp_path / "data" / "train-x.parquet")
    image = next(image for image in open_source(tmp_path).images if image.key == "x")
    with pytest.raises(PipelineError, match="no image bytes, only a path"):
        image.read()


def test_shuffled_shards_read_each_row_group_once(originals: Originals, tmp_path: Path) -> None:
    """15 row groups of ten images: read for each image they would come to ten times the source."""
    _write_both(tmp_path / "source", originals)
    size = sum(path.stat().st_size for path in (tmp_path / "source").rglob("*.parquet"))
    found = open_source(tmp_path / "source")
    before = _bytes_read()
    shard(found, tmp_path / "data", shard_bytes=50_000)
    assert _bytes_read() - before < 5 * size  # source, copies, and shards for the pixel statistics
    assert verify(tmp_path / "data") == []
    again = open_source(tmp_path / "data")
    assert contents(again) == expected(originals)
    rows = pq.read_table(tmp_path / "data" / "manifest.parquet", columns=["source"])
    assert all(".parquet:" in name for name in rows["source"].to_pylist())


def test_a_missing_shard_reads_each_row_group_once(originals: Originals, tmp_path: Path) -> None:
    _write_both(tmp_path / "source", originals)
    size = sum(path.stat().st_size for path in (tmp_path / "source").rglob("*.parquet"))
    found = open_source(tmp_path / "source")
    shard(found, tmp_path / "data")
    shards = sorted((tmp_path / "data").glob("*.tar"))
    whole = {path.name: path.read_bytes() for path in shards}
    # One after the other: what was copied for a shard is not taken for another's.
    for path in shards:
        path.unlink()
        before = _bytes_read()
        shard(found, tmp_path / "data")
        assert _bytes_read() - before < 3 * size  # source and copies
        assert path.read_bytes() == whole[path.name]
    assert verify(tmp_path / "data") == []


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])
