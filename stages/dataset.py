"""A data set on disk: WebDataset tar shards, ``manifest.parquet`` and ``dataset.json``.

This module is the contract between `stages.shard`, which writes the folder, and everything that reads
it. A sample is found by (shard, offset, size), so any order of reading is possible without an index of
one's own, while the shards stay ordinary WebDataset tars.
"""

import functools
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.errors import PipelineError
from stages.load.cache import ShardCache
from stages.load.image_file import PLAIN_MODES
from stages.storage import Folder, open_folder

SCHEMA_VERSION = 2
ORIGIN = (
    "origin.json"  # in a folder whose shards lie elsewhere: where, and how many bytes may be kept
)
Split = Literal["train", "val"]
Fate = Literal["kept", "converted", "resized"]

BOX = pa.struct([(side, pa.float32()) for side in ("xmin", "ymin", "xmax", "ymax")])
MANIFEST_SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # the sample's name in its shard
        ("split", pa.string()),  # train | val
        ("label", pa.int32()),  # place of the synset among this data set's sorted synsets
        ("synset", pa.string()),  # WordNet id, or the class's own name
        ("shard", pa.string()),  # file name in this folder
        ("offset", pa.int64()),  # of the image's first byte in the shard
        ("size", pa.int64()),  # bytes
        ("width", pa.int32()),  # pixels
        ("height", pa.int32()),
        ("format", pa.string()),  # as sniffed from the bytes: JPEG, PNG, ...
        ("mode", pa.string()),  # RGB, L, CMYK, ...
        ("boxes", pa.list_(BOX)),  # of the object, in pixels of the image as stored here
        ("fate", pa.string()),  # kept | converted | resized, see stages.shard.quality
        ("flags", pa.list_(pa.string())),  # what was odd about the file
        ("source", pa.string()),  # file, archive member or row the bytes came from
        ("sha256", pa.string()),
        ("original_sha256", pa.string()),  # of the source's bytes where they differ, else null
    ]
)
REJECTS_SCHEMA = pa.schema(
    [
        *(MANIFEST_SCHEMA.field(name) for name in ("key", "split", "label", "synset", "source")),
        ("reason", pa.string()),
        ("source_size", pa.int64()),  # bytes
        ("original_sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class Box:
    """Where an object is, in pixels of its image."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


@dataclass(frozen=True)
class ImageClass:
    """One class.

    Attributes:
        synset: its WordNet id; of a class that has none (CIFAR's, MNIST's) its own name.
        ilsvrc_id: the devkit's ILSVRC2012_ID, 1 to 1000; None where it is not known or has none.
        words: what it is called.
    """

    synset: str
    ilsvrc_id: int | None
    words: str


@dataclass(frozen=True)
class Statistics:
    """Pixel statistics of training images on the 0-255 scale, RGB.

    Attributes:
        images: how many images they were computed from.
        mean: of each channel.
        eigenvalues: of the channels' covariance, largest first.
        eigenvectors: eigenvectors[i] belongs to eigenvalues[i].
    """

    images: int
    mean: tuple[float, float, float]
    eigenvalues: tuple[float, float, float]
    eigenvectors: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class ShardFile:
    """One tar: its name begins with its split; ``sha256`` is that of the file, as sha256sum prints it."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Resizing:
    """What re-encoding to a smaller size has cost.

    Attributes:
        short_side: pixels; images that were smaller kept their bytes.
        quality: of the JPEG encoder, 4:2:0.
        images: how many were re-encoded.
        psnr_median: decibels between the resized pixels and what the stored JPEG decodes to, over a
            sample of the images; None where none was re-encoded.
        psnr_worst: the 5th percentile of the same.
    """

    short_side: int
    quality: int
    images: int
    psnr_median: float | None
    psnr_worst: float | None


@dataclass(frozen=True)
class DatasetInfo:
    """The contents of ``dataset.json``.

    Attributes:
        name: what people call it.
        digest: 12 hexadecimal digits over every sample's key, label and bytes.
        manifest_sha256: of ``manifest.parquet``.
        source: where it was made from, and how it was recognised.
        plan: names what determines every byte: the source's index, the seed and the options.
        counts: images in each split.
        fates: how many files of the source were kept, converted, resized or refused.
        flags: how many images had which oddity.
        resizing: None where the original bytes were kept.
        shards: in the order of the manifest.
        classes: in the order of the labels, which is that of the sorted synsets.
    """

    name: str
    digest: str
    manifest_sha256: str
    source: str
    plan: str
    counts: dict[str, int]
    fates: dict[str, int]
    flags: dict[str, int]
    resizing: Resizing | None
    shards: tuple[ShardFile, ...]
    classes: tuple[ImageClass, ...]
    statistics: Statistics
    schema_version: int = SCHEMA_VERSION


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
        table = pq.read_table(
            self.root / "manifest.parquet",
            columns=[
                *("key", "label", "shard", "offset", "size"),
                *("format", "mode", "width", "height"),
            ],
            filters=[("split", "=", split)],
        )
        return Samples(self.root, table, self._cache)


class Samples:
    """Random access to the encoded images of one split; safe to share between forked processes.

    Attributes:
        keys: of the samples.
        labels: (samples,).
        plain_jpegs: (samples,), which are JPEGs in grey or RGB.
        short_sides: (samples,), pixels.
    """

    def __init__(self, root: Path, table: pa.Table, cache: ShardCache | None = None) -> None:
        self._root, self._cache = root, cache
        self.keys: list[str] = table["key"].to_pylist()
        self.labels: NDArray[np.int64] = table["label"].to_numpy().astype(np.int64)
        shards = table["shard"].combine_chunks().dictionary_encode()
        self._shards: list[str] = shards.dictionary.to_pylist()
        self._shard: NDArray[np.int32] = shards.indices.to_numpy()
        self._places = (self._shard, table["size"].to_numpy(), table["offset"].to_numpy())
        self._files: dict[int, int] = {}
        self.plain_jpegs: NDArray[np.bool_] = pc.and_(
            pc.equal(table["format"], "JPEG"), pc.is_in(table["mode"], pa.array(PLAIN_MODES))
        ).to_numpy()
        self.short_sides: NDArray[np.int32] = pc.min_element_wise(
            table["width"], table["height"]
        ).to_numpy()

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
        """Whether so many of the shards may be here at the same time."""
        return self._cache is None or self._cache.room_for(shards)

    def fetch(self, shard: int) -> None:
        """Have a shard of an object store here, to be read soon; raises as `read` does."""
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
            raise PipelineError(f"cannot read {path}: {error.strerror}", _RESHARD) from error
        if len(data) != size:
            raise PipelineError(f"{path} is shorter than its manifest says", _RESHARD)
        return data

    def close(self) -> None:
        """Close the shards that were opened."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()


_RESHARD = "delete the data set's folder and run the same command again; it is made anew"


def is_dataset(root: Path | str) -> bool:
    """Whether a folder (path or URL) holds a finished data set (``dataset.json`` is written last)."""
    return open_folder(root).exists("dataset.json")


def mirror(url: str, root: Path, limit: int | None = None) -> int:
    """Make, or set anew, a folder through which a data set in an object store is read.

    It holds all but the shards; those come when they are read from, see `stages.load.cache`.

    Args:
        url: of the data set.
        root: the folder.
        limit: bytes of shards that it may keep; by default all of them, or as many as leave half of the
            disk's free room.

    Returns:
        The limit.

    Raises:
        PipelineError: there is no data set at the URL, or it cannot be read.
    """
    origin, here = open_folder(url), open_folder(root)
    info = read_info(origin)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)  # the URL may carry credentials
    if limit is None:
        kept = sum(here.list().values())
        limit = min(sum(s.bytes for s in info.shards), (shutil.disk_usage(root).free + kept) // 2)
    here.write_atomic(ORIGIN, json.dumps({"url": url, "limit": limit}).encode())
    for name in (
        "mean_image.npy",
        "manifest.parquet",
        "dataset.json",
    ):  # the last one says: complete
        if not here.exists("dataset.json"):
            here.write_atomic(name, origin.read(name))
    return limit


def read_info(root: Path | Folder) -> DatasetInfo:
    """Read ``dataset.json``.

    Raises:
        PipelineError: it is missing, unreadable, or of another schema version.
    """
    folder = root if isinstance(root, Folder) else open_folder(root)
    if not folder.exists("dataset.json"):
        raise PipelineError(
            f"{root} is not a finished data set: it has no dataset.json",
            "name a folder that `python -m pipeline.shard` has made; an interrupted one is finished by "
            "the same command",
        )
    try:
        values: dict[str, Any] = json.loads(folder.read("dataset.json"))
        if values["schema_version"] != SCHEMA_VERSION:
            raise PipelineError(
                f"{root} has schema version {values['schema_version']}, not {SCHEMA_VERSION}",
                _RESHARD,
            )
        values["classes"] = tuple(ImageClass(**item) for item in values["classes"])
        values["shards"] = tuple(ShardFile(**item) for item in values["shards"])
        if values["resizing"] is not None:
            values["resizing"] = Resizing(**values["resizing"])
        statistics = values["statistics"]
        values["statistics"] = Statistics(
            images=statistics["images"],
            mean=tuple(statistics["mean"]),
            eigenvalues=tuple(statistics["eigenvalues"]),
            eigenvectors=tuple(tuple(vector) for vector in statistics["eigenvectors"]),
        )
        return DatasetInfo(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{root} is not a readable data set: {error}", _RESHARD) from error


def info_json(info: DatasetInfo) -> bytes:
    """The text of ``dataset.json``."""
    return (json.dumps(asdict(info), indent=1) + "\n").encode()
