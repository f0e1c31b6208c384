"""Bounding boxes, by the name of their image without its suffix."""

import re
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from stages.dataset import Box
from stages.errors import PipelineError
from stages.sources.source import FETCH_AGAIN
from stages.storage import Folder

_LARGEST_XML = 1 << 20
_CORNERS = ("xmin", "ymin", "xmax", "ymax")

Boxes = dict[str, tuple[Box, ...]]


def boxes_in_archive(folder: Folder, name: str) -> Boxes:
    """The boxes of one of ILSVRC's ``bbox`` archives, a gzipped tar of an XML file an image.

    Raises:
        PipelineError: it is damaged, or a member is no annotation.
    """
    return dict(_annotations(folder, name))


def _annotations(folder: Folder, name: str) -> Iterator[tuple[str, tuple[Box, ...]]]:
    try:
        with folder.open_input(name) as file, tarfile.open(fileobj=file, mode="r|gz") as archive:
            for member in archive:
                match = re.search(r"(?:^|/)((?!\._)[^/]+)\.xml$", member.name)
                if match is None or not member.isreg():
                    continue
                if member.size > _LARGEST_XML:
                    raise PipelineError(
                        f"{member.name!r} in {folder}/{name} has {member.size:,} bytes", FETCH_AGAIN
                    )
                content = archive.extractfile(member)
                assert content is not None
                yield match[1], parse_boxes(content.read(), f"{member.name!r} in {folder}/{name}")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PipelineError(
            f"{folder}/{name} is truncated or no gzipped tar: {error}", FETCH_AGAIN
        ) from error


def parse_boxes(xml: bytes, where: str) -> tuple[Box, ...]:
    """The boxes of one annotation in PASCAL VOC's form, which ILSVRC's is.

    Raises:
        PipelineError: it is something else. A document type is refused too: annotations have none, and
            its entities are the way to make a small file fill the memory.
    """
    try:
        if b"<!" in xml:
            raise ValueError("it declares a document type")
        return tuple(
            Box(*(round(float(box.findtext(corner, ""))) for corner in _CORNERS))
            for box in ElementTree.fromstring(xml).iterfind("object/bndbox")
        )
    except (ElementTree.ParseError, ValueError) as error:
        raise PipelineError(f"{where} is not an annotation: {error}", FETCH_AGAIN) from error
