"""Sharding compared with the writers that people use, on the same archives, in one interleaved run.

python -m benchmarks.sharding FOLDER [--repeat 20]

FOLDER holds official archives; --repeat multiplies the training images, for a folder too small to time.
Everything is read from the page cache and written to --scratch. The cases take turns; seconds are medians
over the runs, and so are the ratios, each taken within a run. webdataset's, litdata's and MosaicML's
writers get the images in the archives' order, which spares them the random reads of a global shuffle; unlike
`shard`, they check, hash and sync nothing. litdata and mosaicml-streaming are skipped if they are not
installed.
"""

import contextlib
import functools
import importlib.util
import io
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image

from stages.parallel import processes
from stages.shard import PRELOAD, SHARD_BYTES, Resize
from stages.shard.plan import plan
from stages.shard.write import ShardTask, write_shard
from stages.sources import TRAIN_ARCHIVE, VAL_ARCHIVE, open_source
from stages.sources.locations import Span
from stages.storage import open_folder


@dataclass(frozen=True)
class Options:
    """Time sharding and the writers that people use."""

    folder: tyro.conf.Positional[Path]
    """The folder with the official archives."""
    repeat: int = 1
    """How many times each training image is used."""
    runs: int = 3
    """The number of runs, whose median is printed."""
    workers: int = 2
    """Processes for the writers that can use several."""
    resize: int = 256
    """Short side for the re-encoding cases; 0 skips them."""
    scratch: Path = Path("scratch")
    """A folder to create, and to remove at the end."""


Case = Callable[[Path], None]  # writes into a folder


def main() -> None:
    options = tyro.cli(Options, description=Options.__doc__)
    options.scratch.mkdir(parents=True)
    try:
        source = _repeated(options.folder, options.scratch / "source", options.repeat)
        images = list(_read_in_order(source))
        size = sum(len(data) for _, data, _ in images)
        print(
            f"{len(images):,} images, {size / 1e6:,.0f} MB, {size / len(images) / 1e3:.0f} kB each; "
            f"Python {platform.python_version()}, {os.cpu_count()} CPUs",
            flush=True,
        )
        del images
        titles: dict[str, Resize | None] = {"original bytes": None}
        if options.resize:
            resize = Resize(options.resize)
            titles[f"short side {resize.short_side}, JPEG quality {resize.quality}"] = resize
        for title, resizing in titles.items():
            # In its own process, because forked workers share whatever the first of them preloaded.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
                cases = _cases(source, options.workers, resizing)
                apart.submit(_compare, title, cases, options, size).result()
    finally:
        shutil.rmtree(options.scratch)


