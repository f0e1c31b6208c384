"""The stage: what is finished stays, what is missing is made, and ``dataset.json`` comes last.

While it runs the folder holds whole shards under their final names and, in ``_work``, what is known of
each. A shard counts as finished once its rows are there. So a run that was killed, or found the disk
full, resumes with the missing shards, and the outcome has the same bytes as if nothing had happened.
"""

import contextlib
import fcntl
import functools
import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.dataset import (
    MANIFEST_SCHEMA,
    REJECTS_SCHEMA,
    DatasetInfo,
    Fate,
    Resizing,
    ShardFile,
    Split,
    info_json,
    read_info,
)
from stages.errors import PipelineError
from stages.parallel import ParallelMap, alone
from stages.shard.plan import SHARD_BYTES, PlannedShard, fingerprint, plan
from stages.shard.quality import Resize
from stages.shard.spool import spool, spooled_bytes
from stages.shard.statistics import pixel_statistics
from stages.shard.write import WORK, ShardTask, read_rows, rows_name, write_shard
from stages.sources import Source
from stages.storage import Folder, open_folder

# More refused files than this are not a few bad images but a source that was damaged on its way here.
MOST_REFUSED = 10
MOST_REFUSED_SHARE = 0.001

# timm's name for what ILSVRC calls val.
TIMM_SPLITS = {"train": "train", "val": "validation"}

_PLAN = f"{WORK}/plan"
_SEALED = "_dataset.json"

Progress = Callable[[str, int, int], None]  # (what, done, total)


def shard(
    source: Source,
    destination: Path | str,
    *,
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    resize: Resize | None = None,
    check_pixels: bool = False,
    pmap: ParallelMap = alone,
    progress: Progress = lambda what, done, total: None,
) -> DatasetInfo:
    """Write a source as a data set folder, or resume an unfinished one.

    Called for a finished folder it rebuilds the shards that are missing from it or were cut short, and no
    others.

    Args:
        source: from `stages.sources.open_source`.
        destination: path or URL of the folder to make: absent, empty, or begun by the same call.
        seed: of the order of the samples.
        shard_bytes: a shard is closed when its files reach this size in the source.
        resize: re-encode to a smaller size; by default the original bytes are kept.
        check_pixels: decode every image, and refuse what does not decode.
        pmap: writes the shards.
        progress: called from time to time with what is being done, how many images are done, and how many
            there are.

    Returns:
        What ``dataset.json`` then says.

    Raises:
        PipelineError: no space, something else in the folder, more refused files than `MOST_REFUSED` and
            `MOST_REFUSED_SHARE`, or storage that fails. What is finished stays for the next try.
    """
    folder = open_folder(destination)
    shards = plan(source, seed, shard_bytes)
    identity = fingerprint(shards, resize, check_pixels)
    tasks = [ShardTask(item, folder, resize, check_pixels) for item in shards]
    if folder.exists(_SEALED):
        with _alone_in(folder):
            _seal(folder)
    if folder.exists("dataset.json"):
        version = read_info(folder).schema_version
        identity = fingerprint(shards, resize, check_pixels, version)
        _repair(folder, identity, tasks, pmap, progress)
        return read_info(folder)
    if resize is None:  # else nobody knows how small the images become
        _check_space(folder, _missing(folder, tasks))
    _begin(folder, identity, lambda: fingerprint(shards, resize, check_pixels, schema_version=2))
    with _alone_in(folder):
        _write_missing(source, folder, tasks, pmap, progress)
        info = _describe(source, folder, identity, tasks, pmap, progress)
        folder.write_atomic(_SEALED, info_json(info))
        _seal(folder)
    return info


def _begin(folder: Folder, identity: str, earlier: Callable[[], str]) -> None:
    """Claim the folder; ``earlier`` gives the same plan's identity in schema 2."""
    if folder.exists(_PLAN):
        begun = folder.read(_PLAN).decode()
        if begun == identity:
            return
        if begun != earlier():
            raise PipelineError(
                f"{folder} holds an unfinished data set of another source or made with other options",
                "finish that one with its own command, name another folder, or delete it",
            )
        # Rows of schema 2 lack what belongs in those of today, so every shard is written again.
        with _alone_in(folder):
            _remove_work(folder)
            folder.write_atomic(_PLAN, identity.encode())
    elif folder.children():
        raise PipelineError(
            f"{folder} is not empty, and no data set was begun there",
            "name a folder that does not exist yet",
        )
    else:
        folder.write_atomic(_PLAN, identity.encode())


