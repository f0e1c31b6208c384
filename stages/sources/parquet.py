"""Parquet as Hugging Face's ``imagenet-1k`` has it: ``image`` (``bytes`` and ``path``) and ``label``.

The split is the part of a file's path that says ``train`` or ``val`` (``validation``). Files of the test
split are left out: their labels are all -1. Listing reads labels and paths only; the images come row group
by row group (see `stages.sources.locations.ParquetRow`).
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from stages.dataset import Split
from stages.errors import PipelineError
from stages.sources.locations import ParquetRow, parquet_file, read_row_group
from stages.sources.numbered import NumberedImage, numbered_source
from stages.sources.source import FETCH_AGAIN, Layout, Source, image_name, is_image
from stages.storage import Folder

_SPLIT = re.compile(r"(?:^|[/_.-])(train|val|validation|test)(?=[/_.-])")
_PART_OF = re.compile(r"-\d+-of-(\d+)[^/]*$")
_COLUMNS = "columns image (a struct of bytes and path) and label (a whole number)"
_HUB_NAME = re.compile(r"_n\d{8}(?=\.\w+$)")  # the hub ends a file's name with its synset once more


def _matches(folder: Folder) -> bool:
    inside = [*folder.children(), *folder.children("data"), *folder.children("default/train")]
    return any(name.endswith(".parquet") for name in inside) and "manifest.parquet" not in inside


def _check(folder: Folder) -> None:
    _files(folder)


def _files(folder: Folder) -> dict[str, Split | None]:
    """Every Parquet file's split, None for test."""
    files = [name for name in folder.list() if name.endswith(".parquet")]
    splits = {name: _split(folder, name) for name in files}
    for needed in ("train", "val"):
        if needed not in splits.values():
            raise PipelineError(
                f"{folder} has Parquet files but none of the {needed} split",
                "fetch both splits into one folder (data/train-*.parquet, data/validation-*.parquet)",
            )
    parts = Counter(
        (splits[name], int(match[1]))
        for name in files
        if splits[name] and (match := _PART_OF.search(name))
    )
    for (split, total), present in parts.items():
        if present != total:
            raise PipelineError(
                f"{folder} has {present} of the {total} files of the {split} split",
                "fetch the others too",
            )
    return splits


def _read(folder: Folder) -> Source:
    splits = _files(folder)
    images = [
        image
        for file, split in splits.items()
        if split is not None
        for image in _images(folder, file, split)
    ]
    words = _words(folder, next(file for file, split in splits.items() if split == "train"))
    return numbered_source(folder, LAYOUT.form, images, words)


def _split(folder: Folder, name: str) -> Split | None:
    words = _SPLIT.findall(name)
    if not words:
        raise PipelineError(
            f"{folder}/{name} says neither train nor val (validation) nor test",
            "put the split into the file's name, such as train-00000-of-00294.parquet",
        )
    splits: dict[str, Split] = {"train": "train", "val": "val", "validation": "val"}
    return splits.get(words[-1])


def _images(folder: Folder, file: str, split: Split) -> Iterator[NumberedImage]:
    opened = parquet_file(folder, file, os.getpid())
    schema = opened.schema_arrow
    if not (
        {"image", "label"} <= set(schema.names)
        and pa.types.is_struct(schema.field("image").type)
        and schema.field("image").type.get_field_index("bytes") >= 0
        and pa.types.is_integer(schema.field("label").type)
    ):
        raise PipelineError(
            f"{folder}/{file} has the columns {', '.join(schema.names)}, not image and label",
            f"give Parquet files with the {_COLUMNS}",
        )
    if opened.metadata.num_rows == 0:
        raise PipelineError(f"{folder}/{file} holds no row", FETCH_AGAIN)
    has_path = schema.field("image").type.get_field_index("path") >= 0
    for group in range(opened.num_row_groups):
        columns = ["label", "image.path"] if has_path else ["label"]
        table = read_row_group(folder, file, group, columns)
        labels = table["label"].to_pylist()
        paths = (
            table["image"].combine_chunks().field("path").to_pylist()
            if has_path
            else [None] * len(labels)
        )
        meta = opened.metadata.row_group(group)
        size = next(
            meta.column(i).total_uncompressed_size // meta.num_rows
            for i in range(meta.num_columns)
            if meta.column(i).path_in_schema == "image.bytes"
        )
        for row, (label, path) in enumerate(zip(labels, paths, strict=True)):
            if path and is_image(path):
                name = image_name(_HUB_NAME.sub("", path))
            else:
                name = image_name(f"{file.removesuffix('.parquet')}_{group}_{row}.jpg")
            yield NumberedImage(
                split,
                -1 if label is None else label,
                path or file,
                name,
                ParquetRow(folder, file, group, row, size),
            )


def _words(folder: Folder, file: str) -> list[str]:
    """The class names that the ``datasets`` library writes into a file's metadata."""
    metadata = parquet_file(folder, file, os.getpid()).schema_arrow.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return [str(name) for name in features["label"]["names"]]
    except (ValueError, KeyError, TypeError):
        return []  # files written by others have none


LAYOUT = Layout("Parquet (image, label)", _matches, _check, _read)
