"""A data set that `stages.shard` wrote, to be sharded anew: in another size, say, or in another order."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from stages.dataset import Box, read_info
from stages.errors import PipelineError
from stages.sources.locations import Span
from stages.sources.numbered import UNCHECKED
from stages.sources.source import Layout, Source, SourceImage, make_source
from stages.storage import Folder

MANIFEST = "manifest.parquet"
_COLUMNS = ["key", "split", "synset", "shard", "offset", "size", "format"]


def _found(folder: Folder) -> bool:
    return "dataset.json" in folder.children()


def _check(folder: Folder) -> None:
    if MANIFEST not in folder.children():
        raise PipelineError(f"{folder} has no {MANIFEST}", "copy the data set's folder again")


def _read(folder: Folder) -> Source:
    info = read_info(folder)
    classes = {item.synset: item for item in info.classes}
    try:
        manifest = pq.ParquetFile(io.BytesIO(folder.read(MANIFEST)))
        boxed = ["boxes"] if "boxes" in manifest.schema_arrow.names else []
        rows = manifest.read(columns=_COLUMNS + boxed).to_pylist()
    except pa.ArrowException as error:
        raise PipelineError(
            f"{folder}/{MANIFEST} is damaged: {error}", "copy the data set's folder again"
        ) from error
    images = [
        SourceImage(
            row["split"],
            row["synset"],
            f"{row['key']}.{row['format']}",
            Span(folder, row["shard"], row["offset"], row["size"]),
            tuple(Box(**box) for box in row.get("boxes") or ()),
        )
        for row in rows
    ]
    # What nobody knew of the labels is not known now.
    form = f"{LAYOUT.form}; {UNCHECKED}" if info.source.endswith(UNCHECKED) else LAYOUT.form
    return make_source(folder, form, images, classes)


LAYOUT = Layout("a data set of this project", _found, _check, _read)
