"""Reading tars that others made: in place, whole or not at all, regular files only."""

import contextlib
import tarfile
from collections.abc import Iterator
from typing import IO

from stages.errors import PipelineError
from stages.sources.source import FETCH_AGAIN
from stages.storage import Folder


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
