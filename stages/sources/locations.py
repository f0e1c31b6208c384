"""Where the bytes of one image lie. Small, to be sent to other processes by the thousand."""

import functools
import gzip
import os
import struct
import threading
import zlib
from dataclasses import dataclass
from typing import Any, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from stages.errors import PipelineError
from stages.storage import Folder

_one_reader = threading.Lock()  # an opened Parquet file is not for two threads at once
LARGEST_ROW_GROUP = 512 << 20  # bytes; two are held


class Location(Protocol):
    """Something to read one encoded image from."""

    @property
    def size(self) -> int:
        """Bytes, known without reading; of a Parquet row about the mean of its row group."""

    def read(self) -> bytes:
        """The encoded image. Raises `PipelineError` where it cannot be had."""

    def origin(self, name: str) -> str:
        """What the manifest says of where the image ``name`` came from."""


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A file of its own."""

    folder: Folder
    file: str
    size: int

    def read(self) -> bytes:
        """The file."""
        return self.folder.read(self.file)

    def origin(self, name: str) -> str:
        """The file's name."""
        return self.file


@dataclass(frozen=True, slots=True)
class Span:
    """``size`` bytes at ``offset`` of a file: a member of an uncompressed tar, nested or not."""

    folder: Folder
    file: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The span."""
        return self.folder.read(self.file, self.offset, self.size)

    def origin(self, name: str) -> str:
        """The archive's name and the image's."""
        return f"{self.file}/{name}"


@dataclass(frozen=True, slots=True)
class ParquetRow:
    """The ``image.bytes`` of one row.

    A row group is the least that Parquet lets one read. The last ones read are kept, so rows are best
    read row group by row group; in any other order each image costs a whole row group, hence
    `stages.shard.spool`.
    """

    folder: Folder
    file: str
    row_group: int
    row: int
    size: int

    def read(self) -> bytes:
        """The row's bytes."""
        data = _row_group(self.folder, self.file, self.row_group, os.getpid())[self.row].as_py()
        if data is None:
            raise PipelineError(
                f"{self.origin('')} in {self.folder} has no image bytes, only a path",
                "embed the images when the Parquet files are written",
            )
        return cast(bytes, data)

    def origin(self, name: str) -> str:
        """File, row group and row."""
        return f"{self.file}:{self.row_group}:{self.row}"


@dataclass(frozen=True, slots=True)
class Pixels:
    """One of many raw images in a file, read as a PNG of exactly these pixels.

    The PNG is stored, not compressed: its size is known beforehand, and its bytes are the same under
    every version of zlib.

    Attributes:
        offset: of its first pixel in the file, after decompression if the name ends in ``.gz``.
        width, height: pixels.
        channels: 1 (grey) or 3 (RGB), one plane after the other.
    """

    folder: Folder
    file: str
    offset: int
    width: int
    height: int
    channels: int

    @property
    def size(self) -> int:
        """Bytes of the PNG."""
        return _PNG_OVERHEAD + self.height * (self.width * self.channels + 1)

    def read(self) -> bytes:
        """The PNG."""
        size = self.width * self.height * self.channels
        if self.file.endswith(".gz"):
            raw = unpacked(self.folder, self.file)[self.offset : self.offset + size]
        else:
            raw = self.folder.read(self.file, self.offset, size)
        return _png(raw, self.width, self.height, self.channels)

    def origin(self, name: str) -> str:
        """The file's name and the image's."""
        return f"{self.file}/{name}"


@functools.lru_cache(maxsize=4)
def unpacked(folder: Folder, file: str, limit: int = 256 << 20) -> bytes:
    """A gzipped file's content.

    Raises:
        PipelineError: it is damaged, or longer than ``limit`` bytes.
    """
    try:
        with folder.open_input(file) as packed, gzip.open(packed) as content:
            data = content.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise PipelineError(
            f"{folder}/{file} is truncated or not a gzip file: {error}", "fetch it again"
        ) from error
    if len(data) > limit:
        raise PipelineError(
            f"{folder}/{file} unpacks to more than {limit >> 20} MiB",
            "it is not what its name says: fetch it again from where it is published",
        )
    return data


@functools.lru_cache(maxsize=8)
def parquet_file(folder: Folder, file: str, process: int) -> pq.ParquetFile:
    """A Parquet file opened for this process.

    Raises:
        PipelineError: it is damaged, or has row groups too large to hold in memory.
    """
    try:
        opened = pq.ParquetFile(folder.open_input(file))
    except (pa.ArrowException, OSError) as error:
        raise PipelineError(
            f"{folder}/{file} is truncated or not a Parquet file: {error}", "fetch it again"
        ) from error
    meta = opened.metadata
    largest = max(
        (meta.row_group(i).total_byte_size for i in range(meta.num_row_groups)), default=0
    )
    if largest > LARGEST_ROW_GROUP:
        raise PipelineError(
            f"{folder}/{file} has a row group of {largest >> 20} MiB, too large to hold",
            "write it again with row groups of about 100 images (pyarrow's row_group_size)",
        )
    return opened


def read_row_group(folder: Folder, file: str, number: int, columns: list[str]) -> pa.Table:
    """Some columns of a row group.

    Raises:
        PipelineError: the file is damaged.
    """
    try:
        with _one_reader:
            opened = parquet_file(folder, file, os.getpid())
            return opened.read_row_group(number, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise PipelineError(f"{folder}/{file} is damaged: {error}", "fetch it again") from error


@functools.lru_cache(maxsize=2)
def _row_group(folder: Folder, file: str, number: int, process: int) -> Any:
    table = read_row_group(folder, file, number, ["image.bytes"])
    return table["image"].combine_chunks().field("bytes")


def _png(planes: bytes, width: int, height: int, channels: int) -> bytes:
    """Raw 8-bit planes as a PNG whose one deflate block is stored (RFC 2083, RFC 1951 section 3.2.4)."""
    pixels = bytearray(len(planes))
    for channel in range(channels):
        pixels[channel::channels] = planes[
            channel * width * height : (channel + 1) * width * height
        ]
    row = width * channels
    # Each row is preceded by its filter type, 0 for none.
    lines = b"".join(b"\0" + pixels[y * row : (y + 1) * row] for y in range(height))
    length = len(lines)
    stored = b"\x78\x01\x01" + struct.pack("<HH", length, length ^ 0xFFFF) + lines
    colour_type = {1: 0, 3: 2}[channels]
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0))
        + _chunk(b"IDAT", stored + struct.pack(">I", zlib.adler32(lines)))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_PNG_OVERHEAD = len(_png(b"\0", 1, 1, 1)) - 2
