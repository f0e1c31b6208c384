"""A data set folder opened for reading: its images by their places, from a disk or an object store."""

import functools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.dataset import CORNERS, MAKE_AGAIN, Split, read_info, read_manifest
from stages.errors import PipelineError
from stages.load.cache import ShardCache
from stages.load.image_file import PLAIN_MODES
from stages.storage import open_folder

# In a folder whose shards lie elsewhere: where, and how many bytes may be kept.
ORIGIN = "origin.json"


class Dataset:
    """A data set folder opened for reading: a whole one, or one that `mirror` made.

    Raises:
        PipelineError: the folder is not a data set, or one of an unknown schema.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = read_info(root)
        self._cache: ShardCache | None = None
        if (root / ORIGIN).is_file():
            origin = json.loads((root / ORIGIN).read_bytes())
            self._cache = ShardCache(
                open_folder(origin["url"]), root, self.info.shards, origin["limit"]
            )

    @functools.cached_property
    def mean_image(self) -> NDArray[np.float32]:
        """Mean training image, (3, side, side), RGB on the 0-255 scale."""
        image: NDArray[np.float32] = np.load(self.root / "mean_image.npy", allow_pickle=False)
        return image

    def samples(self, split: Split) -> "Samples":
        """The samples of one split, in manifest order."""
        return Samples(self.root, split, self._cache)


@dataclass(frozen=True)
class Objects:
    """Objects of one image, or of many one after another; boxes as `stages.dataset.OBJECT` has them.

    Attributes:
        labels: (objects,), places among the data set's classes.
        boxes: (objects, 4): xmin, ymin, xmax, ymax.
        difficult: (objects,), which a test should neither ask for nor count as wrong.
    """

    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    difficult: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)


class ObjectsByImage:
    """The objects of a split's images, in arrays that forked processes share.

    Attributes:
        every: the objects of all images, in the order of these.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        self._ends = np.cumsum(lengths, dtype=np.int64)
        flat = column.combine_chunks().flatten()
        self.every = Objects(
            flat.field("label").to_numpy().astype(np.int64),
            np.stack([flat.field(corner).to_numpy() for corner in CORNERS], axis=1),
            flat.field("difficult").to_numpy(zero_copy_only=False),
        )

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Objects]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Objects:
        """Those of image ``index``."""
        index = range(len(self))[index]
        own = slice(self._ends[index - 1] if index else 0, self._ends[index])
        return Objects(self.every.labels[own], self.every.boxes[own], self.every.difficult[own])


