"""Data sets that an earlier version wrote are read as they are, and keep their identity."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.augmentation import Augmentation
from stages.dataset import read_info
from stages.errors import PipelineError
from stages.load.images import Images
from stages.load.samples import Dataset
from stages.shard import shard
from stages.shard.verify import verify
from stages.sources import Source, check_source, open_source
from stages.tasks.classification.batches import training_batches
from tests.stages.load.test_loader import assert_equal

BOX = pa.struct([(side, pa.float32()) for side in ("xmin", "ymin", "xmax", "ymax")])
# As it was written, in its order.
SCHEMA_2 = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("label", pa.int32()),
        ("synset", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("boxes", pa.list_(BOX)),
        ("fate", pa.string()),
        ("flags", pa.list_(pa.string())),
        ("source", pa.string()),
        ("sha256", pa.string()),
        ("original_sha256", pa.string()),
    ]
)


def plan_2(found: Source, root: Path) -> str:
    """The identity of a plan as it was computed."""
    images = {(image.split, image.key): image for image in found.images}
    digest = hashlib.sha256(b"2 None False\n")
    for row in pq.read_table(root / "manifest.parquet").to_pylist():
        image = images[row["split"], row["key"]]
        boxes = tuple(image.boxes)
        line = f"{row['shard']} {row['key']} {row['label']} {image.size} {boxes}\n"
        digest.update(line.encode())
    return digest.hexdigest()[:12]


def write_as_schema_2(found: Source, root: Path) -> None:
    """Make a data set folder what the earlier version would have made of the same source."""
    plan = plan_2(found, root)
    rows = pq.read_table(root / "manifest.parquet").to_pylist()
    for row in rows:
        objects = row.pop("objects")
        row["boxes"] = [{side.name: found[side.name] for side in BOX} for found in objects]
        row["flags"] = [flag for flag in row["flags"] if not flag.startswith("box-")]
        del row["captions"]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA_2), root / "manifest.parquet")
    info = json.loads((root / "dataset.json").read_text())
    del info["labelled"]
    info["flags"] = {k: v for k, v in info["flags"].items() if not k.startswith("box-")}
    content = (root / "manifest.parquet").read_bytes()
    info |= {
        "schema_version": 2,
        "plan": plan,
        "manifest_sha256": hashlib.sha256(content).hexdigest(),
    }
    (root / "dataset.json").write_text(json.dumps(info, indent=1) + "\n")


@pytest.fixture(scope="module")
def boxed(source: Path, whole_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`source` with the boxes that belong to it."""
    folder = tmp_path_factory.mktemp("sources") / "boxed"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)
    for split in ("train", "val"):
        name = f"ILSVRC2012_bbox_{split}.tar.gz"
        (folder / name).symlink_to(whole_source / name)
    return folder


@pytest.fixture
def old(boxed: Path, tmp_path: Path) -> Path:
    found = open_source(boxed)
    shard(found, tmp_path / "old", shard_bytes=100_000)
    write_as_schema_2(found, tmp_path / "old")
    return tmp_path / "old"


def test_an_old_data_set_is_read_as_it_is(boxed: Path, old: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    new = shard(open_source(boxed), tmp_path / "new", shard_bytes=100_000)
    info = read_info(old)
    assert (info.schema_version, info.labelled) == (2, True)
    assert (info.digest, info.classes, info.shards) == (new.digest, new.classes, new.shards)
    check_source(old)
    for split in ("train", "val"):
        samples, expected = (Dataset(root).samples(split) for root in (old, tmp_path / "new"))
        assert samples.keys == expected.keys
        assert (samples.labels == expected.labels).all()
        assert (samples.sizes == expected.sizes).all()
        assert samples.read(3) == expected.read(3)
        for objects, theirs in zip(samples.objects, expected.objects, strict=True):
            assert objects.labels.tolist() == theirs.labels.tolist()
            assert objects.boxes.tolist() == theirs.boxes.tolist()
            assert not objects.difficult.any()
        assert (samples.objects.every.labels == samples.labels).all()
        assert samples.captions == [[]] * len(samples)
    assert verify(old) == []
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before


def test_an_old_data_set_makes_the_same_batches(boxed: Path, old: Path, tmp_path: Path) -> None:
    shard(open_source(boxed), tmp_path / "new", shard_bytes=100_000)
    recipe = Augmentation(resize=72, crop=64)

    def batches(root: Path) -> list:
        images = Images.to_train(Dataset(root).samples("train"), recipe)
        return list(training_batches(images, recipe, batch_size=16, seed=0, epoch=0))

    assert_equal(batches(old), batches(tmp_path / "new"))


def test_the_command_that_made_an_old_data_set_still_finishes_and_mends_it(
    boxed: Path, old: Path
) -> None:
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    found = open_source(boxed)
    assert shard(found, old, shard_bytes=100_000) == read_info(old)
    (old / "train-000001.tar").unlink()
    assert shard(found, old, shard_bytes=100_000).schema_version == 2
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    with pytest.raises(PipelineError, match="made with other options"):
        shard(found, old, shard_bytes=90_000)


def test_an_old_data_set_that_was_not_finished_is_begun_again(boxed: Path, tmp_path: Path) -> None:
    found = open_source(boxed)
    expected = shard(found, tmp_path / "whole", shard_bytes=100_000)
    (tmp_path / "data" / "_work").mkdir(parents=True)
    (tmp_path / "data" / "_work" / "plan").write_text(plan_2(found, tmp_path / "whole"))
    (tmp_path / "data" / "_work" / "train-000000.tar.jsonl").write_text('{}\n{"boxes": []}\n')
    (tmp_path / "data" / "train-000000.tar").write_bytes(b"of the earlier version")
    assert shard(found, tmp_path / "data", shard_bytes=100_000) == expected
    assert verify(tmp_path / "data") == []


def test_an_old_data_set_sharded_again_is_the_same(old: Path, tmp_path: Path) -> None:
    again = shard(open_source(old), tmp_path / "again")
    assert (again.schema_version, again.digest) == (3, read_info(old).digest)
    assert len(Dataset(tmp_path / "again").samples("val").objects.every) == 42


def test_an_even_older_manifest_has_no_boxes(old: Path) -> None:
    table = pq.read_table(old / "manifest.parquet").drop_columns("boxes")
    pq.write_table(table, old / "manifest.parquet")
    assert not any(map(len, Dataset(old).samples("train").objects))
    assert not any(image.objects for image in open_source(old).images)


@pytest.mark.parametrize("version", [1, 4, None, "3"])
def test_an_unknown_schema_is_refused(old: Path, version: object) -> None:
    info = json.loads((old / "dataset.json").read_text())
    (old / "dataset.json").write_text(json.dumps({**info, "schema_version": version}))
    with pytest.raises(PipelineError, match="has schema version") as raised:
        read_info(old)
    assert "2 to 3" in raised.value.problem


def test_only_what_is_asked_for_is_read(dataset: Dataset, monkeypatch) -> None:
    read = []
    whole = pq.read_table

    def spy(source: object, *, columns: list[str], **options: object) -> pa.Table:
        read.append(set(columns))
        return whole(source, columns=columns, **options)

    monkeypatch.setattr(pq, "read_table", spy)
    samples = dataset.samples("train")
    assert samples.labels.shape == samples.short_sides.shape == (96,)
    assert not read[0] & {"objects", "captions"}
    assert len(samples.captions) == len(samples.objects) == 96
    assert len(samples.objects) == 96
    assert read[1:] == [{"captions"}, {"objects"}]
    with pytest.raises(IndexError):
        samples.objects[96]
