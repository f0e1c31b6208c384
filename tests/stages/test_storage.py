"""A local folder and an object store answer alike, and nothing leads out of them."""

import gzip
import os
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.errors import PipelineError
from stages.storage import Folder, open_folder
from tests.conftest import tar_of


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder on a disk, and one behind fsspec."""
    if request.param == "disk":
        return open_folder(tmp_path / "data")
    return open_folder(f"memory://{tmp_path}")


def test_what_was_written_is_listed_and_read(folder: Folder) -> None:
    assert folder.list() == {}
    assert folder.children() == ()
    folder.write_atomic("b.txt", b"0123456789")
    folder.write_atomic("a/c/d.txt", [b"x", b"yz"])
    assert list(folder.list().items()) == [("a/c/d.txt", 3), ("b.txt", 10)]
    assert folder.list("a") == {"a/c/d.txt": 3}
    assert folder.children() == ("a/", "b.txt")
    assert folder.children("a/c") == ("d.txt",)
    assert folder.size("b.txt") == 10
    assert folder.read("b.txt") == b"0123456789"
    assert folder.read("b.txt", 7) == b"789"
    assert folder.read("b.txt", 3, 4) == b"3456"
    assert folder.exists("b.txt")
    assert not folder.exists("a")
    folder.remove("b.txt")
    folder.remove("b.txt")
    assert folder.list() == {"a/c/d.txt": 3}


def test_a_tar_is_read_member_by_member(folder: Folder) -> None:
    folder.write_atomic("x.tar", tar_of([("one", b"1" * 700), ("two", b"22")]))
    with folder.open_input("x.tar") as file, tarfile.open(fileobj=file) as tar:
        members = tar.getmembers()
    spans = [folder.read("x.tar", member.offset_data, member.size) for member in members]
    assert spans == [b"1" * 700, b"22"]


def test_a_span_beyond_the_end_is_an_error(folder: Folder) -> None:
    folder.write_atomic("x", b"0123456789")
    with pytest.raises(PipelineError, match="ends before byte 12"):
        folder.read("x", 8, 4)


def test_a_suffix_changes_nothing(folder: Folder) -> None:
    """Arrow's streams compress by suffix; a downloaded .gz would come back compressed twice."""
    packed = gzip.compress(b"0123456789")
    for name in ("x.gz", "x.zst", "x.bz2", "x.lz4"):
        folder.write_atomic(name, packed)
        assert folder.read(name) == packed
        assert folder.size(name) == len(packed)


def breaks() -> Iterator[bytes]:
    yield b"01234"
    raise ConnectionError("the other side is gone")


def test_a_write_that_breaks_leaves_nothing(folder: Folder) -> None:
    with pytest.raises(PipelineError, match="cannot be read or written"):
        folder.write_atomic("x", breaks())
    assert folder.list() == {}
    if folder.path is not None:
        assert os.listdir(folder.path) == []


def test_files_of_file_managers_are_not_seen(folder: Folder) -> None:
    for name in (".DS_Store", "a/._x.jpg", ".cache/x.jpg", "a/x.jpg"):
        folder.write_atomic(name, b"x")
    assert folder.list() == {"a/x.jpg": 1}
    assert folder.children() == ("a/",)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\0b"])
def test_names_do_not_lead_out(folder: Folder, name: str) -> None:
    for use in (folder.read, folder.size, folder.exists, folder.remove, folder.open_input):
        with pytest.raises(PipelineError, match="leads out of"):
            use(name)
    with pytest.raises(PipelineError, match="leads out of"):
        folder.write_atomic(name, b"x")


def test_links_are_followed_at_the_top_only(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "class").mkdir(parents=True)
    (tmp_path / "elsewhere" / "class" / "x.jpg").write_bytes(b"x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(tmp_path / "elsewhere")
    assert open_folder(tmp_path / "data").list() == {"train/class/x.jpg": 1}
    (tmp_path / "elsewhere" / "class" / "y.jpg").symlink_to("/etc/passwd")
    with pytest.raises(PipelineError, match=r"y\.jpg is a link") as raised:
        open_folder(tmp_path / "data").list()
    assert "cp -rL" in raised.value.fix


def test_a_missing_file_and_an_unknown_scheme_are_told_with_a_remedy(folder: Folder) -> None:
    for use in (folder.read, folder.size, folder.open_input):
        with pytest.raises(PipelineError, match="cannot be read") as raised:
            use("missing")
        assert raised.value.fix
    with pytest.raises(PipelineError, match="nosuch:// cannot be opened"):
        open_folder("nosuch://bucket/x")


def test_credentials_are_never_shown() -> None:
    folder = Folder("s3://key:secret@bucket/sets/mini?endpoint_override=localhost:1")
    assert str(folder) == "s3://bucket/sets/mini"
    assert folder.name == "mini"
    assert "secret" not in repr(folder)


def test_a_pickled_folder_reads_the_same(folder: Folder) -> None:
    folder.write_atomic("x", b"0123456789")
    folder.read("x", 0, 1)
    assert pickle.loads(pickle.dumps(folder)).read("x", 3, 4) == b"3456"  # noqa: S301 - our own
