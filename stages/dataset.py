"""A data set on disk: WebDataset tar shards, ``manifest.parquet`` and ``dataset.json``.

This module is the contract between `stages.shard`, which writes the folder, and everything that reads
it. A sample is found by (shard, offset, size), so any order of reading is possible without an index of
one's own, while the shards stay ordinary WebDataset tars.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.errors import PipelineError
from stages.storage import Folder, open_folder

SCHEMA_VERSION = 3
# Those that are read. Schema 2 had ``boxes`` of the label's class in the place of objects and captions.
READABLE_VERSIONS = (2, 3)
Split = Literal["train", "val"]
Fate = Literal["kept", "converted", "resized"]

CORNERS = ("xmin", "ymin", "xmax", "ymax")
# A box is given by the outermost pixels that it covers, numbered from 0, of the image as it is stored
# here: around a whole image it is (0, 0, width - 1, height - 1). ILSVRC's annotations are like that; PASCAL's
# count from 1 and COCO's measure lengths, and `stages.sources` converts both. Fractions are kept. The
# box's edges, in the plane in which an image is `width` long, are xmin and xmax + 1. Nothing is clipped
# or put in order: `stages.shard.boxes` says what is noted of a box that is odd.
OBJECT = pa.struct(
    [
        ("label", pa.int32()),  # place of its class among this data set's classes
        *((corner, pa.float32()) for corner in CORNERS),
        # What a test should neither ask for nor count as wrong: VOC's difficult, COCO's crowds.
        ("difficult", pa.bool_()),
    ]
)
MANIFEST_SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # the sample's name in its shard
        ("split", pa.string()),  # train | val
        # Place of the synset among this data set's classes; null, as is the synset, in all samples of a
        # data set whose images have no class of their own (`DatasetInfo.labelled`).
        ("label", pa.int32()),
        ("synset", pa.string()),  # WordNet id, or the class's own name
        ("shard", pa.string()),  # file name in this folder
        ("offset", pa.int64()),  # of the image's first byte in the shard
        ("size", pa.int64()),  # bytes
        ("width", pa.int32()),  # pixels
        ("height", pa.int32()),
        ("format", pa.string()),  # as sniffed from the bytes: JPEG, PNG, ...
        ("mode", pa.string()),  # RGB, L, CMYK, ...
        ("objects", pa.list_(OBJECT)),  # as far as they were annotated
        ("captions", pa.list_(pa.string())),  # sentences, in the source's order
        ("fate", pa.string()),  # kept | converted | resized, see stages.shard.quality
        ("flags", pa.list_(pa.string())),  # what was odd about the file or its boxes
        ("source", pa.string()),  # file, archive member or row the bytes came from
        ("sha256", pa.string()),
        ("original_sha256", pa.string()),  # of the source's bytes where they differ, else null
    ]
)
_BOX_2 = pa.struct([(corner, pa.float32()) for corner in CORNERS])
_MANIFEST_SCHEMA_2 = pa.schema(
    [
        pa.field("boxes", pa.list_(_BOX_2)) if field.name == "objects" else field
        for field in MANIFEST_SCHEMA
        if field.name != "captions"
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
    """Where an object is, by the outermost pixels that it covers; see `OBJECT`."""

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
        digest: 12 hexadecimal digits that name the samples, see `stages.shard.stage.content_digest`.
        manifest_sha256: of ``manifest.parquet``.
        source: where it was made from, and how it was recognised.
        plan: names what determines every byte: the source's index, the seed and the options.
        counts: images in each split.
        fates: how many files of the source were kept, converted, resized or refused.
        flags: how many images had which oddity.
        resizing: None where the original bytes were kept.
        shards: in the order of the manifest.
        classes: in the order of the labels, which is that of the sorted synsets: of the images where
            these have a class each, else of their objects; none where there are only captions.
        labelled: whether each image has a class of its own; if not, none has.
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
    labelled: bool = True
    schema_version: int = SCHEMA_VERSION


MAKE_AGAIN = "delete the data set's folder and run the same command again, which rebuilds it"


def is_dataset(root: Path | str) -> bool:
    """Whether a folder (path or URL) holds a finished data set (``dataset.json`` is written last)."""
    return open_folder(root).exists("dataset.json")


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
        if values["schema_version"] not in READABLE_VERSIONS:
            raise PipelineError(
                f"{root} has schema version {values['schema_version']}, and those that can be read are "
                f"{READABLE_VERSIONS[0]} to {READABLE_VERSIONS[-1]}",
                MAKE_AGAIN,
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
        raise PipelineError(f"{root} is not a readable data set: {error}", MAKE_AGAIN) from error


def info_json(info: DatasetInfo) -> bytes:
    """The text of ``dataset.json``."""
    return (json.dumps(asdict(info), indent=1) + "\n").encode()


def manifest_schema(version: int) -> pa.Schema:
    """The columns of ``manifest.parquet`` in one of `READABLE_VERSIONS`."""
    return MANIFEST_SCHEMA if version == SCHEMA_VERSION else _MANIFEST_SCHEMA_2


def read_manifest(
    file: Path | bytes,
    columns: Sequence[str] = tuple(MANIFEST_SCHEMA.names),
    split: Split | None = None,
) -> pa.Table:
    """Columns of a manifest as `MANIFEST_SCHEMA` describes them, whatever schema it was written in.

    Args:
        file: the path of ``manifest.parquet``, or its content.
        columns: names of those that are wanted; no others are read.
        split: whose rows are wanted; by default all.

    Raises:
        ArrowException: the file is damaged, or lacks a column.
    """

    def opened() -> Any:
        return pa.BufferReader(file) if isinstance(file, bytes) else file

    present = pq.read_schema(opened()).names
    old = "objects" not in present
    stored = [name for name in columns if not (old and name in ("objects", "captions"))]
    if old and "objects" in columns:
        stored += [name for name in ("label", "boxes") if name in present and name not in stored]
    rows = None if split is None else [("split", "=", split)]
    table = pq.read_table(opened(), columns=stored, filters=rows)
    return (upgraded(table) if old else table).select(list(columns))


def upgraded(manifest: pa.Table) -> pa.Table:
    """A manifest of schema 2, or some of its columns, with objects and captions of schema 3.

    Each box is an object of the image's class that is not difficult, and there are no captions.
    """
    rows = len(manifest)
    if "boxes" in manifest.column_names:
        boxes = manifest["boxes"].combine_chunks()
        lengths = pc.fill_null(pc.list_value_length(boxes), 0).to_numpy()
        corners = boxes.flatten()
        labels = np.repeat(manifest["label"].to_numpy(), lengths)
        columns = [
            pa.array(labels, pa.int32()),
            *(corners.field(corner) for corner in CORNERS),
            pa.array(np.zeros(len(labels), np.bool_)),
        ]
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        objects = pa.ListArray.from_arrays(
            offsets, pa.StructArray.from_arrays(columns, fields=list(OBJECT))
        )
    else:
        objects = pa.array([[]] * rows)
    for name, values in (("objects", objects), ("captions", pa.array([[]] * rows))):
        field = MANIFEST_SCHEMA.field(name)
        manifest = manifest.append_column(field, values.cast(field.type))
    return manifest
