"""PASCAL VOC: ``VOCdevkit/VOC2007``, unpacked or in the tars VOCtrainval and VOCtest as downloaded.

The training images are those of ``trainval`` and the validation images those of ``test``, as everybody
reports them. An image has objects and no class of its own; one without objects stays. VOC counts pixels
from 1 and the manifest from 0 (see `stages.dataset.OBJECT`), so every corner is one less than in the XML.
"""

import re
from collections.abc import Iterator

from stages.dataset import Split
from stages.errors import PipelineError
from stages.sources.annotations import parse_objects
from stages.sources.source import FETCH_AGAIN, Layout, Source, SourceImage, image_name, make_source
from stages.sources.tars import tars_that_begin_with
from stages.sources.trees import Tree, packed_tree, unpacked_tree
from stages.storage import Folder

TOP = "VOCdevkit"
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

_YEAR = re.compile(r"VOC20\d\d")
_LISTS: dict[Split, str] = {"train": "trainval", "val": "test"}
_PARTS = ("Annotations/", "ImageSets/", "JPEGImages/")
_GIVE = (
    f"unpack both VOCtrainval and VOCtest of one year into one folder, and give the folder that holds "
    f"{TOP}/; or give the folder that holds the two tars"
)


def _matches(folder: Folder) -> bool:
    names = set(folder.children())
    return bool(
        f"{TOP}/" in names
        or names.issuperset(_PARTS)
        or any(_YEAR.fullmatch(name.rstrip("/")) for name in names if name.endswith("/"))
        or _tars(folder)
    )


def _tars(folder: Folder) -> list[str]:
    return tars_that_begin_with(folder, re.compile(f"{TOP}/"))


def _check(folder: Folder) -> None:
    if f"{TOP}/" in folder.children():
        year = _one_year(str(folder), [name.rstrip("/") for name in folder.children(TOP)])
        below = f"{TOP}/{year}"
        missing = [name for name in _PARTS if name not in folder.children(below)]
        lists = [f"ImageSets/Main/{name}.txt" for name in _LISTS.values()]
        missing += [name for name in lists if not folder.exists(f"{below}/{name}")]
        if missing:
            raise PipelineError(
                f"{folder}/{below} has no {' and no '.join(name.rstrip('/') for name in missing)}",
                _GIVE,
            )
    elif not _tars(folder):
        raise PipelineError(f"{folder} looks like PASCAL VOC but has no {TOP}/", _GIVE)


def _one_year(where: str, names: list[str]) -> str:
    years = sorted({name for name in names if _YEAR.fullmatch(name)})
    if len(years) != 1:
        held = " and ".join(years) or "no VOC2007"
        raise PipelineError(
            f"{where} holds {held} in {TOP}/, but a data set is one year's images", _GIVE
        )
    return years[0]


def _read(folder: Folder) -> Source:
    if f"{TOP}/" in folder.children():
        tree = unpacked_tree(folder, [TOP])
    else:
        tree = packed_tree(folder, _tars(folder))
    paths = (path.split("/") for path in tree.files)
    year = _one_year(tree.where, [path[1] for path in paths if path[0] == TOP and len(path) > 2])
    below = f"{TOP}/{year}"
    keys = {split: _keys(tree, f"{below}/ImageSets/Main/{_LISTS[split]}.txt") for split in _LISTS}
    if both := set(keys["train"]) & set(keys["val"]):
        raise PipelineError(
            f"{len(both):,} images of {tree.where} are in trainval and in test, first {min(both)}",
            "make the two lists of images disjoint, as they are published",
        )
    images = [image for split in _LISTS for image in _images(tree, below, split, keys[split])]
    form = f"{LAYOUT.form} {year.removeprefix('VOC')}"
    return make_source(folder, form, images, {}, classes=CLASSES)


def _keys(tree: Tree, path: str) -> list[str]:
    if path not in tree.files:
        raise PipelineError(f"{tree.where} has no {path}", _GIVE)
    try:
        lines = tree.read(path).decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise PipelineError(
            f"{tree.where}/{path} is not a list of images: {error}", FETCH_AGAIN
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _images(tree: Tree, below: str, split: Split, keys: list[str]) -> Iterator[SourceImage]:
    for key in keys:
        image, annotation = f"{below}/JPEGImages/{key}.jpg", f"{below}/Annotations/{key}.xml"
        for path in (image, annotation):
            if path not in tree.files:
                raise PipelineError(
                    f"{tree.where} lists the {_LISTS[split]} image {key!r} but has no {path}",
                    FETCH_AGAIN,
                )
        xml = tree.read(annotation)
        objects = parse_objects(
            xml, f"{tree.where}/{annotation}", to_manifest=lambda corner: corner - 1
        )
        yield SourceImage(split, None, image_name(image), tree.files[image], objects)


LAYOUT = Layout("PASCAL VOC", _matches, _check, _read, labelled=lambda folder: False)
