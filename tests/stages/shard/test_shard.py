"""Shards hold the original bytes, plain WebDataset reads them, and they appear whole or not at all."""

import contextlib
import hashlib
import io
import subprocess
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import ExifTags, Image

from stages import embedded
from stages.dataset import Box, is_dataset
from stages.errors import PipelineError
from stages.load.samples import Dataset
from stages.parallel import processes
from stages.shard import PRELOAD, Resize, shard
from stages.sources import open_source
from stages.sources.source import SourceObject
from tests.conftest import command


def test_original_bytes_at_the_manifest_offsets(source: Path, dataset: Dataset) -> None:
    originals = {}
    for image in open_source(source).images:
        originals[image.name.removesuffix(".JPEG")] = (image.read(), image.synset)
    for split in ("train", "val"):
        samples = dataset.samples(split)
        for index, key in enumerate(samples.keys):
            data, synset = originals.pop(key)
            assert samples.read(index) == data
            assert dataset.info.classes[samples.labels[index]].synset == synset
    assert not originals


def test_plain_webdataset_reads_the_shards(dataset: Dataset) -> None:
    manifest = pq.read_table(dataset.root / "manifest.parquet").to_pylist()
    shards = sorted(
        {str(dataset.root / row["shard"]) for row in manifest if row["split"] == "train"}
    )
    assert len(shards) > 1
    read = {s["__key__"]: s for s in webdataset.WebDataset(shards, shardshuffle=False)}
    rows = [row for row in manifest if row["split"] == "train"]
    assert set(read) == {row["key"] for row in rows}
    for row in rows:
        assert hashlib.sha256(read[row["key"]]["jpg"]).hexdigest() == row["sha256"]
        assert int(read[row["key"]]["cls"]) == row["label"]


def test_labels_are_places_among_the_sorted_synsets(dataset: Dataset) -> None:
    synsets = [item.synset for item in dataset.info.classes]
    assert synsets == sorted(synsets)
    for row in pq.read_table(dataset.root / "manifest.parquet").to_pylist():
        assert synsets[row["label"]] == row["synset"]


def test_samples_are_shuffled_over_the_split(dataset: Dataset) -> None:
    labels = dataset.samples("train").labels
    assert (np.diff(labels) != 0).sum() > len(labels) / 2


def test_statistics_are_those_of_the_pixels(dataset: Dataset) -> None:
    samples = dataset.samples("train")
    images = []
    for index in range(len(samples)):
        with (dataset.root / "x.jpg").open("wb") as file:
            file.write(samples.read(index))
        images.append(np.asarray(Image.open(dataset.root / "x.jpg").convert("RGB"), np.float64))
    (dataset.root / "x.jpg").unlink()
    pixels = np.stack(images).reshape(-1, 3)
    statistics = dataset.info.statistics
    assert np.allclose(statistics.mean, pixels.mean(axis=0), atol=1e-3)
    covariance = np.cov(pixels.T, bias=True)
    vectors = np.array(statistics.eigenvectors)
    rebuilt = vectors.T @ np.diag(statistics.eigenvalues) @ vectors
    assert np.allclose(rebuilt, covariance, rtol=1e-3, atol=0.5)
    assert np.allclose(
        dataset.mean_image.transpose(1, 2, 0), np.stack(images).mean(axis=0), atol=1e-3
    )


def test_timm_reads_the_shards(dataset: Dataset) -> None:
    from timm.data.readers.reader_wds import ReaderWds

    for split, theirs in (("train", "train"), ("val", "validation")):
        samples = dataset.samples(split)
        reader = ReaderWds(str(dataset.root), split=theirs)
        read = [(np.asarray(image), label) for image, label in reader]
        assert len(read) == reader.num_samples == len(samples)
        for index, (pixels, label) in enumerate(read):
            assert label == samples.labels[index]
            expected = Image.open(io.BytesIO(samples.read(index))).convert("RGB")
            assert (pixels == np.asarray(expected)).all()


def test_the_seed_changes_the_order_and_not_the_content(source: Path, tmp_path: Path) -> None:
    found = open_source(source)
    shard(found, tmp_path / "a", shard_bytes=50_000)
    shard(found, tmp_path / "b", shard_bytes=50_000, seed=1)
    first, other = Dataset(tmp_path / "a"), Dataset(tmp_path / "b")
    assert first.info.digest == other.info.digest
    assert first.samples("train").keys != other.samples("train").keys


