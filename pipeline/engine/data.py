"""The images that a command is about: found, and sharded where they are not yet."""

import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine import command_line as cli
from pipeline.engine.progress import Progress
from pipeline.engine.workspace import Workspace
from pipeline.shard import summary
from stages import embedded
from stages.dataset import is_dataset, read_info
from stages.load.samples import mirror
from stages.parallel import processes
from stages.shard import SHARD_BYTES, shard
from stages.sources import Source, check_source, open_source
from stages.storage import is_url, open_folder

_PAINTED = f"embedded-{len(embedded.CLASSES)}"


@dataclass(frozen=True)
class Found:
    """The images that a command is about, before or after they were sharded.

    Attributes:
        dataset: where the data set is, or will be.
        source: what to make it from; None where it is finished.
        name: of the data set.
        counts: images in each split.
        classes: how many.
        bytes: that the shards will take; 0 where they are there.
    """

    dataset: Path
    source: Source | None
    name: str
    counts: dict[str, int]
    classes: int
    bytes: int


def painted(workspace: Workspace, progress: Progress) -> str:
    """The folder of the embedded images, which are painted where they are not there yet."""
    source = workspace.sources / _PAINTED
    with workspace.lock(_PAINTED):
        if not source.is_dir():
            progress.line("shard", f"painting the embedded images into {source}")
            embedded.generate(source)
    return str(source)


def check(data: str | None) -> None:
    """Refuse what is no source of images, before anything is begun.

    Raises:
        PipelineError: see `stages.sources.check_source`.
    """
    if data is not None and data != cli.EMBEDDED:
        check_source(data)


def find(
    data: str | None, workspace: Workspace, progress: Progress, *, redo: bool = False
) -> Found:
    """Look at the images that a command is about.

    Args:
        data: a folder or a URL; None or `cli.EMBEDDED` for the embedded images, which are painted if need
            be.
        workspace: where data sets live.
        progress: for what is said.
        redo: forget a data set that was made of them before; one that was given as such stays.

    Raises:
        PipelineError: see `stages.sources.open_source`.
    """
    if data is None or data == cli.EMBEDDED:
        data = painted(workspace, progress)
    if is_dataset(data):
        if is_url(data):
            return _mirrored(data, workspace, progress, redo)
        dataset = Path(data.removeprefix("file://")).absolute()
    else:
        dataset = workspace.dataset(data)
        if redo:
            shutil.rmtree(dataset, ignore_errors=True)
    if is_dataset(dataset):
        progress.line("shard", f"finished before, skipped: {dataset}")
        info = read_info(dataset)
        return Found(dataset, None, info.name, info.counts, len(info.classes), 0)
    source = open_source(data)
    counts = {
        split: sum(image.split == split for image in source.images) for split in ("train", "val")
    }
    size = sum(image.size for image in source.images)
    return Found(dataset, source, source.name, counts, len(source.classes), size)


def _mirrored(url: str, workspace: Workspace, progress: Progress, redo: bool) -> Found:
    """A data set in an object store: its shards come when they are read."""
    folder = open_folder(url)
    info = read_info(folder)
    root = workspace.mirror(info)
    if redo:
        shutil.rmtree(root, ignore_errors=True)
    limit = mirror(url, root)
    progress.line(
        "shard",
        f"{folder} is read as it is needed; at most {limit / 2**30:.1f} GiB of it are kept in {root}",
    )
    return Found(root, None, info.name, info.counts, len(info.classes), 0)


def made(found: Found, workspace: Workspace, progress: Progress) -> Path:
    """The data set, sharded now where it is not there yet."""
    if found.source is None:
        return found.dataset
    with workspace.lock(found.dataset.name):
        progress.line("shard", f"{found.name} -> {found.dataset}")
        # No more processes than shards: a small set is done before they have started.
        run = processes(max(1, min(found.bytes // SHARD_BYTES, os.cpu_count() or 1)))
        count = functools.partial(progress.count, "shard")
        info = shard(found.source, found.dataset, run=run, progress=count)
        for line in summary(info):
            progress.line("shard", line)
    return found.dataset
