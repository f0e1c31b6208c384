"""What people annotated of images: objects in XML files, captions in JSON files."""

import json
import math
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from stages.dataset import CORNERS, Box
from stages.errors import PipelineError
from stages.sources.source import FETCH_AGAIN, SourceObject
from stages.storage import Folder

CAPTIONS = "captions.json"

LARGEST_XML = 1 << 20
# Of pixels: what is larger is not a place in an image, and float32 has whole numbers up to it.
_LARGEST_NUMBER = 1 << 24

Objects = tuple[SourceObject, ...]


def objects_in_archive(folder: Folder, name: str) -> dict[str, Objects]:
    """The objects of one of ILSVRC's ``bbox`` archives, a gzipped tar of one XML file per image.

    Returns:
        Them, by the name of their image without its suffix.

    Raises:
        PipelineError: it is damaged, or a member is not an annotation.
    """
    return dict(_members(folder, name))


def _members(folder: Folder, name: str) -> Iterator[tuple[str, Objects]]:
    try:
        with folder.open_input(name) as file, tarfile.open(fileobj=file, mode="r|gz") as archive:
            for member in archive:
                match = re.search(r"(?:^|/)((?!\._)[^/]+)\.xml$", member.name)
                if match is None or not member.isreg():
                    continue
                where = f"{member.name!r} in {folder}/{name}"
                if member.size > LARGEST_XML:
                    raise PipelineError(f"{where} has {member.size:,} bytes", FETCH_AGAIN)
                content = archive.extractfile(member)
                assert content is not None
                yield match[1], parse_objects(content.read(), where)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PipelineError(
            f"{folder}/{name} is truncated or not a gzipped tar: {error}", FETCH_AGAIN
        ) from error


def parse_objects(
    xml: bytes, where: str, *, to_manifest: Callable[[float], float] = round
) -> Objects:
    """The objects of one annotation in PASCAL VOC's form, which is ILSVRC's too.

    Args:
        xml: the file.
        where: for the error's text.
        to_manifest: what a corner means in the manifest's convention. ILSVRC's are whole pixels in it, as
            far as they are not fractions by accident; PASCAL counts from 1.

    Returns:
        All of them; the synset is empty where the annotation leaves the object's name out.

    Raises:
        PipelineError: it is something else. A document type is refused too: annotations have none, and
            its entities are the way to make a small file fill the memory.
    """
    try:
        if b"<!" in xml or b"\0" in xml:
            raise ValueError("it declares a document type, or is not UTF-8")
        return tuple(
            SourceObject(
                (item.findtext("name") or "").strip(),
                make_box([box.findtext(corner, "") for corner in CORNERS], to_manifest),
                _flag(item.findtext("difficult") or "0"),
            )
            for item in ElementTree.fromstring(xml).iterfind("object")
            for box in item.iterfind("bndbox")
        )
    except (ElementTree.ParseError, ValueError) as error:
        raise PipelineError(f"{where} is not an annotation: {error}", FETCH_AGAIN) from error


def make_box(corners: Iterable[Any], to_manifest: Callable[[float], float] = round) -> Box:
    """A box in the manifest's convention from four numbers, given as such or as text.

    Args:
        corners: xmin, ymin, xmax, ymax.
        to_manifest: what one of them means in that convention.

    Raises:
        ValueError: one is not a number, or too large for a place in an image.
    """
    numbers = [float(corner) for corner in corners]
    for number in numbers:
        if not (math.isfinite(number) and abs(number) < _LARGEST_NUMBER):
            raise ValueError(f"a box has the corner {number}")
    return Box(*map(to_manifest, numbers))


def _flag(text: str) -> bool:
    if text.strip() not in ("0", "1"):
        raise ValueError(f"difficult is {text!r}, neither 0 nor 1")
    return text.strip() == "1"


def of_class(objects: Objects, synset: str) -> Objects:
    """The same objects; those whose annotation leaves the name out are of their image's class."""
    if all(item.synset for item in objects):
        return objects
    return tuple(item if item.synset else replace(item, synset=synset) for item in objects)


def captions_beside(folder: Folder) -> dict[str, tuple[str, ...]]:
    """The captions that may lie beside archives in `CAPTIONS`: a list of sentences by image file.

    Raises:
        PipelineError: the file holds something else.
    """
    if not folder.exists(CAPTIONS):
        return {}
    try:
        captions = json.loads(folder.read(CAPTIONS))
        if not isinstance(captions, dict):
            raise ValueError("it is not an object of lists by file name")
        return {name: sentences(value) for name, value in captions.items()}
    except (ValueError, RecursionError) as error:
        raise PipelineError(
            f"{folder}/{CAPTIONS} cannot be read: {error}",
            "it needs a list of sentences for each image file's name; or remove it",
        ) from error


def sentences(texts: Any) -> tuple[str, ...]:
    """Captions as they were written; empty ones say nothing and are left out.

    Raises:
        ValueError: they are not a list of texts that can be stored.
    """
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"captions are not a list of texts but {str(texts)[:40]!r}")
    for text in texts:
        text.encode()  # half a surrogate pair is text to JSON, and to nobody else
    return tuple(text for text in texts if text.strip())
