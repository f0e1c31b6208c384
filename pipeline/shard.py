"""Make WebDataset shards of images in whatever form they are at hand.

python -m pipeline.shard SRC DEST
"""

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pipeline.engine import command_line as cli
from stages.parallel import Runner, processes

if TYPE_CHECKING:
    from stages.dataset import DatasetInfo


@dataclass(frozen=True)
class Options:
    """Make WebDataset shards of images in whatever form they are at hand: shuffled as a whole, with a
    manifest, readable by webdataset and timm. Stopped or killed, the same command goes on where it was;
    for a finished data set it makes anew the shards that are missing from it or were cut short."""

    source: Annotated[str, tyro.conf.Positional]
    """Folder that holds the images, or a tar of them (path or URL); the word embedded for the images that
    the project paints itself, which it keeps in $PIPELINE_WORKSPACE, else ./workspace, and takes from there
    the next time."""
    destination: Annotated[str, tyro.conf.Positional]
    """Folder to make (path or URL)."""
    launcher: Literal["ray", "inline"] = "inline"
    """Write the shards in processes of this machine, or as Ray tasks."""
    workers: int | None = None
    """Shards written at a time (default: one a CPU)."""
    resize: int | None = None
    """Re-encode to this short side in pixels, e.g. 256 or 512 (default: keep the original bytes)."""
    quality: int = 92
    """JPEG quality of --resize."""
    shard_bytes: int = 256 << 20
    """Bytes of source files in a shard."""
    seed: int = 0
    """Of the order of the samples."""
    check_pixels: bool = False
    """Decode every image, and refuse what does not decode (slow)."""
    debug: bool = False
    """Show the stack trace of an error."""


@contextlib.contextmanager
def runner(
    launcher: Literal["ray", "inline"], workers: int | None, preload: Sequence[str] = ()
) -> Iterator[Runner]:
    """Who does the work that a command line asks for; ``preload`` as for `stages.parallel.processes`."""
    if launcher == "inline":
        yield processes(workers or os.cpu_count() or 1, preload)
        return
    from cluster.session import session
    from cluster.shard import ray_tasks

    with session() as resources:
        yield ray_tasks(workers, resources)


def _shard(options: Options) -> None:
    # Here and not above: --help needs neither Arrow nor numpy.
    from pipeline.engine.progress import Progress
    from stages.shard import PRELOAD, Resize, shard
    from stages.sources import open_source
    from stages.storage import open_folder

    resize = Resize(options.resize, options.quality) if options.resize else None
    with Progress() as progress:
        where = options.source
        if where == cli.EMBEDDED:
            from pipeline.engine.data import painted
            from pipeline.engine.workspace import Workspace

            where = painted(Workspace.open(None), progress)
        # Not as they were given: a URL may carry credentials.
        progress.line("shard", f"{open_folder(where)} -> {open_folder(options.destination)}")
        source = open_source(where)
        progress.line(
            "shard",
            f"{source.form}: {len(source.images):,} images of {len(source.classes)} classes",
        )
        with runner(options.launcher, options.workers, PRELOAD if resize else ()) as run:
            info = shard(
                source,
                options.destination,
                seed=options.seed,
                shard_bytes=options.shard_bytes,
                resize=resize,
                check_pixels=options.check_pixels,
                run=run,
                progress=functools.partial(progress.count, "shard"),
            )
        for line in summary(info):
            progress.line("shard", line)


def summary(info: "DatasetInfo") -> list[str]:
    """What became of the source's files, for people to read."""
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
        lines.append("refused files and why: rejects.parquet")
    if info.resizing and info.resizing.psnr_median is not None:
        lines.append(
            f"short side {info.resizing.short_side} at JPEG quality {info.resizing.quality} costs: PSNR "
            f"{info.resizing.psnr_median:.1f} dB in the median, {info.resizing.psnr_worst:.1f} dB at the "
            f"5th percentile, against the resized pixels"
        )
    return lines


if __name__ == "__main__":
    cli.main(Options, _shard)
