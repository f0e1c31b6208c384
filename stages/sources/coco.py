"""COCO: ``train2017/``, ``val2017/`` and ``annotations/``, unpacked or in one tar.

Objects come from ``instances_*.json`` and captions from ``captions_*.json``; either kind may be left
out. An image has no class of its own, and one without objects stays. The 80 classes are in the order of
their names, as everywhere here, and not in that of COCO's category ids, which have gaps.

COCO describes a box by its corner and its lengths, ``x, y, width, height``, the corner counted from 0; its
last pixel (see `stages.dataset.OBJECT`) is at ``x + width - 1``, as in the code of Fast and Faster R-CNN.
Where a crowd was outlined as one (``iscrowd``) the object is difficult: COCO's own test neither asks for
it nor counts what is found there as wrong. Segmentations are left out.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from stages.dataset import Split
from stages.errors import PipelineError
from stages.sources.annotations import make_box, sentences
from stages.sources.source import (
    FETCH_AGAIN,
    Layout,
    Source,
    SourceImage,
    SourceObject,
    image_name,
    make_source,
)
from stages.sources.tars import tars_that_begin_with
from stages.sources.trees import Tree, packed_tree, unpacked_tree
from stages.storage import Folder

ANNOTATIONS = "annotations"
KINDS = ("instances", "captions")

_SPLITS: tuple[Split, ...] = ("train", "val")
_IMAGES = re.compile(r"(?:train|val)(20\d\d)/")
_ZIP = re.compile(r"(?:(?:train|val)|annotations_trainval)20\d\d\.zip")
_LARGEST_JSON = 1 << 30
_GIVE = (
    "give the folder that holds train2017/, val2017/ and annotations/ with instances_*.json or "
    "captions_*.json of both splits"
)


def _matches(folder: Folder) -> bool:
    names = folder.children()
    return (
        any(map(_IMAGES.fullmatch, names)) or any(map(_ZIP.fullmatch, names)) or bool(_tar(folder))
    )


def _tar(folder: Folder) -> list[str]:
    return tars_that_begin_with(folder, re.compile(rf"{_IMAGES.pattern}|{ANNOTATIONS}/\w+\.json"))


def _check(folder: Folder) -> None:
    names = folder.children()
    if any(map(_IMAGES.fullmatch, names)):
        files = [f"{ANNOTATIONS}/{name}" for name in folder.children(ANNOTATIONS)]
        year = _one_year(str(folder), names)
        missing = [name for split in _SPLITS if (name := f"{split}{year}/") not in names]
        if missing:
            raise PipelineError(f"{folder} looks like COCO but has no {missing[0]}", _GIVE)
        _kinds(str(folder), files, year)
    elif not _tar(folder):
        packed = next(name for name in names if _ZIP.fullmatch(name))
        raise PipelineError(
            f"{folder} holds {packed}, which is not read in place",
            f"unzip COCO's archives into one folder, and {_GIVE}",
        )


def _one_year(where: str, paths: Iterable[str]) -> str:
    years = sorted({match[1] for path in paths if (match := _IMAGES.match(path))})
    if len(years) != 1:
        held = " and ".join(years) or "no train2017/"
        raise PipelineError(f"{where} holds {held}, but a data set is one year's images", _GIVE)
    return years[0]


def _kinds(where: str, files: Collection[str], year: str) -> list[str]:
    """The kinds of annotations that are there, for both splits."""
    versions = []
    for kind in KINDS:
        names = [f"{ANNOTATIONS}/{kind}_{split}{year}.json" for split in _SPLITS]
        missing = [name for name in names if name not in files]
        if len(missing) == 1:
            raise PipelineError(f"{where} looks like COCO but has no {missing[0]}", _GIVE)
        if not missing:
            versions.append(kind)
    if not versions:
        raise PipelineError(f"{where} looks like COCO but has no annotations of both splits", _GIVE)
    return versions


class _Annotated(NamedTuple):
    """What a split's annotations say.

    Attributes:
        names: file names by image id.
        classes: names of the categories.
        objects: by image id.
        captions: by image id, as they stand in the file.
    """

    names: dict[int, str]
    classes: set[str]
    objects: dict[int, list[SourceObject]]
    captions: dict[int, list[str]]


def _read(folder: Folder) -> Source:
    names = folder.children()
    if any(map(_IMAGES.fullmatch, names)):
        year = _one_year(str(folder), names)
        tree = unpacked_tree(folder, [ANNOTATIONS, *(f"{split}{year}" for split in _SPLITS)])
    else:
        tree = packed_tree(folder, _tar(folder))
        year = _one_year(tree.where, tree.files)
    kinds = _kinds(tree.where, tree.files.keys(), year)
    images: list[SourceImage] = []
    classes: dict[str, set[str]] = {}
    for split in _SPLITS:
        annotated = _annotated(tree, kinds, f"{split}{year}")
        classes[split] = annotated.classes
        images += _images(tree, split, f"{split}{year}", annotated)
    if classes["train"] != classes["val"]:
        raise PipelineError(
            f"the categories of {tree.where} differ between train and val", FETCH_AGAIN
        )
    form = f"{LAYOUT.form} {year} ({' and '.join(kinds)})"
    return make_source(folder, form, images, {}, classes=classes["train"])


def _images(tree: Tree, split: Split, below: str, annotated: _Annotated) -> Iterator[SourceImage]:
    files = tree.below(below)
    known = set(annotated.names.values())
    if missing := sorted(known - files.keys()):
        raise PipelineError(
            f"{tree.where} annotates {len(known):,} images of {below}/, of which {len(missing):,} are not "
            f"there, first {missing[0]!r}",
            FETCH_AGAIN,
        )
    if strangers := sorted(files.keys() - known):
        raise PipelineError(
            f"the annotations of {tree.where} do not list {len(strangers):,} files of {below}/, first "
            f"{strangers[0]!r}",
            "put the annotations beside the images that belong to them, or remove the others",
        )
    for key, name in annotated.names.items():
        yield SourceImage(
            split,
            None,
            image_name(name),
            files[name],
            tuple(annotated.objects.get(key, ())),
            sentences(annotated.captions.get(key, [])),
        )


def _annotated(tree: Tree, kinds: list[str], below: str) -> _Annotated:
    all_names: list[dict[int, str]] = []
    annotated = _Annotated({}, set(), {}, {})
    for kind in kinds:
        path = f"{ANNOTATIONS}/{kind}_{below}.json"
        try:
            content = json.loads(
                tree.read(path, _LARGEST_JSON),
                object_hook=_without_segmentation,
                parse_constant=_refuse_constant,
            )
            all_names.append({item["id"]: str(item["file_name"]) for item in content["images"]})
            if len(all_names[-1]) < len(content["images"]):
                raise ValueError("two images have one id")
            if kind == "instances":
                _add_objects(content, all_names[-1], annotated)
            else:
                _add_captions(content, all_names[-1], annotated)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise PipelineError(
                f"{tree.where}/{path} is not COCO's annotation: {error!r}", FETCH_AGAIN
            ) from error
    if any(names != all_names[0] for names in all_names):
        raise PipelineError(
            f"the instances and the captions of {below} in {tree.where} list different images",
            FETCH_AGAIN,
        )
    annotated.names.update(all_names[0])
    return annotated


def _add_objects(content: Any, names: Mapping[int, str], annotated: _Annotated) -> None:
    categories = {item["id"]: item["name"] for item in content["categories"]}
    if len(set(categories.values())) < len(content["categories"]):
        raise ValueError("two categories have one id or one name")
    for name in categories.values():
        if not (isinstance(name, str) and name.strip() and name.isprintable()):
            raise ValueError(f"a category is called {name!r}")
    annotated.classes.update(categories.values())
    for item in content["annotations"]:
        x, y, width, height = map(float, item["bbox"])
        if width < 0 or height < 0 or item["image_id"] not in names:
            raise ValueError(f"annotation {item['id']} has a box {item['bbox']} of no image")
        last = (x + max(0.0, width - 1), y + max(0.0, height - 1))
        if item["iscrowd"] not in (0, 1):
            raise ValueError(f"annotation {item['id']} has iscrowd {item['iscrowd']!r}")
        annotated.objects.setdefault(item["image_id"], []).append(
            SourceObject(
                categories[item["category_id"]],
                make_box((x, y, *last), to_manifest=float),
                difficult=item["iscrowd"] == 1,
            )
        )


def _add_captions(content: Any, names: Mapping[int, str], annotated: _Annotated) -> None:
    for item in content["annotations"]:
        if item["image_id"] not in names:
            raise ValueError(f"a caption is of no image: {item['image_id']!r}")
        annotated.captions.setdefault(item["image_id"], []).append(item["caption"])
    for texts in annotated.captions.values():
        sentences(texts)  # refused here, where the file's name is known


def _without_segmentation(item: dict[str, Any]) -> dict[str, Any]:
    # Outlines are nine tenths of the file, and nothing here learns from them.
    item.pop("segmentation", None)
    return item


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


LAYOUT = Layout("COCO", _matches, _check, _read, labelled=lambda folder: False)
