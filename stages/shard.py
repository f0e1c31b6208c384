"""shard: from archives as people hold them to WebDataset tars with a manifest.

The images' original bytes are kept. Samples are shuffled over the whole split, so that reading the
shards one after the other is already a fair order. The folder appears whole or not at all.
"""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.dataset import MANIFEST_SCHEMA, DatasetInfo, Samples, Split, Statistics, write_info
from stages.errors import PipelineError
from stages.images import decode_square, open_image
from stages.sources import Source, SourceImage

SHARD_BYTES = 256 << 20
STATISTICS_IMAGES = 10_000
MEAN_IMAGE_SIDE = 256

Progress = Callable[[str, int, int], None]  # (what, done, of)


def shard(
    source: Source,
    destination: Path,
    *,
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda what, done, of: None,
) -> DatasetInfo:
    """Write a source as a data set folder.

    Args:
        source: from `stages.sources.open_source`.
        destination: the folder to make; must not exist.
        seed: of the order of the samples.
        shard_bytes: a shard is closed when it has reached this size.
        progress: called now and then with what is being done, how many images are done, and of how many.

    Returns:
        What ``dataset.json`` then says.

    Raises:
        PipelineError: too little room, or an image that cannot be read. Nothing is left behind.
    """
    partial = destination.with_name(f".{destination.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an earlier run that was killed
    partial.mkdir(parents=True)
    try:
        _check_room(source, partial)
        rows: list[dict[str, Any]] = []
        splits: tuple[Split, ...] = ("train", "val")
        labels = {item.synset: label for label, item in enumerate(source.classes)}
        for split in splits:
            images = [image for image in source.images if image.split == split]
            order = np.random.default_rng([seed, len(images)]).permutation(len(images))
            shuffled = [images[i] for i in order]
            rows += _write_split(shuffled, labels, partial, shard_bytes, progress)
        table = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
        pq.write_table(table, partial / "manifest.parquet")
        statistics, mean_image = _statistics(partial, table, progress)
        np.save(partial / "mean_image.npy", mean_image, allow_pickle=False)
        info = DatasetInfo(
            name=source.name,
            digest=_digest(rows),
            source=source.form,
            counts={split: sum(row["split"] == split for row in rows) for split in splits},
            classes=source.classes,
            statistics=statistics,
        )
        write_info(partial, info)
        partial.rename(destination)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return info


def _check_room(source: Source, folder: Path) -> None:
    # A tar pads a member to 512 bytes and gives it and its label a header each.
    needed = sum(image.size + 2048 for image in source.images) + (64 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PipelineError(
            f"{source.name} needs {needed / 2**30:.1f} GiB for its shards and {folder.parent} "
            f"has {free / 2**30:.1f} GiB",
            "free some room, or point --workspace at a larger disk",
        )


def _write_split(
    images: Sequence[SourceImage],
    labels: dict[str, int],
    folder: Path,
    shard_bytes: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with _ShardWriter(folder, images[0].split, shard_bytes) as writer:
        for done, image in enumerate(images):
            data = image.read()
            header = open_image(data, image.origin)
            label = labels[image.synset]
            name, offset = writer.add(image.key, data, label)
            rows.append(
                {
                    "key": image.key,
                    "split": image.split,
                    "label": label,
                    "synset": image.synset,
                    "shard": name,
                    "offset": offset,
                    "size": len(data),
                    "width": header.width,
                    "height": header.height,
                    "format": header.format,
                    "mode": header.mode,
                    "source": image.origin,
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
            )
            if done % 1000 == 999 or done + 1 == len(images):
                progress(f"{image.split} images", done + 1, len(images))
    return rows


class _ShardWriter:
    """Writes WebDataset tars one after the other. A context manager.

    webdataset's own writer tells no offsets, and those are what random access needs.
    """

    def __init__(self, folder: Path, split: Split, shard_bytes: int) -> None:
        self._folder, self._split, self._shard_bytes = folder, split, shard_bytes
        self._tar: tarfile.TarFile | None = None
        self._number = 0

    def __enter__(self) -> "_ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, key: str, image: bytes, label: int) -> tuple[str, int]:
        """Add a sample; returns its shard's name and the offset of the image's first byte in it."""
        if self._tar is None or self._tar.offset >= self._shard_bytes:
            self._close()
            path = self._folder / f"{self._split}-{self._number:06d}.tar"
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self._number += 1
        offset = self._tar.offset + tarfile.BLOCKSIZE
        for extension, data in (("jpg", image), ("cls", str(label).encode())):
            header = tarfile.TarInfo(f"{key}.{extension}")
            header.size = len(data)
            self._tar.addfile(header, io.BytesIO(data))
        return f"{self._split}-{self._number - 1:06d}.tar", offset

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            with open(str(self._tar.name), "rb") as file:
                os.fsync(file.fileno())


def _digest(rows: Sequence[dict[str, Any]]) -> str:
    """Names the content whatever the order and the shards: every key, label and image."""
    lines = sorted(f"{row['split']} {row['key']} {row['label']} {row['sha256']}\n" for row in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def _statistics(
    folder: Path, table: pa.Table, progress: Progress
) -> tuple[Statistics, NDArray[np.float32]]:
    """Mean image, channel means and principal components from the first training images.

    The shards' order is random, so the first STATISTICS_IMAGES are a fair sample; for ILSVRC's
    1.28 million that leaves the mean of a pixel within about 0.7 grey levels.
    """
    train = table.filter(pc.field("split") == "train").slice(0, STATISTICS_IMAGES)
    short_sides = np.minimum(train["width"].to_numpy(), train["height"].to_numpy())
    side = min(MEAN_IMAGE_SIDE, int(np.median(short_sides)))
    samples = Samples(folder, train)
    total = np.zeros((3, side, side))
    products = np.zeros((3, 3))
    for index, key in enumerate(samples.keys):
        pixels = decode_square(samples.read(index), side, key).astype(np.float32)
        total += pixels
        flat = pixels.reshape(3, -1)
        products += flat @ flat.T
        if index % 1000 == 999 or index + 1 == len(samples):
            progress("pixel statistics", index + 1, len(samples))
    samples.close()
    pixels_seen = len(samples) * side * side
    mean = total.sum(axis=(1, 2)) / pixels_seen
    values, vectors = np.linalg.eigh(products / pixels_seen - np.outer(mean, mean))
    order = np.argsort(values)[::-1]
    statistics = Statistics(
        images=len(samples),
        mean=tuple(mean.tolist()),
        eigenvalues=tuple(values[order].tolist()),
        eigenvectors=tuple(tuple(vectors[:, i].tolist()) for i in order),
    )
    return statistics, (total / len(samples)).astype(np.float32)
