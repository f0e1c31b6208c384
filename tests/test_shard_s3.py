"""A data set in an object store, over the S3 protocol on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.dataset import read_info
from stages.errors import PipelineError
from stages.shard import shard
from stages.sources import open_source
from stages.storage import open_folder
from stages.verify import verify
from stages.workers import processes
from tests.test_shard import contents

moto = pytest.importorskip("moto.server")
pyarrow_fs = pytest.importorskip("pyarrow.fs")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket, for which `?{query}` is left to be added."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"127.0.0.1:{port}"
    pyarrow_fs.S3FileSystem(
        endpoint_override=endpoint, scheme="http", allow_bucket_creation=True
    ).create_dir("shards")
    yield f"s3://shards/data?endpoint_override={endpoint}&scheme=http"
    server.stop()


@pytest.mark.slow
def test_an_object_store_gets_the_same_bytes(source: Path, tmp_path: Path, bucket: str) -> None:
    found = open_source(source)
    shard(found, tmp_path / "data", shard_bytes=50_000)

    class StoppedError(Exception):
        pass

    def stop(what: str, done: int, of: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        shard(found, bucket, shard_bytes=50_000, progress=stop)
    folder = open_folder(bucket)
    with pytest.raises(PipelineError, match="not a finished data set"):
        read_info(folder)
    shard(found, bucket, shard_bytes=50_000, run=processes(2))
    there = {name: folder.read(name) for name in folder.list()}
    assert there == contents(tmp_path / "data")
    assert verify(bucket) == []

    folder.remove("train-000001.tar")
    (finding,) = verify(bucket, decode=False)
    assert (finding.file, finding.problem) == ("train-000001.tar", "is missing")
    shard(found, bucket, shard_bytes=50_000)
    assert {name: folder.read(name) for name in folder.list()} == there

    # And back out of it: a data set in an object store is a source, too.
    again = open_source(bucket)
    assert {(image.split, image.key) for image in again.images} == {
        (image.split, image.key) for image in found.images
    }
