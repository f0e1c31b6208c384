"""Real images for the tests, in the archive layout in which people hold ImageNet.

The project ships no data set. Where ``../shared/data`` lies beside the checkout its real ImageNet classes
are used; where it does not, the embedded images stand in, and what needs the real ones is skipped.
"""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from pyarrow.fs import FileSystem

from pipeline.papers.alexnet.recipes import TOY_RECIPE
from stages import embedded
from stages.load.samples import Dataset
from stages.shard import shard
from stages.sources import CLASSES, GROUND_TRUTH, TRAIN_ARCHIVE, VAL_ARCHIVE, open_source
from stages.tasks.classification.recipe import Classification
from tests import warm

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
CLASSES_USED, TRAIN_EACH, VAL_EACH = 6, 16, 7


# Two processes share the files of tests; a long one that comes last would leave one of them idle.
LONGEST = ("test_ray", "test_ablate", "test_train", "test_run")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real images of {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def whole_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official archives with at least six classes: real ones where they are at hand."""
    real = SHARED / "mini-imagenet-real" / "in64-100"
    if real.is_dir():
        return real
    folder = tmp_path_factory.mktemp("embedded") / "embedded-24"
    embedded.generate(folder, train_per_class=TRAIN_EACH, val_per_class=VAL_EACH)
    return folder


@pytest.fixture(scope="session")
def source(whole_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slice of `whole_source` in the same layout: 6 classes, 96 training and 42 validation images."""
    return cut(whole_source, tmp_path_factory.mktemp("sources") / "slice-6")


@pytest.fixture(scope="session")
def dataset(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """`source`, sharded into several shards a split."""
    folder = tmp_path_factory.mktemp("datasets") / "slice-6"
    shard(open_source(source), folder, shard_bytes=100_000)
    return Dataset(folder)


@pytest.fixture(scope="session")
def recipe() -> Classification:
    """The toy recipe at a size that trains in a second."""
    return replace(
        TOY_RECIPE,
        knobs={**TOY_RECIPE.knobs, "width": 0.125},
        batch_size=16,
        epochs=3,
        start_steps=1000,
    )


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL below an empty bucket of a server that speaks S3 on loopback."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"127.0.0.1:{port}"
    # All servers of a process keep what they are sent in one place, so the bucket's name must be new.
    yield new_bucket(f"shards-{uuid4()}", f"endpoint_override={endpoint}&scheme=http")
    server.stop()


def new_bucket(name: str, query: str) -> str:
    """Make a bucket; returns a URL below it."""
    filesystem, _ = FileSystem.from_uri(f"s3://{name}?{query}&allow_bucket_creation=true")
    filesystem.create_dir(name)
    return f"s3://{name}/data?{query}"


def cut(source: Path, destination: Path) -> Path:
    """Copy the first classes and images of official archives into smaller ones."""
    destination.mkdir(parents=True)
    lines = (source / CLASSES).read_text().splitlines(keepends=True)
    rows = sorted(lines[1:])[:CLASSES_USED]
    (destination / CLASSES).write_text("".join([lines[0], *rows]))
    header = lines[0].rstrip("\n").split("\t")
    numbers = {row.split("\t")[header.index("ILSVRC2012_ID")] for row in rows}
    synsets = {row.split("\t")[header.index("wnid")] for row in rows}

    with (
        tarfile.open(source / TRAIN_ARCHIVE) as old,
        tarfile.open(destination / TRAIN_ARCHIVE, "w") as new,
    ):
        for member in old:
            if member.name.removesuffix(".tar") in synsets:
                with tarfile.open(fileobj=old.extractfile(member)) as inner:
                    images = [
                        (m.name, inner.extractfile(m).read())
                        for m in inner.getmembers()[:TRAIN_EACH]
                    ]
                add(new, member.name, tar_of(images))
    truth = []
    seen: dict[str, int] = {}
    with (
        tarfile.open(source / VAL_ARCHIVE) as old,
        tarfile.open(destination / VAL_ARCHIVE, "w") as new,
    ):
        members = sorted(old.getmembers(), key=lambda member: member.name)
        for member, number in zip(
            members, (source / GROUND_TRUTH).read_text().split(), strict=True
        ):
            seen[number] = seen.get(number, 0) + 1
            if number in numbers and seen[number] <= VAL_EACH:
                truth.append(number)
                add(new, member.name, old.extractfile(member).read())
    (destination / GROUND_TRUTH).write_text("\n".join(truth) + "\n")
    return destination


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to a tar."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))


def tar_of(files: list[tuple[str, bytes]]) -> bytes:
    """A tar in memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files:
            add(tar, name, data)
    return buffer.getvalue()


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m ARGUMENTS`` as a user would, from the checkout."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    return warm.run([str(argument) for argument in arguments], ROOT, environment)
