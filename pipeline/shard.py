"""Write WebDataset shards from images in any supported layout.

python -m pipeline.shard SRC DEST
"""

import functools
from dataclasses import dataclass
from typing import Annotated

import tyro

from pipeline.engine.command_line import EMBEDDED, LauncherName, Where, check_workers, main


@dataclass(frozen=True)
class Options:
    """Write WebDataset shards from images in any supported layout: shuffled as a whole, with a manifest,
    readable by webdataset and timm. If the command is interrupted, rerun it to resume where it stopped; for
    a finished data set it rebuilds shards that are missing or truncated."""

    source: Annotated[str, tyro.conf.Positional]
    """Folder that holds the images, or a tar of them (path or URL); or the word embedded, for the images
    that the project generates itself, which are kept in $PIPELINE_WORKSPACE, else ./workspace, and reused."""
    destination: Annotated[str, tyro.conf.Positional]
    """Folder to create (path or URL)."""
    launcher: LauncherName = "inline"
    """Write the shards in processes of this machine, or as Ray tasks."""
    workers: int | None = None
    """Shards written at a time (default: one per CPU)."""
    resize: int | None = None
    """Re-encode to this short side in pixels, e.g. 256 or 512 (default: keep the original bytes)."""
    quality: int = 92
    """JPEG quality of --resize."""
    shard_bytes: int = 256 << 20
    """Bytes of source files per shard."""
    seed: int = 0
    """Random seed for shuffling the samples."""
    check_pixels: bool = False
    """Decode every image, and reject images that do not decode (slow)."""


def _shard(options: Options) -> None:
    check_workers(options.workers)
    # Here and not above: --help needs neither Arrow nor numpy.
    from pipeline.engine import data
    from pipeline.engine.launchers import parallel_map
    from pipeline.engine.workbench import Workbench
    from stages.shard import PRELOAD, Resize, shard
    from stages.sources import open_source
    from stages.storage import open_folder

    resize = Resize(options.resize, options.quality) if options.resize else None
    with Workbench(Where()) as bench:
        progress, images = bench.progress, options.source
        if images == EMBEDDED:
            images = data.generated(bench.workspace, progress)
        # Not as they were given: a URL may carry credentials.
        progress.line("shard", f"{open_folder(images)} -> {open_folder(options.destination)}")
        source = open_source(images)
        progress.line(
            "shard",
            f"{source.form}: {len(source.images):,} images of {len(source.classes)} classes",
        )
        preload = PRELOAD if resize else ()
        with parallel_map(options.launcher, options.workers, preload) as pmap:
            info = shard(
                source,
                options.destination,
                seed=options.seed,
                shard_bytes=options.shard_bytes,
                resize=resize,
                check_pixels=options.check_pixels,
                pmap=pmap,
                progress=functools.partial(progress.count, "shard"),
            )
        for line in data.summary(info):
            progress.line("shard", line)


if __name__ == "__main__":
    main(Options, _shard)
