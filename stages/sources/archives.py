"""The official archives of ILSVRC-2012, as they were downloaded.

The train archive is a tar that holds one tar per synset; an image in it is an absolute span of the outer
file, so nested tars are read in place and nothing is unpacked. Objects are taken from the ``bbox`` archives
and captions from ``captions.json`` (which the embedded images have) where they lie beside the images.
"""

import re
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from stages.dataset import ImageClass, Split
from stages.errors import PipelineError
from stages.sources.annotations import (
    Objects,
    captions_beside,
    objects_in_archive,
    of_class,
)
from stages.sources.classes import CLASSES, DEVKIT, classes_in, devkit_member
from stages.sources.locations import Span
from stages.sources.source import FETCH_AGAIN, Layout, Source, SourceImage, make_source
from stages.sources.tars import files, open_inner, open_tar
from stages.storage import Folder

TRAIN_ARCHIVE = "ILSVRC2012_img_train.tar"
VAL_ARCHIVE = "ILSVRC2012_img_val.tar"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"

_DEVKIT_TRUTH = f"ILSVRC2012_devkit_t12/data/{GROUND_TRUTH}"
_BOXES = re.compile(r"ILSVRC2012_bbox_(?:train|val)\w*\.(?:tar\.gz|tgz)")
_SYNSET_ARCHIVE = re.compile(r"(n\d{8})\.tar")
_TRAIN_IMAGE = re.compile(r"n\d{8}_\d+\.JPEG")
_VAL_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_GIVE = (
    f"give the folder that holds {TRAIN_ARCHIVE}, {VAL_ARCHIVE} and {DEVKIT} "
    f"(or {GROUND_TRUTH} with {CLASSES}) as they were downloaded, not unpacked"
)


def _matches(folder: Folder) -> bool:
    # Both win over what was unpacked beside them, and one left over does not hide that.
    archives, present = {TRAIN_ARCHIVE, VAL_ARCHIVE}, set(folder.children())
    return archives <= present or (bool(archives & present) and "train/" not in present)


def _check(folder: Folder) -> None:
    present = folder.children()
    missing = [name for name in (TRAIN_ARCHIVE, VAL_ARCHIVE) if name not in present]
    if missing:
        raise PipelineError(f"{folder} has no {' and no '.join(missing)}", _GIVE)
    for name in (CLASSES, GROUND_TRUTH):
        if name not in present and DEVKIT not in present:
            raise PipelineError(f"{folder} has neither {name} nor {DEVKIT}", _GIVE)


def _read(folder: Folder) -> Source:
    by_id = {item.ilsvrc_id: item for item in classes_in(folder)}
    by_synset = {item.synset: item for item in by_id.values()}
    annotated = _Annotated({}, captions_beside(folder))
    for name in folder.children():
        if _BOXES.fullmatch(name):
            annotated.objects.update(objects_in_archive(folder, name))
    train = tuple(_train_images(folder, annotated))
    unknown = {str(image.synset) for image in train} - by_synset.keys()
    if unknown:
        raise PipelineError(
            f"{TRAIN_ARCHIVE} has {len(unknown)} synsets that the class list lacks, "
            f"first {min(unknown)}",
            f"put the {DEVKIT} or {CLASSES} that belongs to these archives beside them",
        )
    val = tuple(_val_images(folder, by_id, annotated))
    return make_source(folder, LAYOUT.form, train + val, by_synset)


class _Annotated(NamedTuple):
    """What lies beside the images about them: objects by key, captions by file name."""

    objects: dict[str, Objects]
    captions: dict[str, tuple[str, ...]]

    def image(self, split: Split, synset: str, name: str, location: Span) -> SourceImage:
        """An image with what is known of it."""
        objects = of_class(self.objects.get(name.removesuffix(".JPEG"), ()), synset)
        return SourceImage(split, synset, name, location, objects, self.captions.get(name, ()))


def _train_images(folder: Folder, annotated: _Annotated) -> Iterator[SourceImage]:
    where = f"{folder}/{TRAIN_ARCHIVE}"
    with open_tar(folder, TRAIN_ARCHIVE) as outer:
        for synset_tar in files(outer, where):
            match = _SYNSET_ARCHIVE.fullmatch(synset_tar.name)
            if match is None:
                raise PipelineError(
                    f"{where} holds {synset_tar.name!r} instead of one tar per synset (nXXXXXXXX.tar)",
                    _GIVE,
                )
            with open_inner(outer, synset_tar, where) as inner:
                for member in files(inner, f"{synset_tar.name} in {where}"):
                    if _TRAIN_IMAGE.fullmatch(member.name) is None:
                        raise PipelineError(
                            f"{synset_tar.name} in {where} holds {member.name!r}, "
                            "not nXXXXXXXX_N.JPEG",
                            _GIVE,
                        )
                    offset = synset_tar.offset_data + member.offset_data
                    location = Span(folder, TRAIN_ARCHIVE, offset, member.size)
                    yield annotated.image("train", match[1], member.name, location)


def _val_images(
    folder: Folder, by_id: dict[int | None, ImageClass], annotated: _Annotated
) -> Iterator[SourceImage]:
    where = f"{folder}/{VAL_ARCHIVE}"
    with open_tar(folder, VAL_ARCHIVE) as archive:
        members = sorted(files(archive, where), key=lambda member: member.name)
    for member in members:
        if _VAL_IMAGE.fullmatch(member.name) is None:
            raise PipelineError(
                f"{where} holds {member.name!r}, not ILSVRC2012_val_XXXXXXXX.JPEG", _GIVE
            )
    for member, ilsvrc_id in zip(members, _ground_truth(folder, members), strict=True):
        if ilsvrc_id not in by_id:
            raise PipelineError(
                f"the ground truth names class {ilsvrc_id}, which the class list lacks",
                "the class list and the ground truth must belong to the same data set",
            )
        location = Span(folder, VAL_ARCHIVE, member.offset_data, member.size)
        yield annotated.image("val", by_id[ilsvrc_id].synset, member.name, location)


def _ground_truth(folder: Folder, members: list[tarfile.TarInfo]) -> list[int]:
    """The ILSVRC2012_ID of each validation image.

    A list of its own has one line per image, in the order of the names; the devkit's has one for each
    of the 50,000 official numbers, of which a subset's names pick theirs.
    """
    if folder.exists(GROUND_TRUTH):
        text, where = folder.read(GROUND_TRUTH), f"{folder}/{GROUND_TRUTH}"
    else:
        text, where = devkit_member(folder, _DEVKIT_TRUTH), f"{GROUND_TRUTH} in {DEVKIT}"
    try:
        truth = [int(line) for line in text.split()]
    except ValueError as error:
        raise PipelineError(f"{where} is not one number per line: {error}", FETCH_AGAIN) from error
    if len(truth) == len(members):
        return truth
    numbers = [int(member.name[-13:-5]) for member in members]
    if len(truth) == 50_000 and min(numbers) >= 1 and max(numbers) <= 50_000:
        return [truth[number - 1] for number in numbers]
    raise PipelineError(
        f"{where} has {len(truth)} labels for {len(members)} validation images",
        "archive and labels must belong to the same data set",
    )


LAYOUT = Layout("official ILSVRC-2012 archives", _matches, _check, _read)