class Samples:
    """Random access to the encoded images of one split; safe to share between forked processes.

    Objects and captions are read when they are first asked for, so that classification does not
    wait for them. A task that needs them in forked processes asks for them before the fork.

    Attributes:
        keys: of the samples.
        plain_jpegs: (samples,), which are JPEGs in grey or RGB.
        sizes: (samples, 2), width and height in pixels.
    """

    def __init__(self, root: Path, split: Split, cache: ShardCache | None = None) -> None:
        self._root, self._split, self._cache = root, split, cache
        table = self._columns(
            *("key", "label", "shard", "offset", "size"),
            *("format", "mode", "width", "height"),
        )
        self.keys: list[str] = table["key"].to_pylist()
        self._labels: NDArray[np.int64] | None = None
        if table["label"].null_count == 0:
            self._labels = table["label"].to_numpy().astype(np.int64)
        shards = table["shard"].combine_chunks().dictionary_encode()
        self._shards: list[str] = shards.dictionary.to_pylist()
        self._shard: NDArray[np.int32] = shards.indices.to_numpy()
        self._places = (self._shard, table["size"].to_numpy(), table["offset"].to_numpy())
        self._files: dict[int, int] = {}
        self.plain_jpegs: NDArray[np.bool_] = pc.and_(
            pc.equal(table["format"], "JPEG"), pc.is_in(table["mode"], pa.array(PLAIN_MODES))
        ).to_numpy()
        sizes = [table[side].to_numpy() for side in ("width", "height")]
        self.sizes: NDArray[np.int32] = np.stack(sizes, axis=1)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(samples,).

        Raises:
            PipelineError: the images have no class of their own.
        """
        if self._labels is None:
            raise PipelineError(
                f"the images of {self._root} have no class labels, only objects or captions",
                "give a data set whose images have a class each",
            )
        return self._labels

    @functools.cached_property
    def short_sides(self) -> NDArray[np.int32]:
        """(samples,), pixels."""
        short: NDArray[np.int32] = self.sizes.min(axis=1)
        return short

    @functools.cached_property
    def objects(self) -> ObjectsByImage:
        """The objects of each sample; none where the source had no annotation of it."""
        return ObjectsByImage(self._columns("objects")["objects"])

    @functools.cached_property
    def captions(self) -> list[list[str]]:
        """The sentences about each sample, in the source's order."""
        captions: list[list[str]] = self._columns("captions")["captions"].to_pylist()
        return captions

    def _columns(self, *names: str) -> pa.Table:
        return read_manifest(self._root / "manifest.parquet", names, self._split)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def shard_of(self) -> NDArray[np.int32]:
        """Which shard each sample is in, (samples,)."""
        return self._shard

    @property
    def in_any_order(self) -> bool:
        """Whether reading in any order costs the same; else shards are best read one after another."""
        return self._cache is None or self._cache.holds_all

    @property
    def remote(self) -> bool:
        """Whether the shards come from an object store."""
        return self._cache is not None

    def room_for(self, shards: int) -> bool:
        """Whether this many of the shards may be here at the same time."""
        return self._cache is None or self._cache.room_for(shards)

    def fetch(self, shard: int) -> None:
        """Fetch a shard of an object store unless it is cached, to be read soon; raises as `read` does."""
        if self._cache is not None:
            self._cache.fetch(self._shards[shard])

    def read(self, index: int) -> bytes:
        """The encoded image of sample ``index``.

        Raises:
            PipelineError: the shard is missing or shorter than the manifest says, or cannot be fetched.
        """
        shard, size, offset = (int(column[index]) for column in self._places)
        path = self._root / self._shards[shard]
        try:
            if self._cache is not None:
                data = self._cache.read(path.name, offset, size)
            else:
                if shard not in self._files:
                    self._files[shard] = os.open(path, os.O_RDONLY)
                # pread leaves the file's position alone, so forked workers may share the descriptor.
                data = os.pread(self._files[shard], size, offset)
        except OSError as error:
            raise PipelineError(f"cannot read {path}: {error.strerror}", MAKE_AGAIN) from error
        if len(data) != size:
            raise PipelineError(f"{path} is shorter than its manifest says", MAKE_AGAIN)
        return data

    def close(self) -> None:
        """Close the shards that were opened."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()


def mirror(url: str, root: Path, limit: int | None = None) -> int:
    """Make, or bring up to date, a folder through which a data set in an object store is read.

    It holds all but the shards; those come when they are read from, see `stages.load.cache`.

    Args:
        url: of the data set.
        root: the folder.
        limit: bytes of shards that it may keep; by default all of them, or as many as leave half of the
            disk's free space.

    Returns:
        The limit.

    Raises:
        PipelineError: there is no data set at the URL, or it cannot be read.
    """
    origin, here = open_folder(url), open_folder(root)
    info = read_info(origin)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)  # the URL may carry credentials
    if limit is None:
        cached_bytes = sum(here.list().values())
        free_bytes = shutil.disk_usage(root).free
        limit = min(sum(s.bytes for s in info.shards), (free_bytes + cached_bytes) // 2)
    here.write_atomic(ORIGIN, json.dumps({"url": url, "limit": limit}).encode())
    # The last one marks the folder as complete.
    for name in ("mean_image.npy", "manifest.parquet", "dataset.json"):
        if not here.exists("dataset.json"):
            here.write_atomic(name, origin.read(name))
    return limit
