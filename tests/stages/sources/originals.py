"""The same few images in every layout: what a layout must give back, whatever form it has."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.dataset import Box, Split
from stages.errors import PipelineError
from stages.sources import Source, check_source, open_source

SPLITS: tuple[Split, ...] = ("train", "val")


@dataclass(frozen=True)
class Original:
    """One image as the archives have it; its label is the place among the sorted synsets."""

    split: Split
    synset: str
    label: int
    name: str
    data: bytes
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Originals:
    images: tuple[Original, ...]
    synsets: tuple[str, ...]
    words: dict[str, str]

    def of(self, split: Split) -> Iterator[Original]:
        return (image for image in self.images if image.split == split)


def read_originals(folder: Path) -> Originals:
    found = open_source(folder)
    synsets = tuple(sorted({image.synset for image in found.images}))
    return Originals(
        tuple(
            Original(
                image.split,
                image.synset,
                synsets.index(image.synset),
                image.name,
                image.read(),
                image.boxes,
            )
            for image in found.images
        ),
        synsets,
        {item.synset: item.words for item in found.classes},
    )


def contents(source: Source) -> Counter[tuple[str, int, str]]:
    """Split, label and digest of every image of a source, as read."""
    labels = {item.synset: label for label, item in enumerate(source.classes)}
    found: Counter[tuple[str, int, str]] = Counter()
    for image in source.images:
        data = image.read()
        assert image.size == len(data)
        found[image.split, labels[image.synset], hashlib.sha256(data).hexdigest()] += 1
    return found


def expected(originals: Originals) -> Counter[tuple[str, int, str]]:
    return Counter(
        (image.split, image.label, hashlib.sha256(image.data).hexdigest())
        for image in originals.images
    )


def refused(root: Path | str, problem: str, fix: str) -> None:
    """Opening the source must fail with this problem and this fix (regular expressions)."""
    with pytest.raises(PipelineError, match=problem) as raised:
        open_source(root)
    assert raised.match(fix)
    assert raised.value.fix


def refused_at_once(root: Path | str, problem: str, fix: str) -> None:
    """So must the look at the names alone, before anything is begun."""
    with pytest.raises(PipelineError, match=problem) as raised:
        check_source(root)
    assert raised.match(fix)
    refused(root, problem, fix)
