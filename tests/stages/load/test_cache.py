"""A data set in an object store is read through a bounded folder of whole shards."""

import contextlib
import functools
import itertools
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from stages.dataset import is_dataset
from stages.errors import PipelineError
from stages.load.images import Images
from stages.load.samples import Dataset, mirror
from stages.shard import shard
from stages.sources import open_source
from stages.storage import Folder, open_folder
from stages.tasks.classification.batches import training_batches
from tests.conftest import command
from tests.stages.load.test_loader import RECIPE, assert_equal


@pytest.fixture(scope="module")
def dataset(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Of many small shards."""
    folder = tmp_path_factory.mktemp("datasets") / "slice-6"
    shard(open_source(source), folder, shard_bytes=30_000)
    return Dataset(folder)


@pytest.fixture
def remote(dataset: Dataset, bucket: str) -> Folder:
    """`dataset` in an object store."""
    folder = open_folder(bucket)
    for path in dataset.root.iterdir():
        folder.write_atomic(path.name, path.read_bytes())
    return folder


def train_bytes(dataset: Dataset) -> list[int]:
    return [one.bytes for one in dataset.info.shards if one.name.startswith("train")]


def kept(root: Path) -> int:
    sizes = 0
    for path in root.rglob("*.tar*"):
        with contextlib.suppress(FileNotFoundError):  # which went just now
            sizes += path.stat().st_size
    return sizes


def batches(dataset: Dataset, processes: int = 2, shuffle_buffer: int | None = 20):
    images = Images.to_train(dataset.samples("train"), RECIPE)
    return list(
        training_batches(
            images,
            RECIPE,
            batch_size=16,
            seed=0,
            epoch=0,
            shuffle_buffer=shuffle_buffer,
            processes=processes,
        )
    )


def fetched(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The shards that the store was asked for, in order."""
    asked = [record.getMessage() for record in caplog.records if "GET " in record.getMessage()]
    return [text.split("/data/")[1].split()[0] for text in asked if ".tar" in text]


@pytest.mark.parametrize("processes", [0, 2])
def test_batches_are_those_of_the_local_data_set(
    dataset: Dataset, remote: Folder, tmp_path: Path, monkeypatch, caplog, processes: int
) -> None:
    """There is room for three: one process that goes through the shards in order fetches each once."""
    caplog.set_level("INFO", "werkzeug")
    assert is_dataset(remote.url)
    limit = sum(sorted(train_bytes(dataset))[-3:])
    assert mirror(remote.url, tmp_path / "mirror", limit) == limit < sum(train_bytes(dataset))
    monkeypatch.setattr("stages.load.images.KEEP_DECODED", 0)
    monkeypatch.setattr("stages.load.images._PROBED", 1)
    caplog.clear()
    found = batches(Dataset(tmp_path / "mirror"), processes, shuffle_buffer=0)
    assert_equal(found, batches(dataset, processes, shuffle_buffer=0))
    assert kept(tmp_path / "mirror") <= limit
    asked = fetched(caplog)
    if processes == 0:  # of two, one may run ahead by more than there is room for
        judged = asked[0] in asked[1:]  # read to judge the size, and gone since
        assert len(asked) == len(set(asked)) + judged
    assert len(set(asked)) == len(train_bytes(dataset))


def test_the_next_shard_is_there_before_it_is_read(
    dataset: Dataset, remote: Folder, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("stages.load.images.KEEP_DECODED", 0)
    limit = 3 * max(train_bytes(dataset))
    mirror(remote.url, tmp_path / "mirror", limit)
    options = {"batch_size": 1, "seed": 0, "epoch": 0, "shuffle_buffer": 0}

    def shards(read: Dataset) -> Iterator[str]:
        samples = read.samples("train")
        for batch in training_batches(Images.to_train(samples, RECIPE), RECIPE, **options):
            yield f"train-{int(samples.shard_of[batch.indices]):06}.tar"

    order = list(dict.fromkeys(shards(dataset)))
    assert len(order) == len(train_bytes(dataset)) > 3
    following = dict(itertools.pairwise(order))
    for name in shards(Dataset(tmp_path / "mirror")):
        until = time.monotonic() + 60
        while name in following and not (tmp_path / "mirror" / following[name]).exists():
            assert time.monotonic() < until, f"{following[name]} does not come"
            time.sleep(0.01)
        assert kept(tmp_path / "mirror") <= limit


def test_with_room_for_all_the_order_is_free_and_nothing_is_fetched_twice(
    dataset: Dataset, remote: Folder, tmp_path: Path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("stages.load.images.KEEP_DECODED", 0)
    caplog.set_level("INFO", "werkzeug")
    mirror(remote.url, tmp_path / "mirror")
    expected = batches(dataset, shuffle_buffer=None)
    for _ in range(2):
        assert_equal(batches(Dataset(tmp_path / "mirror"), shuffle_buffer=None), expected)
    assert sorted(fetched(caplog)) == sorted(set(fetched(caplog)))


def test_too_little_room_for_the_order_or_for_a_shard_is_said(
    dataset: Dataset, remote: Folder, tmp_path: Path, monkeypatch
) -> None:
    largest = max(one.bytes for one in dataset.info.shards)
    mirror(remote.url, tmp_path / "mirror", largest)
    monkeypatch.setattr("stages.load.images.KEEP_DECODED", 0)
    with pytest.raises(PipelineError, match="uniformly random order") as raised:
        batches(Dataset(tmp_path / "mirror"), shuffle_buffer=None)
    assert "shuffle_buffer" in raised.value.fix
    mirror(remote.url, tmp_path / "mirror", largest - 1)
    with pytest.raises(PipelineError, match="a shard of"):
        Dataset(tmp_path / "mirror")


def read_some(root: Path, order: int) -> list[bytes]:
    samples = Dataset(root).samples("train")
    return [samples.read(index) for index in range(0, len(samples), 8)[::order]]


def test_many_processes_share_the_room(dataset: Dataset, remote: Folder, tmp_path: Path) -> None:
    """One goes through the shards forwards, another backwards, and there is room for one."""
    root = tmp_path / "mirror"
    limit = max(one.bytes for one in dataset.info.shards)
    mirror(remote.url, root, limit)
    with get_context("fork").Pool(2) as pool:  # as loader processes come about
        found = pool.map_async(functools.partial(read_some, root), [1, -1])
        while not found.ready():
            assert kept(root) <= limit
            found.wait(0.02)
    expected = read_some(dataset.root, 1)
    assert found.get() == [expected, expected[::-1]]


def test_a_shard_that_is_not_the_known_one_is_refused(
    dataset: Dataset, remote: Folder, tmp_path: Path
) -> None:
    samples = dataset.samples("train")
    name = dataset.info.shards[0].name
    content = bytearray(remote.read(name))
    content[-2000] ^= 1
    remote.write_atomic(name, bytes(content))
    mirror(remote.url, tmp_path / "mirror")
    broken = Dataset(tmp_path / "mirror").samples("train")
    with pytest.raises(PipelineError, match=f"{name} is not the shard") as raised:
        broken.read(0)
    assert "pipeline.verify" in raised.value.fix
    assert kept(tmp_path / "mirror") == 0
    remote.write_atomic(name, (dataset.root / name).read_bytes())
    assert broken.read(0) == samples.read(0)


def test_a_folder_that_somebody_left_in_the_middle(
    dataset: Dataset, remote: Folder, tmp_path: Path
) -> None:
    root = tmp_path / "mirror"
    mirror(remote.url, root)
    (root / ".train-000000.tar.ab.partial").write_bytes(b"half")
    assert Dataset(root).samples("train").read(0) == dataset.samples("train").read(0)
    assert kept(root) == dataset.info.shards[0].bytes


@pytest.mark.slow
@pytest.mark.parametrize("form", ["data set", "archives"])
def test_a_run_on_images_in_an_object_store(
    dataset: Dataset, source: Path, bucket: str, tmp_path: Path, form: str
) -> None:
    """What it measures is what a run on local images measures."""
    here = {"data set": dataset.root, "archives": source}[form]
    there = open_folder(bucket)
    for path in here.iterdir():
        there.write_atomic(path.name, path.read_bytes())
    said = []
    for where in (here, bucket):
        workspace = tmp_path / f"workspace-{len(said)}"
        done = command(
            "pipeline.run",
            *("--year", 2012, "--launcher", "inline", "--data", where, "--workspace", workspace),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said.append([line for line in done.stdout.splitlines() if line.startswith("result")])
    assert len(said[0]) > 0
    for local, remote in zip(*said, strict=True):
        assert remote.split("n=42")[1] == local.split("n=42")[1]