def _compare(title: str, cases: dict[str, Case], options: Options, size: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    turns = deque(cases.items())
    for _ in range(options.runs):
        turns.rotate()  # a large case leaves disk and memory in a different state for the next
        for name, case in turns:
            out = options.scratch / "out"
            os.sync()
            started = time.perf_counter()
            case(out)
            seconds[name].append(time.perf_counter() - started)
            shutil.rmtree(out)
    writer = seconds["webdataset ShardWriter"]
    print(f"\n{title}\n{'':34}{'seconds':>9}{'MB/s':>8}{'vs ShardWriter':>21}")
    for name, times in seconds.items():
        median = statistics.median(times)
        # Within a run, because a machine's speed changes within minutes.
        ratio = statistics.median(theirs / own for theirs, own in zip(writer, times, strict=True))
        print(f"{name:34}{median:9.2f}{size / median / 1e6:8.0f}{ratio:20.2f}x")


def _cases(source: Path, workers: int, resize: Resize | None) -> dict[str, Case]:
    cases: dict[str, Case] = {
        "shard, 1 worker": functools.partial(_shard, source, 1, resize),
        f"shard, {workers} workers": functools.partial(_shard, source, workers, resize),
        "webdataset ShardWriter": functools.partial(_webdataset, source, resize),
    }
    if resize is None:
        cases["cp"] = functools.partial(_copy, source, False)
        cases["cp, synced"] = functools.partial(_copy, source, True)
    if importlib.util.find_spec("streaming"):
        cases["MDSWriter"] = functools.partial(_mds, source, resize)
    if importlib.util.find_spec("litdata"):
        cases["litdata optimize, 1 worker"] = functools.partial(_litdata, source, 1, resize)
        cases[f"litdata optimize, {workers} workers"] = functools.partial(
            _litdata, source, workers, resize
        )
    return cases


def _shard(source: Path, workers: int, resize: Resize | None, out: Path) -> None:
    """The shards alone, since no other writer computes pixel statistics."""
    folder = open_folder(out)
    run = processes(workers, PRELOAD if resize else ())
    shards = plan(open_source(source), shard_bytes=SHARD_BYTES)
    for _ in run(write_shard, [ShardTask(item, folder, resize, False) for item in shards]):
        pass


def _webdataset(source: Path, resize: Resize | None, out: Path) -> None:
    import webdataset  # imports torch, for which the processes of `shard` need not wait

    out.mkdir()
    with webdataset.ShardWriter(f"{out}/%06d.tar", maxsize=SHARD_BYTES, verbose=0) as writer:
        for key, data, label in _read_in_order(source):
            writer.write({"__key__": key, "jpg": _encoded(data, resize), "cls": str(label)})


def _mds(source: Path, resize: Resize | None, out: Path) -> None:
    from streaming import MDSWriter

    columns = {"image": "bytes", "label": "int"}
    with MDSWriter(columns=columns, out=str(out), size_limit=SHARD_BYTES) as writer:
        for _, data, label in _read_in_order(source):
            writer.write({"image": _encoded(data, resize), "label": label})


def _litdata(source: Path, workers: int, resize: Resize | None, out: Path) -> None:
    import litdata

    # Its workers get places, not bytes, as its documentation asks.
    places = [
        (image.location.file, image.location.offset, image.size, image.synset)
        for image in open_source(source).images
        if isinstance(image.location, Span)
    ]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        litdata.optimize(
            fn=functools.partial(_litdata_sample, source, resize),
            inputs=places,
            output_dir=str(out),
            chunk_bytes=SHARD_BYTES,
            num_workers=workers,
            start_method="fork",
            verbose=False,
        )


def _litdata_sample(
    source: Path, resize: Resize | None, place: tuple[str, int, int, str]
) -> dict[str, object]:
    name, offset, size, synset = place
    with (source / name).open("rb") as file:
        file.seek(offset)
        return {"image": _encoded(file.read(size), resize), "label": int(synset[1:])}


def _copy(source: Path, synced: bool, out: Path) -> None:
    out.mkdir()
    subprocess.run(["cp", source / TRAIN_ARCHIVE, source / VAL_ARCHIVE, out], check=True)
    if synced:
        for path in out.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _encoded(data: bytes, resize: Resize | None) -> bytes:
    """The same re-encoding, written the usual way."""
    if resize is None:
        return data
    image = Image.open(io.BytesIO(data)).convert("RGB")
    short = min(image.size)
    if short > resize.short_side:
        width, height = (length * resize.short_side // short for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=resize.quality, subsampling="4:2:0")
    return buffer.getvalue()


def _read_in_order(source: Path) -> Iterator[tuple[str, bytes, int]]:
    """Key, bytes and label of every image, from a tar of tars with tarfile."""
    with tarfile.open(source / TRAIN_ARCHIVE) as outer:
        for label, member in enumerate(outer):
            with tarfile.open(fileobj=outer.extractfile(member)) as inner:
                for image in inner:
                    content = inner.extractfile(image)
                    assert content is not None
                    yield image.name.removesuffix(".JPEG"), content.read(), label
    with tarfile.open(source / VAL_ARCHIVE) as archive:
        for image in archive:
            content = archive.extractfile(image)
            assert content is not None
            yield image.name.removesuffix(".JPEG"), content.read(), 0


def _repeated(folder: Path, destination: Path, times: int) -> Path:
    if times == 1:
        return folder
    destination.mkdir()
    for path in folder.iterdir():
        if path.name != TRAIN_ARCHIVE and not path.name.startswith("ILSVRC2012_bbox"):
            (destination / path.name).symlink_to(path.absolute())
    with (
        tarfile.open(folder / TRAIN_ARCHIVE) as old,
        tarfile.open(destination / TRAIN_ARCHIVE, "w") as new,
    ):
        for member in old:
            buffer = io.BytesIO()
            with (
                tarfile.open(fileobj=old.extractfile(member)) as inner,
                tarfile.open(fileobj=buffer, mode="w") as longer,
            ):
                images = [(image, inner.extractfile(image)) for image in inner]
                contents = [(image, content.read()) for image, content in images if content]
                for turn in range(times):
                    for image, data in contents:
                        header = tarfile.TarInfo(image.name.replace(".", f"{turn:03}."))
                        header.size = len(data)
                        longer.addfile(header, io.BytesIO(data))
            header = tarfile.TarInfo(member.name)
            header.size = buffer.tell()
            buffer.seek(0)
            new.addfile(header, buffer)
    return destination


if __name__ == "__main__":
    main()
