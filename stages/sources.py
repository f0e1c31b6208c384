"""Recognise the form in which somebody holds ImageNet and list its images without unpacking anything.

So far one form: the official archives of ILSVRC-2012. The train archive is a tar of one tar a synset;
an image in it is an absolute (offset, size) of the outer file, so nested tars are read in place.
"""

import csv
import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.dataset import Box, ImageClass, Split, is_dataset
from stages.errors import PipelineError

TRAIN_ARCHIVE = "ILSVRC2012_img_train.tar"
VAL_ARCHIVE = "ILSVRC2012_img_val.tar"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
CLASSES = "classes.tsv"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"

_DEVKIT_META = "ILSVRC2012_devkit_t12/data/meta.mat"
_DEVKIT_TRUTH = f"ILSVRC2012_devkit_t12/data/{GROUND_TRUTH}"
_SYNSET_ARCHIVE = re.compile(r"(n\d{8})\.tar")
_TRAIN_IMAGE = re.compile(r"n\d{8}_\d+\.JPEG")
_VAL_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_LAYOUT = (
    f"give the folder that holds {TRAIN_ARCHIVE}, {VAL_ARCHIVE} and {DEVKIT} "
    f"(or {GROUND_TRUTH} with {CLASSES}) as they were downloaded, not unpacked"
)
_FETCH_AGAIN = "compare its size and checksum with the publisher's, and fetch it again"


@dataclass(frozen=True)
class SourceImage:
    """Where one encoded image lies: ``size`` bytes at ``offset`` of ``archive``."""

    split: Split
    synset: str
    name: str
    archive: Path
    offset: int
    size: int
    boxes: tuple[Box, ...] = ()

    @property
    def key(self) -> str:
        """Its name without the suffix."""
        return self.name.rsplit(".", 1)[0]

    @property
    def origin(self) -> str:
        """Archive and name."""
        return f"{self.archive.name}/{self.name}"

    def read(self) -> bytes:
        """The encoded image."""
        with self.archive.open("rb") as file:
            return os.pread(file.fileno(), self.size, self.offset)


@dataclass(frozen=True)
class Source:
    """A recognised source.

    Attributes:
        name: the folder's name.
        form: how it was recognised.
        classes: in the order of sorted synsets; a label is the place in it.
        images: in the archives' order.
    """

    name: str
    form: str
    classes: tuple[ImageClass, ...]
    images: tuple[SourceImage, ...]


def check_source(root: Path) -> None:
    """Look whether a folder is a data set or a source, without reading its archives.

    Raises:
        PipelineError: it is neither; the message says what is missing.
    """
    if is_dataset(root):
        return
    if not root.exists():
        raise PipelineError(
            f"{root} does not exist", f"{_LAYOUT}; or leave --data out for the embedded images"
        )
    if not root.is_dir():
        raise PipelineError(f"{root} is a file, not a folder", _LAYOUT)
    missing = [name for name in (TRAIN_ARCHIVE, VAL_ARCHIVE) if not (root / name).is_file()]
    if missing:
        raise PipelineError(f"{root} has no {' and no '.join(missing)}", _LAYOUT)


def open_source(root: Path) -> Source:
    """Recognise and index a source.

    Args:
        root: folder with the official archives (see the module's docstring).

    Raises:
        PipelineError: missing, empty, incomplete, truncated, or of no known layout.
    """
    check_source(root)
    by_id = {item.ilsvrc_id: item for item in read_classes(root)}
    train = tuple(_train_images(root / TRAIN_ARCHIVE))
    present = sorted({image.synset for image in train})
    by_synset = {item.synset: item for item in by_id.values()}
    unknown = [synset for synset in present if synset not in by_synset]
    if unknown:
        raise PipelineError(
            f"{TRAIN_ARCHIVE} has {len(unknown)} synsets that the class list lacks, first {unknown[0]}",
            f"put the {DEVKIT} or {CLASSES} that belongs to these archives beside them",
        )
    val = tuple(_val_images(root / VAL_ARCHIVE, root, by_id))
    strangers = {image.synset for image in val} - set(present)
    if strangers:
        raise PipelineError(
            f"{len(strangers)} validation classes have no training image, first {min(strangers)}",
            f"check that {TRAIN_ARCHIVE} is whole and belongs to {VAL_ARCHIVE}",
        )
    classes = tuple(by_synset[synset] for synset in present)
    return Source(root.name, "official ILSVRC-2012 archives", classes, train + val)


def read_classes(root: Path) -> list[ImageClass]:
    """The classes by the devkit's own numbers, from ``classes.tsv`` or else from the devkit.

    The number (1 to 1000) is what validation labels are given in. It is not the label: that is the
    place among the sorted synsets, and using one for the other trains to chance without any error.

    Raises:
        PipelineError: neither file is there, or it cannot be read.
    """
    if (root / CLASSES).is_file():
        try:
            with (root / CLASSES).open(newline="") as file:
                return [
                    ImageClass(row["wnid"], int(row["ILSVRC2012_ID"]), row["words"])
                    for row in csv.DictReader(file, delimiter="\t")
                ]
        except (KeyError, ValueError, TypeError) as error:
            raise PipelineError(
                f"{root / CLASSES} cannot be read: {error}",
                "it needs the tab-separated columns wnid, ILSVRC2012_ID and words",
            ) from error
    if (root / DEVKIT).is_file():
        return _devkit_classes(root / DEVKIT)
    raise PipelineError(f"{root} has neither {DEVKIT} nor {CLASSES}", _LAYOUT)


