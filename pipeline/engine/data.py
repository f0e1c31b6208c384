"""The images that a command works on: located, and sharded if they are not yet."""

import functools
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.command_line import EMBEDDED
from pipeline.engine.progress import Progress
from pipeline.engine.workspace import Workspace
from stages import embedded
from stages.dataset import DatasetInfo, is_dataset, read_info
from stages.load.samples import mirror
from stages.parallel import processes
from stages.shard import SHARD_BYTES, shard
from stages.sources import Source, check_source, open_source
from stages.storage import is_url, open_folder

_GENERATED = f"embedded-{len(embedded.CLASSES)}"


@dataclass(frozen=True)
class Located:
    """The images that a command works on, before or after they were sharded.

    Attributes:
        dataset: where the data set is, or will be.
        source: what to make it from; None if it is finished.
        name: the name of the data set.
        counts: how many images are in each split.
        classes: how many there are.
        bytes: how much the shards will take; 0 if they exist.
    """

    dataset: Path
    source: Source | None
    name: str
    counts: Mapping[str, int]
    classes: int
    bytes: int


@dataclass(frozen=True)
class Prepared:
    """A finished data set.

    Attributes:
        folder: where it is.
        info: its description.
    """

    folder: Path
    info: DatasetInfo


def check(source: str) -> None:
    """Refuse what is not a source of images, before any work starts.

    Raises:
        PipelineError: see `stages.sources.check_source`.
    """
    if source != EMBEDDED:
        check_source(source)


def generated(workspace: Workspace, progress: Progress) -> str:
    """The folder of the embedded images, which are generated if it does not exist yet."""
    folder = workspace.sources / _GENERATED
    with workspace.lock(_GENERATED):
        if not folder.is_dir():
            progress.line("shard", f"generating the embedded images in {folder}")
            embedded.generate(folder)
    return str(folder)


def locate(source: str, workspace: Workspace, progress: Progress, *, redo: bool = False) -> Located:
    """Find the images that a command works on.

    Args:
        source: a folder, a URL, or the word for the embedded images, which are generated if necessary.
        workspace: where data sets live.
        progress: where it prints what was found.
        redo: delete a data set made from them earlier; a data set given as the source stays.

    Raises:
        PipelineError: see `stages.sources.open_source`.
    """
    if source == EMBEDDED:
        source = generated(workspace, progress)
    if is_dataset(source):
        if is_url(source):
            return _mirrored(source, workspace, progress, redo)
        dataset = Path(source.removeprefix("file://")).absolute()
    else:
        dataset = workspace.dataset(source)
        if redo:
            shutil.rmtree(dataset, ignore_errors=True)
    if is_dataset(dataset):
        progress.line("shard", f"finished before, skipped: {dataset}")
        info = read_info(dataset)
        return Located(dataset, None, info.name, info.counts, len(info.classes), 0)
    opened = open_source(source)
    counts = {
        split: sum(image.split == split for image in opened.images) for split in ("train", "val")
    }
    size = sum(image.size for image in opened.images)
    return Located(dataset, opened, opened.name, counts, len(opened.classes), size)


def _mirrored(url: str, workspace: Workspace, progress: Progress, redo: bool) -> Located:
    """A data set in an object store: its shards are downloaded as they are read."""
    folder = open_folder(url)
    info = read_info(folder)
    root = workspace.mirror(info)
    if redo:
        shutil.rmtree(root, ignore_errors=True)
    limit = mirror(url, root)
    progress.line(
        "shard",
        f"{folder} is downloaded as it is read; at most {limit / 2**30:.1f} GiB of it is kept in {root}",
    )
    return Located(root, None, info.name, info.counts, len(info.classes), 0)


def prepare(located: Located, workspace: Workspace, progress: Progress) -> Prepared:
    """The data set, sharded now if it does not exist yet."""
    if located.source is None:
        return Prepared(located.dataset, read_info(located.dataset))
    with workspace.lock(located.dataset.name):
        progress.line("shard", f"{located.name} -> {located.dataset}")
        # No more processes than shards: a small set would be finished before they have started.
        pmap = processes(max(1, min(located.bytes // SHARD_BYTES, os.cpu_count() or 1)))
        count = functools.partial(progress.count, "shard")
        info = shard(located.source, located.dataset, pmap=pmap, progress=count)
        for line in summary(info):
            progress.line("shard", line)
    return Prepared(located.dataset, info)


def summary(info: DatasetInfo) -> list[str]:
    """What happened to the source's files, as lines of text."""
    counts = " + ".join(f"{count:,} {split}" for split, count in info.counts.items())
    lines = [
        f"{counts} images of {len(info.classes)} classes in {len(info.shards)} shards, "
        f"digest {info.digest}",
        ", ".join(f"{count:,} {fate}" for fate, count in info.fates.items() if count),
    ]
    if info.flags:
        lines.append(
            "noted: " + ", ".join(f"{count:,} {flag}" for flag, count in info.flags.items())
        )
    if info.fates["refused"]:
        lines.append("refused files, with reasons: rejects.parquet")
    if info.resizing and info.resizing.psnr_median is not None:
        lines.append(
            f"short side {info.resizing.short_side} at JPEG quality {info.resizing.quality}: median PSNR "
            f"{info.resizing.psnr_median:.1f} dB, {info.resizing.psnr_worst:.1f} dB at the "
            f"5th percentile, against the resized pixels"
        )
    return lines