def test_shards_are_cut_by_bytes(dataset: Dataset) -> None:
    sizes = [file.bytes for file in dataset.info.shards if file.name.startswith("train")]
    assert all(100_000 < size < 250_000 for size in sizes[:-1])  # of small images much is padding
    for file in dataset.info.shards:
        data = (dataset.root / file.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)
        with tarfile.open(dataset.root / file.name) as tar:
            assert len(tar.getmembers()) == 2 * file.samples


# What is odd about each file, what becomes of it and what is noted of it.
FATES = {
    "plain": ("kept", []),
    "grey": ("kept", ["grayscale"]),
    "progressive": ("kept", ["progressive"]),
    "rotated": ("kept", ["exif-rotated"]),
    "broken_exif": ("kept", ["exif-broken"]),
    "trailing": ("kept", []),
    "cmyk": ("converted", ["cmyk"]),
    "png": ("converted", ["png"]),
    "palette": ("converted", ["png"]),
    "gif": ("converted", ["gif"]),
    "bmp": ("converted", ["bmp"]),
    "webp": ("converted", ["webp"]),
    "ppm": ("converted", ["ppm"]),
    "truncated": ("refused", "truncated or damaged"),
    "cut_in_header": ("refused", "not an image"),
    "empty": ("refused", "empty"),
    "html": ("refused", "HTML"),
    "random": ("refused", "not an image"),
    "one_pixel": ("refused", "one pixel wide or high"),
    "deep": ("refused", "pixels of mode I;16"),
}


