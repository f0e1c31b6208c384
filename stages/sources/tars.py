"""Reading tars that others made: in place, whole or not at all, regular files only."""

import contextlib
import re
import tarfile
from collections.abc import Iterator
from typing import IO

from stages.errors import PipelineError
from stages.sources.source import FETCH_AGAIN
from stages.storage import Folder

# More tars than this in a folder are shards, and not a set as it was downloaded.
_MOST_DOWNLOADED = 8


class OneFile(Folder):
    """A file on its own, seen as a folder that holds nothing else."""

    def __init__(self, url: str, only: str) -> None:
        super().__init__(url)
        self._only = only

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self._only.rsplit(".", 1)[0]

    def children(self, under: str = "") -> tuple[str, ...]:
        """The file."""
        return () if under else (self._only,)

    def list(self, under: str = "") -> dict[str, int]:
        """The file and its size."""
        return {} if under else {self._only: self.size(self._only)}

    def exists(self, name: str) -> bool:
        """Whether it is the file's name."""
        return name == self._only and super().exists(name)


def tars_that_begin_with(folder: Folder, path: re.Pattern[str]) -> list[str]:
    """The tars in a folder whose first file has a path that begins in this way.

    A tar that cannot be read begins with nothing: its fault is reported when it is opened.
    """
    names = [name for name in folder.children() if name.endswith(".tar")]
    if len(names) > _MOST_DOWNLOADED:
        return []
    return [name for name in names if path.match(first_file(folder, name))]


def first_file(folder: Folder, name: str) -> str:
    """The path of a tar's first file; empty where there is none, or it cannot be read."""
    try:
        with open_tar(folder, name) as archive:
            first = next((member.name for member in archive if member.isreg()), "")
    except PipelineError:
        return ""
    return first.removeprefix("./")


@contextlib.contextmanager
def open_tar(folder: Folder, name: str) -> Iterator[tarfile.TarFile]:
    """An uncompressed tar of a folder.

    Raises:
        PipelineError: it is empty or no tar; a web page saved under its name is named as such.
    """
    with folder.open_input(name) as file:
        start = file.read(512)
        if not start:
            raise PipelineError(f"{folder}/{name} is empty", FETCH_AGAIN)
        if start.lstrip()[:1] == b"<":
            raise PipelineError(
                f"{folder}/{name} is a web page, not a tar archive",
                "the download was answered by a login or error page: log in, and fetch it again",
            )
        file.seek(0)
        with _tar(file, f"{folder}/{name}") as archive:
            yield archive


@contextlib.contextmanager
def open_inner(
    outer: tarfile.TarFile, member: tarfile.TarInfo, where: str
) -> Iterator[tarfile.TarFile]:
    """A tar within a tar, in place.

    Raises:
        PipelineError: it is damaged.
    """
    file = outer.extractfile(member)
    assert file is not None  # `files` yields regular files only
    with file, _tar(file, f"{member.name} in {where}") as archive:
        yield archive


def files(archive: tarfile.TarFile, where: str) -> list[tarfile.TarInfo]:
    """The regular files of a tar, having checked that the tar is whole and not empty.

    Raises:
        PipelineError: it is truncated or empty, or holds something else than files and folders.
    """
    members = archive.getmembers()
    if not members:
        raise PipelineError(f"{where} holds no file", FETCH_AGAIN)
    for member in members:
        if not (member.isreg() or member.isdir()) or member.issparse():
            raise PipelineError(
                f"{where} holds {member.name!r}, which is a link, a device or a sparse file",
                "pack it again with the files themselves (tar --dereference --hard-dereference)",
            )
    # tarfile takes the end of the file for the end of the archive; a whole tar closes with zeros.
    file = archive.fileobj
    assert file is not None
    file.seek(members[-1].offset_data + -(-members[-1].size // 512) * 512)
    if len(file.read(512)) < 512:
        raise PipelineError(f"{where} is truncated", FETCH_AGAIN)
    return [member for member in members if member.isreg()]


@contextlib.contextmanager
def _tar(file: IO[bytes], where: str) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise PipelineError(
            f"{where} is not a tar archive, or is truncated or damaged: {error}", FETCH_AGAIN
        ) from error