def _devkit_classes(devkit: Path) -> list[ImageClass]:
    import scipy.io  # half a second, and only the official devkit needs it

    meta = scipy.io.loadmat(io.BytesIO(_devkit_member(devkit, _DEVKIT_META)), squeeze_me=True)
    return [
        ImageClass(str(row["WNID"]), int(row["ILSVRC2012_ID"]), str(row["words"]))
        for row in meta["synsets"]
        if int(row["num_children"]) == 0  # the 860 inner nodes of WordNet follow the 1000 leaves
    ]


def _devkit_member(devkit: Path, name: str) -> bytes:
    try:
        with tarfile.open(devkit) as archive:
            member = archive.extractfile(name)
            if member is None:
                raise KeyError(name)
            return member.read()
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise PipelineError(f"{devkit} cannot be read: {error}", _FETCH_AGAIN) from error


def _train_images(path: Path) -> Iterator[SourceImage]:
    with _open_tar(path) as outer:
        for synset_tar in _files(outer, path):
            match = _SYNSET_ARCHIVE.fullmatch(synset_tar.name)
            if match is None:
                raise PipelineError(
                    f"{path} holds {synset_tar.name!r} where a tar a synset (nXXXXXXXX.tar) belongs",
                    _LAYOUT,
                )
            try:
                inner = tarfile.open(fileobj=outer.extractfile(synset_tar))  # noqa: SIM115 - just below
            except tarfile.TarError as error:
                raise PipelineError(
                    f"{synset_tar.name} in {path} is damaged: {error}", _FETCH_AGAIN
                ) from error
            with inner:
                for member in _files(inner, path):
                    if _TRAIN_IMAGE.fullmatch(member.name) is None:
                        raise PipelineError(
                            f"{synset_tar.name} in {path} holds {member.name!r}, not nXXXXXXXX_N.JPEG",
                            _LAYOUT,
                        )
                    offset = synset_tar.offset_data + member.offset_data
                    yield SourceImage("train", match[1], member.name, path, offset, member.size)


def _val_images(path: Path, root: Path, by_id: dict[int, ImageClass]) -> Iterator[SourceImage]:
    with _open_tar(path) as archive:
        members = sorted(_files(archive, path), key=lambda member: member.name)
    for member in members:
        if _VAL_IMAGE.fullmatch(member.name) is None:
            raise PipelineError(
                f"{path} holds {member.name!r}, not ILSVRC2012_val_XXXXXXXX.JPEG", _LAYOUT
            )
    for member, ilsvrc_id in zip(members, _ground_truth(root, members), strict=True):
        if ilsvrc_id not in by_id:
            raise PipelineError(
                f"the ground truth names class {ilsvrc_id}, which the class list lacks",
                "the class list and the ground truth must be of one set",
            )
        yield SourceImage(
            "val", by_id[ilsvrc_id].synset, member.name, path, member.offset_data, member.size
        )


def _ground_truth(root: Path, members: list[tarfile.TarInfo]) -> list[int]:
    """The ILSVRC2012_ID of each validation image.

    A list of its own has a line an image, in the order of the names; the devkit's has a line for each
    of the 50,000 official numbers, of which a subset's names pick theirs.
    """
    own = root / GROUND_TRUTH
    if own.is_file():
        text, where = own.read_text(), str(own)
    elif (root / DEVKIT).is_file():
        text, where = (
            _devkit_member(root / DEVKIT, _DEVKIT_TRUTH).decode(),
            f"{GROUND_TRUTH} in {DEVKIT}",
        )
    else:
        raise PipelineError(f"{root} has neither {GROUND_TRUTH} nor {DEVKIT}", _LAYOUT)
    try:
        truth = [int(line) for line in text.split()]
    except ValueError as error:
        raise PipelineError(f"{where} is not one number a line: {error}", _FETCH_AGAIN) from error
    if len(truth) == len(members):
        return truth
    numbers = [int(member.name[-13:-5]) for member in members]
    if len(truth) == 50_000 and max(numbers) <= 50_000:
        return [truth[number - 1] for number in numbers]
    raise PipelineError(
        f"{where} has {len(truth)} labels for {len(members)} validation images",
        "archive and labels must be of one set",
    )


def _open_tar(path: Path) -> tarfile.TarFile:
    if path.stat().st_size == 0:
        raise PipelineError(f"{path} is empty", _FETCH_AGAIN)
    try:
        return tarfile.open(path, mode="r:")
    except tarfile.TarError as error:
        raise PipelineError(f"{path} is not a tar archive: {error}", _FETCH_AGAIN) from error


def _files(archive: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar, having checked that the tar is whole and not empty."""
    try:
        members = archive.getmembers()
    except tarfile.TarError as error:
        raise PipelineError(f"{path} is truncated or damaged: {error}", _FETCH_AGAIN) from error
    if not members:
        raise PipelineError(f"{path} holds no file", _FETCH_AGAIN)
    # tarfile takes the end of the file for the end of the archive; a whole tar closes with zeros.
    file = archive.fileobj
    assert file is not None
    end = members[-1].offset_data + -(-members[-1].size // 512) * 512
    file.seek(end)
    if len(file.read(512)) < 512:
        raise PipelineError(f"{path} is truncated", _FETCH_AGAIN)
    return (member for member in members if member.isfile())
