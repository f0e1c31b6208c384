"""A data set in an object store, over the S3 protocol on loopback."""

from pathlib import Path

import pytest

from stages.dataset import read_info
from stages.errors import PipelineError
from stages.parallel import processes
from stages.shard import shard
from stages.shard.verify import verify
from stages.sources import open_source
from stages.storage import open_folder
from tests.conftest import command, new_bucket
from tests.stages.shard.test_shard import contents


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
    shard(found, bucket, shard_bytes=50_000, pmap=processes(2))
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


def test_the_commands_take_urls(source: Path, tmp_path: Path, bucket: str) -> None:
    images = bucket.replace("/data?", "/images?")
    for path in source.iterdir():
        open_folder(images).write_atomic(path.name, path.read_bytes())
    for module, arguments in (("shard", (images, bucket)), ("verify", (bucket,))):
        done = command(f"pipeline.{module}", *arguments, "--workers", 1)
        assert done.returncode == 0, done.stderr
        assert "endpoint_override" not in done.stdout  # where credentials may stand, too
    found = open_source(source)
    assert read_info(open_folder(bucket)).digest == shard(found, tmp_path / "data").digest


def test_a_store_that_keeps_something_else_is_found_out(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of unsigned requests this server stores the framing along with the content."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    folder = open_folder(new_bucket("for-anyone", bucket.split("?")[1]))
    with pytest.raises(PipelineError, match="of x, but 10 were sent") as raised:
        folder.write_atomic("x", b"0123456789")
    assert "AWS_REQUEST_CHECKSUM_CALCULATION" in raised.value.fix
    assert not folder.exists("x")
