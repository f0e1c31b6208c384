"""Write one shard: its tar whole or not at all, then the rows of the manifest that belong to it."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.json

from stages.dataset import MANIFEST_SCHEMA, REJECTS_SCHEMA, ShardFile
from stages.errors import PipelineError
from stages.shard.boxes import noted, scaled
from stages.shard.plan import PlannedSample, PlannedShard
from stages.shard.quality import RefusedError, Resize, Stored, prepare
from stages.storage import Folder

# Files of a run that is under way; gone when the data set is finished.
WORK = "_work"

# What re-encoding costs is measured on every 16th image of a shard.
MEASURED_EVERY = 16

BLOCK, RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
# The checksum of a header is taken with blanks in its place.
_HEADER = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)
_HEADER = _HEADER[:148] + b" " * 8 + _HEADER[156:]
_ROWS_SCHEMA = pa.schema(
    [
        *MANIFEST_SCHEMA,
        *(field for field in REJECTS_SCHEMA if field.name not in MANIFEST_SCHEMA.names),
        ("psnr", pa.float32()),
    ]
)


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs."""

    shard: PlannedShard
    folder: Folder
    resize: Resize | None
    check_pixels: bool


def write_shard(task: ShardTask) -> tuple[ShardFile, int]:
    """Write a shard and, last, its rows; returns what was written and how many files were refused.

    Raises:
        PipelineError: the source cannot be read, or the destination not written.
    """
    tar = _Tar(task)
    task.folder.write_atomic(task.shard.name, tar)
    file = ShardFile(task.shard.name, tar.samples, tar.bytes, tar.sha256)
    lines = [json.dumps(asdict(file)), *tar.rows]
    task.folder.write_atomic(rows_name(task.shard), "\n".join(lines).encode())
    return file, len(tar.rows) - tar.samples


def rows_name(shard: PlannedShard) -> str:
    """Where a finished shard's rows are kept until all are there."""
    return f"{WORK}/{shard.name}.jsonl"


def read_rows(folder: Folder, shard: PlannedShard) -> tuple[pa.Table, ShardFile]:
    """The rows of a finished shard, refused files among them, and its description.

    Raises:
        PipelineError: their file is damaged.
    """
    name = rows_name(shard)
    options = pyarrow.json.ParseOptions(explicit_schema=_ROWS_SCHEMA)
    try:
        description, rows = folder.read(name).split(b"\n", 1)
        file = ShardFile(**json.loads(description))
        table = pyarrow.json.read_json(io.BytesIO(rows), parse_options=options)
    except (ValueError, TypeError) as error:  # Arrow's errors of content are ValueErrors
        raise PipelineError(
            f"{folder}/{name} is damaged: {error}",
            "delete it and run the same command again: its shard is rebuilt",
        ) from error
    return table, file


class _Tar:
    """A tar that is made while it is read, so that no more of it than an image is in memory.

    tarfile spends longer on a small member's header than the member takes to copy, and reports no offsets.

    Attributes:
        rows: of the samples and the refused files so far, in the columns of `_ROWS_SCHEMA`, as lines of
            JSON: Arrow would import pandas, a second's work, to make a table of Python's objects.
        samples: how many are in the tar.
        bytes: length of the tar.
        sha256: of the tar, once it is read to its end.
    """

    def __init__(self, task: ShardTask) -> None:
        self._task = task
        self._labels = {synset: label for label, synset in enumerate(task.shard.synsets)}
        self._sha256 = hashlib.sha256()
        self.rows: list[str] = []
        self.samples = self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts():
            # While it is in the processor's cache. In a thread of its own it costs a third more time.
            self._sha256.update(part)
            self.bytes += len(part)
            yield part

    def _parts(self) -> Iterator[bytes]:
        for index, sample in enumerate(self._task.shard.samples):
            data = sample.image.read()
            try:
                stored = prepare(
                    data,
                    sample.image.name,
                    self._task.resize,
                    check_pixels=self._task.check_pixels,
                    measure=index % MEASURED_EVERY == 0,
                )
            except RefusedError as refused:
                self._add_row(sample, _refusal(data, str(refused)))
                continue
            row = _sample(data, stored, offset=self.bytes + BLOCK)
            self._add_row(sample, row | _annotated(sample, stored, self._labels))
            self.samples += 1
            yield from tar_sample(sample.image.key, stored.format, stored.data, sample.label)
        yield bytes(2 * BLOCK + -(self.bytes + 2 * BLOCK) % RECORD)

    def _add_row(self, sample: PlannedSample, outcome: dict[str, Any]) -> None:
        image = sample.image
        common = {
            "key": image.key,
            "split": image.split,
            "label": sample.label,
            "synset": image.synset,
            "shard": self._task.shard.name,
            "source": image.origin,
        }
        self.rows.append(json.dumps(common | outcome))


def _sample(data: bytes, stored: Stored, offset: int) -> dict[str, Any]:
    sha256 = hashlib.sha256(stored.data).hexdigest()
    return {
        "offset": offset,
        "size": len(stored.data),
        "width": stored.width,
        "height": stored.height,
        "format": stored.format,
        "mode": stored.mode,
        "fate": stored.fate,
        "sha256": sha256,
        "original_sha256": None if stored.fate == "kept" else hashlib.sha256(data).hexdigest(),
        "psnr": stored.psnr,
    }


def _annotated(sample: PlannedSample, stored: Stored, labels: Mapping[str, int]) -> dict[str, Any]:
    """What is known of the image; `stages.sources` has counted the objects of other classes."""
    objects = [item for item in sample.image.objects if item.synset in labels]
    boxes = [scaled(item.box, *stored.scale) for item in objects]
    return {
        "objects": [
            {"label": labels[item.synset], **asdict(box), "difficult": item.difficult}
            for item, box in zip(objects, boxes, strict=True)
        ],
        "captions": sample.image.captions,
        "flags": sorted({*stored.flags, *noted(boxes, stored.width, stored.height)}),
    }


def _refusal(data: bytes, reason: str) -> dict[str, Any]:
    return {
        "reason": reason,
        "source_size": len(data),
        "original_sha256": hashlib.sha256(data).hexdigest(),
    }


def tar_sample(
    key: str, format: str, image: bytes, label: int | None
) -> tuple[bytes, bytes, bytes]:
    """A sample's members, the image and its label: what comes before the image, it, and what follows.

    Everything but names, sizes and content is constant, so that equal samples make equal tars.

    Args:
        key: both members' name, short of its extension; `stages.sources` sees that it fits.
        format: of the image, JPEG or PNG.
        image: encoded.
        label: becomes a text of digits; without one there is no second member. Objects and captions are
            in the manifest alone.
    """
    extension = "png" if format == "PNG" else "jpg"
    follows = bytes(-len(image) % BLOCK)
    if label is not None:
        text = str(label).encode()
        follows += _header(f"{key}.cls", len(text)) + text.ljust(BLOCK, b"\0")
    return _header(f"{key}.{extension}", len(image)), image, follows


def _header(name: str, size: int) -> bytes:
    """Of a regular file in the USTAR format."""
    header = bytearray(_HEADER)
    header[: len(name)] = name.encode()
    header[124:135] = b"%011o" % size
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
