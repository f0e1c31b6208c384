"""A data set that `stages.shard` wrote, to be sharded again: in another size, say, or in another order."""

import pyarrow as pa

from stages.dataset import CORNERS, Box, read_info, read_manifest
from stages.errors import PipelineError
from stages.sources.locations import Span
from stages.sources.numbered import UNCHECKED
from stages.sources.source import Layout, Source, SourceImage, SourceObject, make_source
from stages.storage import Folder

MANIFEST = "manifest.parquet"
_COLUMNS = ["key", "split", "synset", "shard", "offset", "size", "format", "objects", "captions"]


def _matches(folder: Folder) -> bool:
    return "dataset.json" in folder.children()


def _check(folder: Folder) -> None:
    if MANIFEST not in folder.children():
        raise PipelineError(f"{folder} has no {MANIFEST}", "copy the data set's folder again")


def _read(folder: Folder) -> Source:
    info = read_info(folder)
    synsets = [item.synset for item in info.classes]
    try:
        rows = read_manifest(folder.read(MANIFEST), _COLUMNS).to_pylist()
        images = [
            SourceImage(
                row["split"],
                row["synset"],
                f"{row['key']}.{row['format']}",
                Span(folder, row["shard"], row["offset"], row["size"]),
                tuple(
                    SourceObject(
                        synsets[item["label"]],
                        Box(*(item[corner] for corner in CORNERS)),
                        item["difficult"],
                    )
                    for item in row["objects"] or ()
                ),
                tuple(row["captions"] or ()),
            )
            for row in rows
        ]
    except (pa.ArrowException, IndexError, TypeError) as error:
        raise PipelineError(
            f"{folder}/{MANIFEST} is damaged: {error}", "copy the data set's folder again"
        ) from error
    # What was not known of the labels is still not known.
    form = f"{LAYOUT.form}; {UNCHECKED}" if info.source.endswith(UNCHECKED) else LAYOUT.form
    known = {item.synset: item for item in info.classes}
    return make_source(folder, form, images, known, classes=synsets)


LAYOUT = Layout(
    "a data set of this project",
    _matches,
    _check,
    _read,
    labelled=lambda folder: read_info(folder).labelled,
)
