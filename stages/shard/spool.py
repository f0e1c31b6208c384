"""Images that can only be had in long stretches, copied beside the shards before they are shuffled.

A row group is the least that Parquet gives. Shards are drawn from the whole source, so each would read
nearly every row group for an image or two: a hundred times the source. Here every row group is read once,
and its images are written as they are, to be found again by their places. It takes as much space as the
source once more until the data set is finished.
"""

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.parallel import ParallelMap
from stages.shard.plan import PlannedSample
from stages.shard.write import WORK, ShardTask
from stages.sources.locations import Location, ParquetRow, Span
from stages.storage import Folder


@dataclass(frozen=True, slots=True)
class Spooled:
    """An image that was copied: read from the copy, and named after its source."""

    source: Location
    copy: Span

    @property
    def size(self) -> int:
        """As it was known before; the plan was made by it."""
        return self.source.size

    def read(self) -> bytes:
        """The copy."""
        return self.copy.read()

    def origin(self, name: str) -> str:
        """The source's."""
        return self.source.origin(name)


@dataclass(frozen=True)
class _Task:
    folder: Folder
    name: str
    rows: tuple[ParquetRow, ...]


def spooled_bytes(tasks: Sequence[ShardTask]) -> int:
    """About how much space `spool` takes."""
    return sum(row.size for row in _rows(tasks))


def spool(
    folder: Folder,
    tasks: Sequence[ShardTask],
    pmap: ParallelMap,
    progress: Callable[[int, int], None],
) -> list[ShardTask]:
    """Copy what the tasks would read row group by row group.

    Args:
        folder: of the data set that is being made; what is there from an earlier run is used.
        tasks: of the shards.
        pmap: does the reading.
        progress: called with how many images are done, and how many there are.

    Returns:
        The same tasks, with the places of the copies.

    Raises:
        PipelineError: the source cannot be read, or the folder not written.
    """
    files: dict[tuple[Folder, str], list[ParquetRow]] = defaultdict(list)
    for row in _rows(tasks):
        files[row.folder, row.file].append(row)
    rows_of = {f"{WORK}/spool/{_digest(rows)}": tuple(rows) for rows in files.values()}
    copies: dict[ParquetRow, Spooled] = {}
    for name, ends in pmap(_copy, [_Task(folder, *item) for item in rows_of.items()]):
        for row, start, end in zip(rows_of[name], [0, *ends], ends, strict=False):
            copies[row] = Spooled(row, Span(folder, f"{name}.bin", start, end - start))
        progress(len(copies), sum(map(len, rows_of.values())))

    def moved(sample: PlannedSample) -> PlannedSample:
        location = sample.image.location
        if not isinstance(location, ParquetRow):
            return sample
        return replace(sample, image=replace(sample.image, location=copies[location]))

    return [
        replace(task, shard=replace(task.shard, samples=tuple(map(moved, task.shard.samples))))
        for task in tasks
    ]


def _rows(tasks: Sequence[ShardTask]) -> list[ParquetRow]:
    locations = (sample.image.location for task in tasks for sample in task.shard.samples)
    rows = (location for location in locations if isinstance(location, ParquetRow))
    return sorted(rows, key=lambda row: (row.file, row.row_group, row.row))


def _digest(rows: Sequence[ParquetRow]) -> str:
    """Names a copy by what is in it: other shards may be missing the next time."""
    return hashlib.sha256("\n".join(row.origin("") for row in rows).encode()).hexdigest()[:16]


def _copy(task: _Task) -> tuple[str, list[int]]:
    """Copy one file's images; returns the task's name and where each image ends. Runs in a worker."""
    index = f"{task.name}.npy"
    if not task.folder.exists(index):
        ends: list[int] = []

        def images() -> Iterator[bytes]:
            for row in task.rows:
                data = row.read()
                ends.append(len(data) + (ends[-1] if ends else 0))
                yield data

        task.folder.write_atomic(f"{task.name}.bin", images())
        array = io.BytesIO()
        np.save(array, np.array(ends), allow_pickle=False)
        task.folder.write_atomic(index, array.getvalue())
    saved = np.load(io.BytesIO(task.folder.read(index)), allow_pickle=False)
    return task.name, saved.tolist()
