"""verify: is a data set still what `stages.shard` made, byte for byte, and does every image decode?

Each finding names what is wrong and what to do about it. A shard that is missing or damaged is deleted and
rebuilt, alone, by the command that made the data set.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.dataset import (
    REJECTS_SCHEMA,
    SCHEMA_VERSION,
    DatasetInfo,
    ShardFile,
    manifest_schema,
    read_info,
    upgraded,
)
from stages.errors import PipelineError
from stages.metrics import IMAGENET
from stages.parallel import ParallelMap, alone
from stages.shard.annotations import check_annotations
from stages.shard.finding import MAKE_AGAIN, MAKE_SHARD, Finding
from stages.shard.quality import RefusedError, prepare
from stages.shard.stage import content_digest, timm_info
from stages.shard.write import BLOCK, tar_sample
from stages.sources.numbered import UNCHECKED
from stages.storage import Folder, open_folder

# Over the lines "synset" of the 1000 classes in the order of the synsets: the one order in which a label
# means what it means to everybody else. Most forms know nothing else of a class.
ILSVRC_SYNSETS_SHA256 = "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15"
# Over the lines "synset ILSVRC2012_ID" in the same order, from the devkit's meta.mat.
ILSVRC_NUMBERS_SHA256 = "40d439448babe9afbc2292eabc7bfff3e356bc506ac4ddccbac1e8ededf12c72"
ILSVRC_VAL_EACH = 50
ILSVRC_TRAIN_EACH = range(732, 1301)

_BESIDE = {"dataset.json", "manifest.parquet", "rejects.parquet", "mean_image.npy", "_info.json"}


def verify(
    root: Path | str,
    *,
    decode: bool = True,
    pmap: ParallelMap = alone,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    note: Callable[[str], None] = lambda text: None,
) -> list[Finding]:
    """Check a data set against its own description.

    Args:
        root: path or URL of the folder.
        decode: decode every image.
        pmap: checks the shards.
        progress: called from time to time with what is being done, how many images are done, and how many
            there are.
        note: called with a sentence about what is odd but no fault.

    Returns:
        What is wrong, in no particular order; empty where all is well.

    Raises:
        PipelineError: there is no finished data set, or its ``dataset.json`` cannot be read.
    """
    folder = open_folder(root)
    info = read_info(folder)
    findings = [*_folder(folder, info), *_classes(info), *_beside(folder, info)]
    tables: list[pa.Table] = []
    for name, schema in (
        ("manifest.parquet", manifest_schema(info.schema_version)),
        ("rejects.parquet", REJECTS_SCHEMA),
    ):
        if folder.exists(name):
            try:
                tables.append(_table(folder, name, schema))
            except PipelineError as error:
                findings.append(Finding(name, error.problem, error.fix))
    if len(tables) < 2:
        return findings  # of the shards nothing can be said without them
    manifest, rejects = tables
    if info.schema_version < SCHEMA_VERSION:
        manifest = upgraded(manifest).select(manifest_schema(SCHEMA_VERSION).names)
    findings += [*_manifest(folder, info, manifest), *_counts(info, manifest, rejects)]
    findings += check_annotations(info, manifest, note)
    present = folder.list()
    known = {file.sha256: file.name for file in info.shards}
    tasks = [
        _Task(folder, file, manifest.filter(pc.field("shard") == file.name), known, decode)
        for file in info.shards
        if file.name in present
    ]
    done = 0
    for samples, shard_findings in pmap(_check_shard, tasks):
        findings += shard_findings
        done += samples
        progress("images checked", done, len(manifest))
    return findings


def _folder(folder: Folder, info: DatasetInfo) -> Iterator[Finding]:
    present = folder.list()
    shards = {file.name for file in info.shards}
    for name in sorted(shards - present.keys()):
        yield Finding(name, "is missing", MAKE_SHARD)
    for name in sorted(_BESIDE - present.keys()):
        yield Finding(name, "is missing", MAKE_AGAIN)
    for name in sorted(present.keys() - shards - _BESIDE):
        yield Finding(name, "does not belong to the data set", "move it elsewhere, or delete it")


def _classes(info: DatasetInfo) -> Iterator[Finding]:
    synsets = [item.synset for item in info.classes]
    if synsets != sorted(set(synsets)):
        yield Finding(
            "dataset.json", "its classes are not in the order of their synsets", MAKE_AGAIN
        )
    numbers = [item.ilsvrc_id for item in info.classes if item.ilsvrc_id is not None]
    digest = _digest(f"{item.synset} {item.ilsvrc_id}" for item in info.classes)
    if len(set(numbers)) < len(numbers) or not set(numbers) <= set(range(1, IMAGENET.classes + 1)):
        yield Finding("dataset.json", "its ILSVRC2012_IDs are not those of a devkit", MAKE_AGAIN)
    elif len(numbers) == IMAGENET.classes and digest != ILSVRC_NUMBERS_SHA256:
        yield Finding(
            "dataset.json",
            "its 1000 classes are not ILSVRC-2012's, or are numbered differently from the devkit: its labels "
            "are not comparable with anyone else's",
            "put the official devkit beside the archives, and make the data set again",
        )
    if info.source.endswith(UNCHECKED):
        yield Finding(
            "dataset.json",
            "its labels are the source's own numbers, whose order nothing confirms: they may not be "
            "comparable with anyone else's",
            "make it again from files whose names hold their synset (n01440764_10026.JPEG) or from one "
            "folder per class; if the order is known to be right, it can be used as it is",
        )


def is_ilsvrc(info: DatasetInfo) -> bool:
    """Whether the classes are ILSVRC-2012's 1000, in the order that everybody uses.

    Their ILSVRC2012_IDs need not be known: only the devkit has them.
    """
    synsets = _digest(item.synset for item in info.classes)
    return info.labelled and synsets == ILSVRC_SYNSETS_SHA256


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _beside(folder: Folder, info: DatasetInfo) -> Iterator[Finding]:
    if folder.exists("_info.json") and folder.read("_info.json") != timm_info(
        info.name, info.shards
    ):
        yield Finding(
            "_info.json", "does not describe these shards: timm would misread them", MAKE_AGAIN
        )
    if folder.exists("mean_image.npy"):
        try:
            image = np.load(io.BytesIO(folder.read("mean_image.npy")), allow_pickle=False)
            sound = np.allclose(image.mean(axis=(1, 2)), info.statistics.mean, atol=0.01)
        except (ValueError, EOFError):
            sound = False
        if not sound:
            yield Finding("mean_image.npy", "is not the mean image of this data set", MAKE_AGAIN)


def _table(folder: Folder, name: str, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.read_table(io.BytesIO(folder.read(name)))
    except pa.ArrowException as error:
        raise PipelineError(f"cannot be read: {error}", MAKE_AGAIN) from error
    if table.schema != schema:
        raise PipelineError("has different columns from a data set's", MAKE_AGAIN)
    return table


def _manifest(folder: Folder, info: DatasetInfo, manifest: pa.Table) -> Iterator[Finding]:
    name = "manifest.parquet"
    if hashlib.sha256(folder.read(name)).hexdigest() != info.manifest_sha256:
        yield Finding(name, "is not the one that was written with the data set", MAKE_AGAIN)
    if content_digest(manifest) != info.digest:
        yield Finding(name, f"does not describe the data set {info.digest}", MAKE_AGAIN)
    synsets = {label: item.synset for label, item in enumerate(info.classes)}
    labels, named = manifest["label"].to_pylist(), manifest["synset"].to_pylist()
    wrong = sum(synsets.get(label) != synset for label, synset in zip(labels, named, strict=True))
    if wrong:
        yield Finding(
            name, f"gives {wrong:,} samples a label that is not their synset's", MAKE_AGAIN
        )
    keys = Counter(zip(manifest["split"].to_pylist(), manifest["key"].to_pylist(), strict=True))
    twice = [key for (_, key), count in keys.items() if count > 1]
    if twice:
        yield Finding(
            name, f"holds {len(twice):,} keys more than once, first {twice[0]}", MAKE_AGAIN
        )


def _counts(info: DatasetInfo, manifest: pa.Table, rejects: pa.Table) -> Iterator[Finding]:
    counted = Counter(manifest["split"].to_pylist())
    for split, count in info.counts.items():
        if counted[split] != count:
            yield Finding(
                "manifest.parquet",
                f"has {counted[split]:,} {split} images, but dataset.json says {count:,}",
                MAKE_AGAIN,
            )
    if len(rejects) != info.fates["refused"]:
        yield Finding(
            "rejects.parquet",
            f"lists {len(rejects):,} files, but dataset.json says {info.fates['refused']:,}",
            MAKE_AGAIN,
        )
    if not info.labelled:
        return  # classes are counted in images
    each = Counter(zip(manifest["split"].to_pylist(), manifest["label"].to_pylist(), strict=True))
    for label, item in enumerate(info.classes):
        if not each["train", label]:
            yield Finding(
                "manifest.parquet",
                f"class {label} ({item.synset}) has no training image",
                "see rejects.parquet for whether they were refused, and fetch the source again",
            )
    if not is_ilsvrc(info):
        return
    # Refused files count: they were in the source.
    each += Counter(zip(rejects["split"].to_pylist(), rejects["label"].to_pylist(), strict=True))
    wrong = [
        label
        for label in range(IMAGENET.classes)
        if each["train", label] not in ILSVRC_TRAIN_EACH or each["val", label] != ILSVRC_VAL_EACH
    ]
    if wrong:
        label = wrong[0]
        yield Finding(
            "manifest.parquet",
            f"{len(wrong):,} classes have a different number of images than in ILSVRC-2012 "
            f"({ILSVRC_TRAIN_EACH[0]} to {ILSVRC_TRAIN_EACH[-1]:,} training and {ILSVRC_VAL_EACH} "
            f"validation images), first class {label} ({info.classes[label].synset}) with "
            f"{each['train', label]:,} and {each['val', label]:,}",
            "the archives were cut short or mixed: fetch them again; a deliberate subset may be used",
        )


@dataclass(frozen=True)
class _Task:
    folder: Folder
    file: ShardFile
    rows: pa.Table
    known: dict[str, str]  # shards by their sha256
    decode: bool


def _check_shard(task: _Task) -> tuple[int, list[Finding]]:
    """How many samples were looked at, and what is wrong. Runs in a worker."""
    file, rows = task.file, task.rows.to_pylist()
    data = task.folder.read(file.name)
    problem = _damage(task, data, rows)
    if problem is not None:
        return len(rows), [Finding(file.name, problem, MAKE_SHARD)]
    strangers = list(_strangers(data, rows))
    if strangers or len(rows) != file.samples:
        first = f", first {strangers[0]}" if strangers else ""
        problem = (
            f"holds {file.samples:,} samples, of which manifest.parquet describes "
            f"{len(rows) - len(strangers):,} correctly{first}"
        )
        return len(rows), [Finding("manifest.parquet", f"{file.name} {problem}", MAKE_AGAIN)]
    if not task.decode:
        return len(rows), []
    return len(rows), [
        Finding(
            file.name,
            f"{row['key']} (from {row['source']}) does not decode: {reason}",
            "fetch the source again; if its own file is damaged, make the data set again with "
            "--check-pixels, which refuses it",
        )
        for row in rows
        if (reason := _undecodable(data[row["offset"] : row["offset"] + row["size"]], row))
        is not None
    ]


def _damage(task: _Task, data: bytes, rows: Sequence[dict[str, Any]]) -> str | None:
    """Why the file is not the one that was written; None where it is."""
    digest = hashlib.sha256(data).hexdigest()
    if digest == task.file.sha256:
        return None
    if digest in task.known:
        return f"has the content of {task.known[digest]}"
    spoilt = [
        row["key"]
        for row in rows
        if hashlib.sha256(data[row["offset"] : row["offset"] + row["size"]]).hexdigest()
        != row["sha256"]
    ]
    length = f"{len(data):,} bytes long instead of {task.file.bytes:,}"
    what = (
        "has different content than was written" if len(data) == task.file.bytes else f"is {length}"
    )
    if not spoilt:
        return f"{what}, all outside its images"
    return f"{what}: {len(spoilt):,} of {len(rows):,} images are damaged or lost, first {spoilt[0]}"


def _strangers(data: bytes, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The keys of rows that do not say what the tar holds, members following one another without gaps."""
    position = 0
    for row in rows:
        start, end = row["offset"], row["offset"] + row["size"]
        image = data[start:end]
        sample = b"".join(tar_sample(row["key"], row["format"], image, row["label"]))
        if not (
            data.startswith(sample, position)
            and start == position + BLOCK
            and hashlib.sha256(image).hexdigest() == row["sha256"]
        ):
            yield row["key"]
        position += len(sample)


def _undecodable(image: bytes, row: dict[str, Any]) -> str | None:
    try:
        prepared = prepare(image, f"{row['key']}.{row['format']}", check_pixels=True)
    except RefusedError as refused:
        return str(refused)
    if (prepared.width, prepared.height, prepared.mode) != (
        row["width"],
        row["height"],
        row["mode"],
    ):
        return f"it is {prepared.width} x {prepared.height} {prepared.mode}"
    return None
