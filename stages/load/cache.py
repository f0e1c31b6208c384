"""Shards of an object store, kept in a local folder as far as a stated number of bytes allows.

A shard is fetched whole when it is first read from, and appears whole or not at all. Where space is
needed, the one that was not read from for longest goes. Any number of processes may share the folder:
they fetch one after another, each shard once.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.dataset import ShardFile
from stages.errors import PipelineError
from stages.parallel import in_threads
from stages.storage import Folder, open_folder

# How many parts of a shard are fetched at a time, and their bytes: one stream would not fill the line.
_STREAMS = 8
_PART = 8 << 20


class ShardCache:
    """Reads spans of shards that lie elsewhere.

    Args:
        origin: where they lie.
        root: the local folder.
        shards: all of them.
        limit: bytes that they may take in ``root``, one that is being fetched included.

    Raises:
        PipelineError: ``limit`` is less than the largest shard.
    """

    def __init__(self, origin: Folder, root: Path, shards: Sequence[ShardFile], limit: int) -> None:
        self._origin, self._root, self._limit = origin, root, limit
        self._shards = {shard.name: shard for shard in shards}
        largest = max(shard.bytes for shard in shards)
        if limit < largest:
            raise PipelineError(
                f"{root} may take {limit / 2**30:.2f} GiB, but a shard of {origin} has "
                f"{largest / 2**30:.2f} GiB",
                "free some space there, or use a larger disk",
            )

    @property
    def holds_all(self) -> bool:
        """Whether every shard stays once it was fetched."""
        return sum(shard.bytes for shard in self._shards.values()) <= self._limit

    def room_for(self, shards: int) -> bool:
        """Whether this many shards stay at the same time."""
        largest = max(shard.bytes for shard in self._shards.values())
        return self.holds_all or shards * largest <= self._limit

    def fetch(self, name: str) -> None:
        """Fetch a shard unless it is cached; raises as `read` does."""
        if not (self._root / name).exists():
            os.close(self._fetch(name))

    def read(self, name: str, offset: int, size: int) -> bytes:
        """``size`` bytes of a shard from ``offset``; fewer where it ends before.

        Raises:
            PipelineError: it cannot be fetched, or is not the shard that is known.
        """
        # Opened for each read: a shard that was kept open would take space after it was removed.
        try:
            descriptor = os.open(self._root / name, os.O_RDONLY)
        except FileNotFoundError:
            descriptor = self._fetch(name)
        try:
            os.utime(descriptor)
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def _fetch(self, name: str) -> int:
        """Fetch a shard unless it is cached; returned open, since it may be evicted at any moment."""
        with (self._root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self._root / name
            if not path.exists():
                self._make_room(self._shards[name].bytes)
                open_folder(self._root).write_atomic(name, self._verified(self._shards[name]))
            return os.open(path, os.O_RDONLY)

    def _make_room(self, size: int) -> None:
        for path in self._root.glob(".*.partial"):  # of a process that was killed
            path.unlink()
        cached = {
            path: path.stat() for path in map(self._root.joinpath, self._shards) if path.exists()
        }
        taken = sum(stat.st_size for stat in cached.values())
        for path, stat in sorted(cached.items(), key=lambda item: item[1].st_mtime_ns):
            if taken + size <= self._limit:
                break
            path.unlink()
            taken -= stat.st_size

    def _verified(self, shard: ShardFile) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for part in self._parts(shard):
            digest.update(part)
            yield part
        if digest.hexdigest() != shard.sha256:
            raise PipelineError(
                f"{self._origin}/{shard.name} is not the shard that its dataset.json describes",
                f"run `python -m pipeline.verify` on {self._origin} and do what it says",
            )

    def _parts(self, shard: ShardFile) -> Iterator[bytes]:
        def part(start: int) -> bytes:
            return self._origin.read(shard.name, start, min(_PART, shard.bytes - start))

        return in_threads(_STREAMS, part, range(0, shard.bytes, _PART), ahead=_STREAMS)
