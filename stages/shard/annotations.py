"""Are a manifest's labels, objects and captions what the data set says that they are?

A box that is odd in a way that `stages.shard.boxes` knows is not a fault: somebody annotated it like that,
and it is noted. It would be a fault had the data set been made without a flag on it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.dataset import CORNERS, SCHEMA_VERSION, Box, DatasetInfo
from stages.shard.boxes import EMPTY, OUTSIDE, noted
from stages.shard.finding import MAKE_AGAIN, Finding

_MANIFEST = "manifest.parquet"
_WORDS = {EMPTY: "an empty box", OUTSIDE: "a box that extends beyond the image"}


def check_annotations(
    info: DatasetInfo, manifest: pa.Table, note: Callable[[str], None]
) -> Iterator[Finding]:
    """What is wrong with labels, objects and captions.

    Args:
        info: of the data set.
        manifest: in the columns of today's schema.
        note: called with a sentence about what is odd but no fault.
    """
    yield from _labels(info, manifest)
    yield from _objects(info, manifest, note)
    captions = manifest["captions"]
    blank = [
        text is None or not text.strip() for text in pc.list_flatten(captions).to_pylist()
    ].count(True)
    if blank or captions.null_count:
        yield Finding(
            _MANIFEST,
            f"has {blank:,} empty captions and {captions.null_count:,} samples without a list of them",
            MAKE_AGAIN,
        )


def _labels(info: DatasetInfo, manifest: pa.Table) -> Iterator[Finding]:
    without = manifest["label"].null_count
    if info.labelled and without:
        yield Finding(
            _MANIFEST,
            f"has {without:,} samples without a label, but dataset.json says that every sample has one",
            MAKE_AGAIN,
        )
    if not info.labelled and without < len(manifest):
        yield Finding(
            _MANIFEST,
            f"has {len(manifest) - without:,} samples with a label, but dataset.json says that none has one",
            MAKE_AGAIN,
        )


def _objects(
    info: DatasetInfo, manifest: pa.Table, note: Callable[[str], None]
) -> Iterator[Finding]:
    rows = manifest.select(["key", "objects", "flags", "width", "height"])
    lengths = pc.list_value_length(rows["objects"])
    if lengths.null_count:
        yield Finding(
            _MANIFEST, f"has {lengths.null_count:,} samples without a list of objects", MAKE_AGAIN
        )
    # Of the samples: how many have which fault or oddity, and the first that has it.
    faults: Counter[str] = Counter()
    odd: Counter[str] = Counter()
    first: dict[str, str] = {}
    for row in rows.filter(pc.fill_null(pc.greater(lengths, 0), False)).to_pylist():
        wrong, oddities = _judge(row, len(info.classes))
        if info.schema_version == SCHEMA_VERSION and oddities != {EMPTY, OUTSIDE} & set(
            row["flags"]
        ):
            wrong = wrong | {"flags that do not match their odd boxes"}
        faults.update(wrong)
        odd.update(oddities)
        for name in (*wrong, *oddities):
            first.setdefault(name, row["key"])
    for name, count in faults.items():
        yield Finding(
            _MANIFEST, f"has {count:,} samples with {name}, first {first[name]}", MAKE_AGAIN
        )
    for name, count in sorted(odd.items()):
        note(f"{count:,} images have {_WORDS[name]} ({name}), first {first[name]}")


def _judge(row: dict[str, Any], classes: int) -> tuple[set[str], set[str]]:
    """What is wrong with a sample's objects, and what is odd about its boxes."""
    wrong: set[str] = set()
    boxes = []
    for item in row["objects"]:
        if item is None or item["difficult"] is None:
            wrong.add("incomplete objects")
            continue
        if item["label"] is None or not 0 <= item["label"] < classes:
            wrong.add("objects whose class is not in the data set")
        corners = [item[corner] for corner in CORNERS]
        if any(corner is None or not math.isfinite(corner) for corner in corners):
            wrong.add("boxes whose corners are not numbers")
        else:
            boxes.append(Box(*corners))
    return wrong, noted(boxes, row["width"], row["height"])
