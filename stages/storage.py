"""A folder of files, on a disk or in an object store, seen the same way.

``open_folder("/data/imagenet")`` and ``open_folder("s3://bucket/imagenet")`` give the same few verbs:
list, read a span, write a whole file. URLs are those of `pyarrow.fs` (s3, gs, abfs, hdfs; endpoint and
region go into the query, ``s3://bucket/x?region=eu-west-1``, credentials into the environment), and for
any other scheme those of fsspec. Names are relative to the folder, their parts joined by ``/``.
"""

import contextlib
import errno
import functools
import io
import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as pafs

from stages.errors import PipelineError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_READ_AHEAD = 4 << 20  # bytes per request, where a file in an object store is read in order
_OPEN_FILES = 64
# Bytes of a file after which the disk is set to work, so that the sync at its end has little left.
_WRITE_BEHIND = 16 << 20


def is_url(where: str) -> bool:
    """Whether it names something that is not on this machine's disks."""
    return _SCHEME.match(where.removeprefix("file://")) is not None


def open_folder(where: Path | str) -> "Folder":
    """A folder by its path or URL; it need not exist yet.

    Raises:
        PipelineError: no driver is installed for the URL's scheme.
    """
    text = str(where).removeprefix("file://")
    folder = Folder(text if _SCHEME.match(text) else str(Path(text).absolute()))
    folder._open()  # so that an unknown scheme is reported here, not at the first read
    return folder


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a local file in one step: readers see its old content or the new one, never a part."""
    _write_local(path, [content.encode() if isinstance(content, str) else content])


class Folder:
    """What `open_folder` gives. Small to pickle, and every process opens its own files and connections.

    Every method raises `PipelineError` where the storage fails, and for a name that leads out of the
    folder.

    Attributes:
        url: the absolute path or the URL.
        path: the folder on this machine; None in an object store.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = None if _SCHEME.match(url) else Path(url)

    def __str__(self) -> str:
        # A URL may carry credentials and an endpoint, which belong in no message and no data set.
        return (
            re.sub(r"://[^/@]*@", "://", self.url.split("?")[0]) if self.path is None else self.url
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"open_folder({str(self)!r})"

    @property
    def name(self) -> str:
        """The last part of its path."""
        return str(self).rstrip("/").rsplit("/", 1)[-1]

    def children(self, under: str = "") -> tuple[str, ...]:
        """Sorted names of the files and folders directly in a sub-folder; a folder's ends with ``/``.

        Empty where the sub-folder does not exist. Names that start with a dot are left out here and in
        `list`: they are half-written files and what file managers leave behind.
        """
        with self._explained(under):
            if self.path is not None:
                top = self.path / self._checked(under)
                if not top.is_dir():
                    return ()
                entries = [(entry.name, entry.is_dir()) for entry in os.scandir(top)]
            else:
                filesystem, root = self._open()
                selector = pafs.FileSelector(
                    _join(root, self._checked(under)), allow_not_found=True
                )
                entries = [
                    (info.base_name, info.type == pafs.FileType.Directory)
                    for info in filesystem.get_file_info(selector)
                ]
        return tuple(sorted(n + "/" * is_dir for n, is_dir in entries if not n.startswith(".")))

    def list(self, under: str = "") -> dict[str, int]:
        """Size in bytes of every file below a sub-folder, by name, in sorted order.

        Links directly in the folder are followed, for people keep large archives elsewhere; a link
        further down could lead anywhere, and is refused.
        """
        with self._explained(under):
            if self.path is not None:
                return dict(sorted(self._scan(self.path / self._checked(under))))
            filesystem, root = self._open()
            selector = pafs.FileSelector(
                _join(root, self._checked(under)), recursive=True, allow_not_found=True
            )
            sizes = {
                info.path[len(root) :].lstrip("/"): info.size
                for info in filesystem.get_file_info(selector)
                if info.type == pafs.FileType.File
            }
        return {name: sizes[name] for name in sorted(sizes) if not re.search(r"(^|/)\.", name)}

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        with self._explained(name):
            return self._info(name).type == pafs.FileType.File

    def size(self, name: str) -> int:
        """Bytes of a file."""
        with self._explained(name):
            info = self._info(name)
            if info.type != pafs.FileType.File:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return cast(int, info.size)

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """A whole file, or ``size`` bytes of it from ``offset``.

        Made for many spans of few files in any order and from any thread: the files last read from stay
        open, so a file must not be replaced while spans of it are read. A whole file is opened and
        closed again.
        """
        with self._explained(name):
            if size is None:
                filesystem, root = self._open()
                with filesystem.open_input_file(_join(root, self._checked(name))) as file:
                    return cast(bytes, file.read_at(file.size() - offset, offset))
            file = _kept_open(self.url, self._checked(name), os.getpid())
            # Arrow's reading from a disk copies once more and takes five times as long.
            data: bytes = (
                os.pread(file.fileno(), size, offset)
                if self.path is not None
                else file.read_at(size, offset)
            )
        if len(data) != size:
            raise PipelineError(
                f"{self}/{name} ends before byte {offset + size:,}",
                "it was cut short or changed: fetch it again",
            )
        return data

    def open_input(self, name: str) -> BinaryIO:
        """A file for reading in order; it can seek, and is the caller's to close."""
        with self._explained(name):
            if self.path is not None:
                return (self.path / self._checked(name)).open("rb")
            filesystem, root = self._open()
            file = filesystem.open_input_file(_join(root, self._checked(name)))
            return io.BufferedReader(file, _READ_AHEAD)

    def write_atomic(self, name: str, content: bytes | Iterable[bytes]) -> None:
        """Write a file that appears whole or not at all, in place of any of this name.

        On a disk: written beside it, synced, renamed. In an object store: one upload, in parts where it
        is large, that counts when it is completed.

        Args:
            name: folders on the way to it are made.
            content: the bytes, in one or in parts; an error on the way to the next part leaves no file.
        """
        parts = [content] if isinstance(content, bytes) else content
        with self._explained(name):
            if self.path is not None:
                _write_local(self.path / self._checked(name), parts)
                return
            filesystem, root = self._open()
            path = _join(root, self._checked(name))
            # By default Arrow compresses what is called .gz, compressed or not.
            output = filesystem.open_output_stream(path, compression=None)
            try:
                for part in parts:
                    output.write(part)
                size = output.tell()
            except BaseException:
                # Arrow cannot abandon an upload: closing completes it, so what it made is removed.
                output.close()
                filesystem.delete_file(path)
                raise
            output.close()
            stored = self._info(name).size
        if stored != size:
            # Some servers take the framing of an upload with checksums for its content.
            self.remove(name)
            raise PipelineError(
                f"{self} stored {stored:,} bytes of {name}, but {size:,} were sent",
                "check the credentials; if they are right, the store may not know checksums in uploads: "
                "set AWS_REQUEST_CHECKSUM_CALCULATION=WHEN_REQUIRED",
            )

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens where there is none."""
        with self._explained(name), contextlib.suppress(FileNotFoundError):
            filesystem, root = self._open()
            filesystem.delete_file(_join(root, self._checked(name)))

    def _open(self) -> tuple[Any, str]:
        """The filesystem and the folder's path in it."""
        return _filesystem(self.url, os.getpid())

    def _info(self, name: str) -> Any:
        filesystem, root = self._open()
        return filesystem.get_file_info(_join(root, self._checked(name)))

    def _checked(self, name: str) -> str:
        """A name that stays in the folder: names come out of archives, lists and manifests."""
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise PipelineError(
                f"{name!r} leads out of {self}", "do not use this data before you know who made it"
            )
        return name

    def _scan(self, top: Path) -> Iterator[tuple[str, int]]:
        assert self.path is not None
        if not top.is_dir():
            return
        for entry in os.scandir(top):
            if entry.name.startswith("."):
                continue
            if top != self.path and entry.is_symlink():
                raise PipelineError(
                    f"{entry.path} is a link; below the top of {self} links are not followed",
                    f"give the folder that holds the links directly, or make a copy without links "
                    f"(cp -rL {self.path.name} COPY)",
                )
            if entry.is_dir():
                yield from self._scan(Path(entry.path))
            elif entry.is_file():
                yield str(Path(entry.path).relative_to(self.path)), entry.stat().st_size

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Turn the storage's errors into ones that name a fix."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            where = f"{self}/{name}" if name else str(self)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise PipelineError(
                    f"no space is left for {where}",
                    "free some, then run the same command again",
                ) from error
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise PipelineError(
                f"{where} cannot be read or written: {reason}",
                "check the name and your access permissions; for an object store also its region, endpoint "
                "and credentials",
            ) from error