@contextlib.contextmanager
def _alone_in(folder: Folder) -> Iterator[None]:
    """Keep other runs out of the folder, and sweep what a killed one was writing. Only on a disk."""
    if folder.path is None:
        yield
        return
    descriptor = os.open(folder.path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError(
                f"{folder} is being written by another run", "wait for it, or end it"
            ) from None
        for path in folder.path.rglob(".*.partial"):
            path.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def _write_missing(
    source: Source,
    folder: Folder,
    tasks: Sequence[ShardTask],
    pmap: ParallelMap,
    progress: Progress,
) -> None:
    missing = _missing(folder, tasks)
    if missing:
        copied = spool(folder, tasks, pmap, functools.partial(progress, "images copied"))
        missing = _missing(folder, copied)
    total = len(source.images)
    done = total - sum(len(task.shard.samples) for task in missing)
    refused = sum(len(_refused(read_rows(folder, item)[0])) for item in _finished(folder, tasks))
    limit = max(MOST_REFUSED, int(MOST_REFUSED_SHARE * total))
    with contextlib.closing(pmap(write_shard, missing)) as results:
        for written, more in results:
            done += written.samples + more
            refused += more
            progress("images", done, total)
            if refused > limit:
                break
    if refused > limit:
        _stop(source, folder, tasks, limit)


def _finished(folder: Folder, tasks: Sequence[ShardTask]) -> list[PlannedShard]:
    rows = folder.list(WORK)
    return [task.shard for task in tasks if rows_name(task.shard) in rows]


def _missing(folder: Folder, tasks: Sequence[ShardTask]) -> list[ShardTask]:
    rows = folder.list(WORK)
    return [task for task in tasks if rows_name(task.shard) not in rows]


def _check_space(folder: Folder, missing: Sequence[ShardTask]) -> None:
    if folder.path is None:
        return
    # A tar pads a member to 512 bytes and gives it and its label a header each.
    shards = sum(task.shard.source_bytes + 2048 * len(task.shard.samples) for task in missing)
    needed = shards + spooled_bytes(missing) + (64 << 20)
    standing = next(path for path in (folder.path, *folder.path.parents) if path.exists())
    free = shutil.disk_usage(standing).free
    if free < needed:
        raise PipelineError(
            f"{folder} needs {needed / 2**30:.1f} GiB more for its shards, but its disk has "
            f"{free / 2**30:.1f} GiB free",
            "free some space, or name a folder on a larger disk",
        )


def _stop(source: Source, folder: Folder, tasks: Sequence[ShardTask], limit: int) -> None:
    """End for too many refused files, having listed those known by now."""
    parts = [_refused(read_rows(folder, item)[0]) for item in _finished(folder, tasks)]
    refused = pa.concat_tables(parts)
    folder.write_atomic("rejects.parquet", _parquet(refused))
    first = refused.slice(0, 1).to_pylist()[0]
    raise PipelineError(
        f"{len(refused)} files of {source.name} are not usable images, more than the {limit} that are "
        f"tolerated: first {first['source']} ({first['reason']})",
        f"see {folder}/rejects.parquet for all of them; fetch the source again, delete {folder}, and run "
        f"the same command",
    )


def _describe(
    source: Source,
    folder: Folder,
    identity: str,
    tasks: Sequence[ShardTask],
    pmap: ParallelMap,
    progress: Progress,
) -> DatasetInfo:
    """Write everything except the shards and `dataset.json`, and return the latter's content."""
    parts = [read_rows(folder, task.shard) for task in tasks]
    files = tuple(file for _, file in parts)
    rows = pa.concat_tables(table for table, _ in parts)
    used = rows.filter(pc.field("reason").is_null())
    manifest, refused = used.select(MANIFEST_SCHEMA.names), _refused(rows)
    folder.write_atomic("rejects.parquet", _parquet(refused))
    statistics, mean_image = pixel_statistics(
        folder, manifest, pmap, lambda done, total: progress("pixel statistics", done, total)
    )
    splits = Counter(manifest["split"].to_pylist())
    fates = Counter(manifest["fate"].to_pylist())
    flags = Counter(pc.list_flatten(manifest["flags"]).to_pylist())
    array = io.BytesIO()
    np.save(array, mean_image, allow_pickle=False)
    folder.write_atomic("mean_image.npy", array.getvalue())
    content = _parquet(manifest)
    folder.write_atomic("manifest.parquet", content)
    folder.write_atomic("_info.json", timm_info(source.name, files))
    return DatasetInfo(
        name=source.name,
        digest=content_digest(manifest),
        manifest_sha256=hashlib.sha256(content).hexdigest(),
        source=source.form,
        plan=identity,
        counts={split: splits[split] for split in get_args(Split)},
        fates={**{fate: fates[fate] for fate in get_args(Fate)}, "refused": len(refused)},
        flags=dict(sorted(flags.items())),
        resizing=_resizing(tasks[0].resize, used),
        shards=files,
        classes=source.classes,
        statistics=statistics,
        labelled=source.labelled,
    )


def _refused(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.field("reason").is_valid()).select(REJECTS_SCHEMA.names)


def _resizing(resize: Resize | None, rows: pa.Table) -> Resizing | None:
    if resize is None:
        return None
    images = pc.sum(pc.equal(rows["fate"], "resized")).as_py()
    measured = rows["psnr"].drop_null().to_numpy()
    median, worst = np.percentile(measured, [50, 5]).tolist() if len(measured) else (None, None)
    return Resizing(resize.short_side, resize.quality, images, median, worst)


def content_digest(manifest: pa.Table) -> str:
    """Twelve digits that name the content whatever the order and the shards: every key, label and image.

    They are in the names of runs, so that a data set must keep them. A sample that has a label is what it
    always was, an image and its label: a classifier trained on it stays the same whether or not somebody puts
    boxes or captions beside the archives. A sample without one is identified by its objects and
    captions as well, for they are all that can be learnt from it.
    """
    columns = (manifest[name].to_pylist() for name in ("split", "key", "label", "sha256"))
    annotated = iter(_annotations(manifest.filter(pc.field("label").is_null())))
    lines = sorted(
        f"{split} {key} {next(annotated) if label is None else label} {sha}\n"
        for split, key, label, sha in zip(*columns, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def _annotations(rows: pa.Table) -> Iterator[str]:
    for row in rows.select(["objects", "captions"]).to_pylist():
        # A damaged manifest may lack them, and is to have another digest rather than none.
        objects = [list(item.values()) for item in row["objects"] or () if item is not None]
        yield json.dumps([objects, row["captions"]])


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def timm_info(name: str, files: Sequence[ShardFile]) -> bytes:
    """``_info.json``, from which timm's WebDataset reader knows splits and sizes."""
    splits = {}
    for split, theirs in TIMM_SPLITS.items():
        shards = [file for file in files if file.name.startswith(f"{split}-")]
        splits[theirs] = {
            "name": theirs,
            "num_samples": sum(file.samples for file in shards),
            "filenames": [file.name for file in shards],
            "shard_lengths": [file.samples for file in shards],
        }
    return (json.dumps({"name": name, "splits": splits}, indent=1) + "\n").encode()


def _seal(folder: Folder) -> None:
    """Remove what was only needed on the way, and give ``dataset.json`` its name."""
    _remove_work(folder)
    if folder.path is not None:
        (folder.path / _SEALED).rename(folder.path / "dataset.json")
    else:
        folder.write_atomic("dataset.json", folder.read(_SEALED))
        folder.remove(_SEALED)


def _remove_work(folder: Folder) -> None:
    if folder.path is not None:
        shutil.rmtree(folder.path / WORK, ignore_errors=True)
    else:
        for name in folder.list(WORK):
            folder.remove(name)


def _repair(
    folder: Folder, identity: str, tasks: Sequence[ShardTask], pmap: ParallelMap, progress: Progress
) -> None:
    """Rebuild the shards that are missing from a finished data set, or not of their size."""
    info = read_info(folder)
    if info.plan != identity:
        raise PipelineError(
            f"{folder} is a data set of another source or made with other options",
            "name another folder, or delete that one",
        )
    present = folder.list()
    whole = {file.name for file in info.shards if present.get(file.name) == file.bytes}
    missing = [task for task in tasks if task.shard.name not in whole]
    with _alone_in(folder):
        missing = spool(folder, missing, pmap, functools.partial(progress, "images copied"))
        for done, (written, _) in enumerate(pmap(write_shard, missing), 1):
            if written not in info.shards:
                folder.remove(written.name)
                raise PipelineError(
                    f"{written.name} cannot be rebuilt identically: the source's files have changed",
                    f"delete {folder} and run the same command, which rebuilds it",
                )
            progress("missing shards", done, len(missing))
        _remove_work(folder)