def odd_files() -> dict[str, bytes]:
    """A file of each kind, all of them to be named .JPEG."""
    x, y = np.meshgrid(np.arange(96), np.arange(80))
    pixels = np.stack([x * 2, y * 3, x + y], axis=2).astype(np.uint8)
    image = Image.fromarray(pixels)

    def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    plain = encoded(image, quality=90)
    return {
        "plain": plain,
        "grey": encoded(image.convert("L")),
        "progressive": encoded(image, progressive=True),
        "rotated": encoded(image, exif=turned),
        "broken_exif": encoded(image, exif=b"Exif\0\0corrupted by a bad editor"),
        "trailing": plain + b"\0\0camera",
        "cmyk": encoded(image.convert("CMYK")),
        "png": encoded(image, "PNG"),
        "palette": encoded(image.convert("P"), "PNG"),
        "gif": encoded(image, "GIF"),
        "bmp": encoded(image, "BMP"),
        "webp": encoded(image, "WEBP", lossless=True),
        "ppm": encoded(image, "PPM"),
        "truncated": plain[: len(plain) // 2],
        "cut_in_header": plain[:100],
        "empty": b"",
        "html": b"\n<!DOCTYPE html><title>This photo is no longer available</title>",
        "random": np.random.default_rng(0).bytes(1000),
        "one_pixel": encoded(image.resize((1, 1))),
        "deep": encoded(Image.fromarray(x.astype(np.uint16) * 600), "PNG"),
    }


def folder_of(files: dict[str, bytes], root: Path) -> Path:
    """A source of one class with these files as its training images."""
    for split in ("train", "val"):
        (root / split / "n01440764").mkdir(parents=True)
    for name, data in files.items():
        (root / "train" / "n01440764" / f"{name}.JPEG").write_bytes(data)
    (root / "val" / "n01440764" / "val.JPEG").write_bytes(odd_files()["plain"])
    return root


@pytest.mark.parametrize("resize", [None, Resize(32)])
def test_every_odd_file_has_its_fate(tmp_path: Path, resize: Resize | None) -> None:
    files = odd_files()
    source = open_source(folder_of(files, tmp_path / "source"))
    info = shard(source, tmp_path / "data", resize=resize)
    rows = {row["source"]: row for row in manifest_of(tmp_path / "data") if row["split"] == "train"}
    rejects = pq.read_table(tmp_path / "data" / "rejects.parquet").to_pylist()
    reasons = {row["source"]: row for row in rejects}
    assert rows.keys() | reasons.keys() == {f"train/n01440764/{name}.JPEG" for name in files}
    samples = Dataset(tmp_path / "data").samples("train")
    stored = {key: samples.read(index) for index, key in enumerate(samples.keys)}
    for name, (plain_fate, noted) in FATES.items():
        # What is noted of a file is the same where it is made smaller.
        fate = "resized" if resize is not None and plain_fate != "refused" else plain_fate
        source, digest = f"train/n01440764/{name}.JPEG", hashlib.sha256(files[name]).hexdigest()
        if fate == "refused":
            assert (reasons[source]["reason"], reasons[source]["original_sha256"]) == (
                noted,
                digest,
            )
            continue
        row = rows[source]
        assert (row["fate"], row["flags"], row["format"]) == (fate, noted, "JPEG"), name
        data = stored[row["key"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        if fate == "kept":
            assert data == files[name]
            assert row["original_sha256"] is None
        else:
            assert row["original_sha256"] == digest
            assert row["mode"] == ("L" if "grayscale" in noted else "RGB")
            before, after = (
                Image.open(io.BytesIO(image)).convert("RGB") for image in (files[name], data)
            )
            difference = np.asarray(after, np.float32) - np.asarray(before.resize(after.size))
            assert np.abs(difference).mean() < 6, name
    counted = Counter(row["fate"] for row in manifest_of(tmp_path / "data"))
    assert info.fates == {
        "kept": 0,
        "converted": 0,
        "resized": 0,
        "refused": len(rejects),
        **counted,
    }
    assert info.flags["png"] == 2


def test_workers_and_interruptions_leave_no_trace(tmp_path: Path) -> None:
    """Of files that are kept, converted, made smaller and refused."""
    files = odd_files()
    for name, format in (("plain", "JPEG"), ("png", "PNG")):
        small = io.BytesIO()
        Image.open(io.BytesIO(files[name])).resize((48, 40)).save(small, format)
        files[f"small_{name}"] = small.getvalue()
    found = open_source(folder_of(files, tmp_path / "source"))
    options = {"shard_bytes": 5_000, "resize": Resize(64)}
    info = shard(found, tmp_path / "alone", **options)
    assert all(info.fates.values())
    assert len(info.shards) > 4
    shard(found, tmp_path / "together", **options, pmap=processes(2, PRELOAD))
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")

    class StoppedError(Exception):
        pass

    def stop(what: str, done: int, of: int) -> None:
        raise StoppedError

    for _ in range(2):
        with pytest.raises(StoppedError):
            shard(found, tmp_path / "stopped", **options, progress=stop)
    assert not is_dataset(tmp_path / "stopped")
    shard(found, tmp_path / "stopped", **options)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "alone")


def test_netpbm_files_are_a_source(tmp_path: Path) -> None:
    colour = Image.open(io.BytesIO(odd_files()["png"]))
    for split in ("train", "val"):
        folder = tmp_path / "source" / split / "n01440764"
        folder.mkdir(parents=True)
        colour.save(folder / "colour.ppm")
        colour.convert("L").save(folder / "grey.pgm")
    info = shard(open_source(tmp_path / "source"), tmp_path / "data")
    assert info.fates == {"kept": 0, "converted": 4, "resized": 0, "refused": 0}
    rows = {row["source"]: row for row in manifest_of(tmp_path / "data")}
    noted = {Path(name).name: (row["mode"], row["flags"]) for name, row in rows.items()}
    assert noted == {"colour.ppm": ("RGB", ["ppm"]), "grey.pgm": ("L", ["grayscale", "ppm"])}
    assert {row["format"] for row in rows.values()} == {"JPEG"}


def test_a_png_that_says_so_is_kept(tmp_path: Path) -> None:
    data = odd_files()["png"]
    source = folder_of({}, tmp_path / "source")
    (source / "train" / "n01440764" / "a.png").write_bytes(data)
    shard(open_source(source), tmp_path / "data")
    dataset = Dataset(tmp_path / "data")
    assert dataset.samples("train").read(0) == data
    sample = next(
        iter(webdataset.WebDataset(str(tmp_path / "data" / "train-000000.tar"), shardshuffle=False))
    )
    assert sample["png"] == data


def test_pixels_that_end_early_inside_a_whole_file_are_found_when_asked_for(tmp_path: Path) -> None:
    damaged = odd_files()["png"]
    damaged = damaged[:60] + damaged[-40:]  # its end marker is there
    source = folder_of({"plain": odd_files()["plain"]}, tmp_path / "source")
    (source / "train" / "n01440764" / "a.png").write_bytes(damaged)
    with pytest.raises(PipelineError, match="--check-pixels"):
        shard(open_source(source), tmp_path / "unchecked")
    info = shard(open_source(source), tmp_path / "checked", check_pixels=True)
    assert info.fates["refused"] == 1


def test_too_many_refused_files_stop_the_run(tmp_path: Path) -> None:
    files = {f"bad_{i}": b"<html>" for i in range(11)} | {"plain": odd_files()["plain"]}
    source = open_source(folder_of(files, tmp_path / "source"))
    with pytest.raises(PipelineError, match=r"11 files .* more than the 10 .* \(HTML\)"):
        shard(source, tmp_path / "data")
    assert not is_dataset(tmp_path / "data")
    assert len(pq.read_table(tmp_path / "data" / "rejects.parquet")) == 11
    with pytest.raises(PipelineError, match="11 files"):  # going on changes nothing
        shard(source, tmp_path / "data")


def test_resizing_keeps_the_picture_and_tells_the_loss(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8))
    image = small.resize((90, 60), Image.Resampling.BICUBIC)
    files = {}
    for name, size in (("large", (90, 60)), ("tall", (60, 91)), ("small", (40, 30))):
        buffer = io.BytesIO()
        image.resize(size).save(buffer, "JPEG", quality=95)
        files[name] = buffer.getvalue()
    found = open_source(folder_of(files, tmp_path / "source"))
    around_a_part = SourceObject("n01440764", Box(15, 15, 59, 29))
    boxed = tuple(replace(item, objects=(around_a_part,)) for item in found.images)
    info = shard(replace(found, images=boxed), tmp_path / "data", resize=Resize(32))
    rows = {Path(row["source"]).stem: row for row in manifest_of(tmp_path / "data")}
    assert {name: (row["width"], row["height"], row["fate"]) for name, row in rows.items()} == {
        "large": (48, 32, "resized"),
        "tall": (32, 48, "resized"),
        "small": (40, 30, "kept"),
        "val": (38, 32, "resized"),
    }
    # From the edges 15 and 60 to 8 and 32; the last pixel is the one before the edge.
    for name, box in (("large", (8, 8, 31, 15)), ("small", (15, 15, 59, 29))):
        (found,) = rows[name]["objects"]
        assert tuple(found.values()) == (0, *box, False)
    assert rows["large"]["original_sha256"] == hashlib.sha256(files["large"]).hexdigest()
    samples = Dataset(tmp_path / "data").samples("train")
    stored = Image.open(io.BytesIO(samples.read(samples.keys.index(rows["large"]["key"]))))
    expected = Image.open(io.BytesIO(files["large"])).resize((48, 32), Image.Resampling.BICUBIC)
    difference = np.asarray(stored, np.float32) - np.asarray(expected, np.float32)
    assert 10 * np.log10(255**2 / np.square(difference).mean()) > 25
    assert info.resizing is not None
    assert (info.resizing.short_side, info.resizing.images) == (32, 3)
    assert 25 < info.resizing.psnr_worst <= info.resizing.psnr_median < 60


def test_only_missing_shards_of_a_finished_data_set_are_rebuilt(
    source: Path, tmp_path: Path
) -> None:
    found = open_source(source)
    info = shard(found, tmp_path / "data", shard_bytes=50_000)
    whole = contents(tmp_path / "data")
    (tmp_path / "data" / "train-000001.tar").unlink()
    untouched = (tmp_path / "data" / "train-000000.tar").stat()
    assert shard(found, tmp_path / "data", shard_bytes=50_000) == info
    assert contents(tmp_path / "data") == whole
    assert (tmp_path / "data" / "train-000000.tar").stat() == untouched
    # Cut short, as it is too where a run was killed before it saw that a shard came out differently.
    with (tmp_path / "data" / "train-000001.tar").open("r+b") as file:
        file.truncate(20_000)
    assert shard(found, tmp_path / "data", shard_bytes=50_000) == info
    assert contents(tmp_path / "data") == whole
    assert (tmp_path / "data" / "train-000000.tar").stat() == untouched
    with pytest.raises(PipelineError, match="made with other options"):
        shard(found, tmp_path / "data", shard_bytes=60_000)


def test_a_source_that_has_changed_since_is_noticed(tmp_path: Path) -> None:
    files = odd_files()
    source = folder_of({"plain": files["plain"]}, tmp_path / "source")
    shard(open_source(source), tmp_path / "data")
    (tmp_path / "data" / "train-000000.tar").unlink()
    other = bytearray(files["plain"])
    other[-3] ^= 1
    (source / "train" / "n01440764" / "plain.JPEG").write_bytes(other)
    with pytest.raises(PipelineError, match="files have changed"):
        shard(open_source(source), tmp_path / "data")
    assert not (tmp_path / "data" / "train-000000.tar").exists()


def test_other_peoples_files_are_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(PipelineError, match="is not empty"):
        shard(open_source(source), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_pixels_once_looked_at_are_not_looked_at_again(source: Path, tmp_path: Path) -> None:
    found = open_source(source)
    expected = shard(found, tmp_path / "whole", shard_bytes=50_000)

    class StoppedError(Exception):
        pass

    def stop(what: str, done: int, of: int) -> None:
        if what == "pixel statistics":
            raise StoppedError

    with pytest.raises(StoppedError):
        shard(found, tmp_path / "data", shard_bytes=50_000, progress=stop)
    for path in (tmp_path / "data").glob("train-*.tar"):
        path.write_bytes(b"")  # which nobody could find a mean in
    assert shard(found, tmp_path / "data", shard_bytes=50_000) == expected


def test_two_runs_at_once_in_one_folder(source: Path, tmp_path: Path) -> None:
    found = open_source(source)

    def second(what: str, done: int, of: int) -> None:
        with pytest.raises(PipelineError, match="another run"):
            shard(found, tmp_path / "data")

    shard(found, tmp_path / "data", progress=second)


def test_too_little_room_is_said_before_writing(source: Path, tmp_path: Path) -> None:
    found = open_source(source)
    image = found.images[0]
    huge = replace(found, images=(replace(image, location=replace(image.location, size=1 << 60)),))
    with pytest.raises(PipelineError, match=r"needs \d+\.\d GiB"):
        shard(huge, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_something_to_go_on_with(source: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("may not mount a small disk")
    try:
        found = open_source(source)
        filling = disk / "filling"

        def fill(what: str, done: int, of: int) -> None:
            with contextlib.suppress(OSError), filling.open("wb") as file:
                while True:
                    file.write(bytes(1 << 14))

        with pytest.raises(PipelineError, match=r"no space is left for .*/data/"):
            shard(found, disk / "data", shard_bytes=50_000, progress=fill)
        finished = list((disk / "data").glob("*.tar"))
        assert finished
        assert not is_dataset(disk / "data")
        before = {path.name: path.stat().st_mtime_ns for path in finished}
        filling.unlink()
        shard(found, disk / "data", shard_bytes=50_000)
        after = {path.name: path.stat().st_mtime_ns for path in finished}
        assert after == before
        shard(found, tmp_path / "data", shard_bytes=50_000)
        assert contents(disk / "data") == contents(tmp_path / "data")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_ray_tasks_write_the_same_bytes(source: Path, tmp_path: Path) -> None:
    options = ["--shard-bytes", "50000"]
    ray = command("pipeline.shard", source, tmp_path / "ray", *options, "--launcher", "ray")
    assert ray.returncode == 0, ray.stderr
    inline = command("pipeline.shard", source, tmp_path / "inline", *options, "--workers", "1")
    assert inline.returncode == 0, inline.stderr
    assert contents(tmp_path / "ray") == contents(tmp_path / "inline")
    checked = command("pipeline.verify", tmp_path / "ray", "--launcher", "ray")
    assert checked.returncode == 0, checked.stderr
    too_many = command(
        "pipeline.shard", source, tmp_path / "x", "--launcher", "ray", "--workers", "999"
    )
    assert too_many.returncode == 2
    assert "999 workers need 999 CPUs" in too_many.stderr


def test_the_embedded_images_are_a_source(tmp_path: Path) -> None:
    painted = tmp_path / "workspace" / "sources" / "embedded-24"
    embedded.generate(painted, train_per_class=2, val_per_class=1)  # all of them take 10 seconds
    workspace = {"PIPELINE_WORKSPACE": str(tmp_path / "workspace")}
    done = command("pipeline.shard", "embedded", tmp_path / "data", "--workers", 1, **workspace)
    assert done.returncode == 0, done.stderr
    assert Dataset(tmp_path / "data").info == shard(open_source(painted), tmp_path / "expected")

    missing = command("pipeline.shard", tmp_path / "nowhere", tmp_path / "other")
    assert missing.returncode == 2
    assert "say embedded for the embedded images" in missing.stderr


@pytest.mark.slow
def test_the_embedded_images_are_generated_once(tmp_path: Path) -> None:
    workspace = {"PIPELINE_WORKSPACE": str(tmp_path / "workspace")}
    for name in ("first", "second"):
        done = command("pipeline.shard", "embedded", tmp_path / name, **workspace)
        assert done.returncode == 0, done.stderr
        assert ("generating" in done.stdout) == (name == "first")
    assert Dataset(tmp_path / "second").info.counts == {"train": 4800, "val": 600}


def test_a_damaged_data_set_says_so(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"schema_version": 99}')
    with pytest.raises(PipelineError, match="schema version 99"):
        Dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(PipelineError, match="not a readable data set"):
        Dataset(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def manifest_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of its manifest."""
    rows: list[dict[str, Any]] = pq.read_table(folder / "manifest.parquet").to_pylist()
    return rows