@functools.lru_cache(maxsize=16)
def _filesystem(url: str, process: int) -> tuple[Any, str]:
    # By process: the object stores' clients do not survive a fork.
    if not _SCHEME.match(url):
        return pafs.LocalFileSystem(), url
    try:
        return cast(tuple[Any, str], pafs.FileSystem.from_uri(url))
    except pa.ArrowInvalid:
        import fsspec  # only for schemes that Arrow does not know

        scheme = url.split("://")[0]
        try:
            filesystem, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise PipelineError(
                f"{scheme}:// cannot be opened: {error}",
                "use a local path, s3:// or gs://, or install the fsspec driver of this scheme",
            ) from error
        return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), root


@functools.lru_cache(maxsize=_OPEN_FILES)
def _kept_open(url: str, name: str, process: int) -> Any:
    # A file that leaves the cache closes itself when the last thread has finished reading from it.
    filesystem, root = _filesystem(url, process)
    path = _join(root, name)
    if not _SCHEME.match(url):
        return open(path, "rb", buffering=0)
    return filesystem.open_input_file(path)


def _join(root: str, name: str) -> str:
    return f"{root.rstrip('/')}/{name}".rstrip("/") or "/"


def _write_local(path: Path, parts: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            waiting = 0
            for part in parts:
                waiting += file.write(part)
                if sys.platform == "linux" and waiting >= _WRITE_BEHIND:
                    file.flush()
                    # Linux starts to write out what the disk does not have yet, without waiting for it, and
                    # gives back the memory of what it has: shards are larger than it, and not read soon.
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    waiting = 0
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)  # the new name, too, must survive a loss of power
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
