"""Which sample goes into which shard, before a byte is read: a function of source, seed and size alone.

So the shards are independent pieces of work, and come out the same whoever makes them, in any order.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from stages.dataset import SCHEMA_VERSION, Split
from stages.shard.quality import Resize
from stages.sources import Source, SourceImage

SHARD_BYTES = 256 << 20


@dataclass(frozen=True)
class PlannedSample:
    """An image of the source and its label, None where it has no class of its own."""

    image: SourceImage
    label: int | None


@dataclass(frozen=True)
class PlannedShard:
    """The samples of one tar, in its order.

    Attributes:
        name: of the tar.
        split: train or val.
        samples: what it will hold.
        synsets: of the data set's classes, in the order of the labels.
    """

    name: str
    split: Split
    samples: tuple[PlannedSample, ...]
    synsets: tuple[str, ...]

    @property
    def source_bytes(self) -> int:
        """Of its files in the source."""
        return sum(sample.image.size for sample in self.samples)


def plan(source: Source, seed: int = 0, shard_bytes: int = SHARD_BYTES) -> tuple[PlannedShard, ...]:
    """Shuffle each split as a whole and cut it into shards.

    Args:
        source: from `stages.sources.open_source`.
        seed: of the order.
        shard_bytes: a shard is closed when its files reach this size in the source; re-encoded ones come
            out smaller.
    """
    synsets = tuple(item.synset for item in source.classes)
    labels: dict[str | None, int | None] = {synset: label for label, synset in enumerate(synsets)}
    labels[None] = None
    splits: tuple[Split, ...] = get_args(Split)
    shards: list[PlannedShard] = []
    for split in splits:
        images = [image for image in source.images if image.split == split]
        order = np.random.default_rng([seed, len(images)]).permutation(len(images))
        shuffled = [PlannedSample(images[i], labels[images[i].synset]) for i in order]
        shards += [
            PlannedShard(f"{split}-{number:06d}.tar", split, tuple(samples), synsets)
            for number, samples in enumerate(_cut(shuffled, shard_bytes))
        ]
    return tuple(shards)


def fingerprint(
    shards: Sequence[PlannedShard],
    resize: Resize | None,
    check_pixels: bool,
    schema_version: int = SCHEMA_VERSION,
) -> str:
    """Twelve hexadecimal digits over all that determines the data set's bytes, short of the source's own.

    Those of schema 2 are computed as they were then, so that its data sets are known by them still.
    """
    digest = hashlib.sha256(f"{schema_version} {resize} {check_pixels}\n".encode())
    if schema_version > 2:
        digest.update(f"{shards[0].synsets}\n".encode())
    for shard in shards:
        for sample in shard.samples:
            image = sample.image
            line = f"{shard.name} {image.key} {sample.label} {image.size} "
            if schema_version > 2:
                line += f"{image.objects} {image.captions}\n"
            else:
                line += f"{image.boxes}\n"
            digest.update(line.encode())
    return digest.hexdigest()[:12]


def _cut(samples: Sequence[PlannedSample], shard_bytes: int) -> Iterator[list[PlannedSample]]:
    shard: list[PlannedSample] = []
    size = 0
    for sample in samples:
        shard.append(sample)
        size += sample.image.size
        if size >= shard_bytes:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard
