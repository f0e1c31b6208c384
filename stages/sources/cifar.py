"""CIFAR-10 and CIFAR-100 in their binary version; the pixels become PNGs, without loss.

The Python version is made of pickles, and to load a pickle is to run what its maker put into it: it is
refused, and the binary version, which the same page offers, named.
"""

from collections.abc import Iterator

from stages.dataset import Split
from stages.errors import PipelineError
from stages.sources.locations import Pixels
from stages.sources.source import FETCH_AGAIN, Layout, Source, SourceImage, make_source
from stages.storage import Folder

SIDE = 32
PIXELS = 3 * SIDE * SIDE

_TRAIN_10 = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
# Names of the classes, training files, and how many bytes of labels (the last one fine) lead a record.
_VERSIONS = {
    "batches.meta.txt": (_TRAIN_10, ("test_batch.bin",), 1),
    "fine_label_names.txt": (("train.bin",), ("test.bin",), 2),
}
_PICKLES = {"batches.meta", "data_batch_1", "file.txt~", "meta"}
_PACKED = ("cifar-10-", "cifar-100-")


def _matches(folder: Folder) -> bool:
    names = set(folder.children())
    return bool(
        names & (_VERSIONS.keys() | _PICKLES | {"data_batch_1.bin"})
        or any(name.startswith(_PACKED) for name in names)
    )


def _check(folder: Folder) -> None:
    present = set(folder.children())
    version = next((name for name in _VERSIONS if name in present), None)
    if version is None:
        if present & _PICKLES:
            raise PipelineError(
                f"{folder} holds CIFAR's Python version, made of pickles, which are not loaded: "
                "a pickle can run any program",
                "fetch the binary version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz) from the "
                "same page, unpack it, and give its folder",
            )
        if inner := next((name for name in present if name.startswith(_PACKED)), None):
            raise PipelineError(
                f"{folder} holds {inner}, not CIFAR's files themselves",
                "unpack the binary version, and give the folder with its .bin files",
            )
        raise PipelineError(f"{folder} has CIFAR's images but no {_names()}", FETCH_AGAIN)
    train, val, _ = _VERSIONS[version]
    missing = [name for name in (*train, *val) if name not in present]
    if missing:
        raise PipelineError(
            f"{folder} looks like CIFAR but has no {' and no '.join(missing)}", FETCH_AGAIN
        )


def _names() -> str:
    return " or ".join(_VERSIONS)


def _read(folder: Folder) -> Source:
    version = next(name for name in _VERSIONS if folder.exists(name))
    train, val, leading = _VERSIONS[version]
    classes = folder.read(version).decode().split()
    images = [
        *_images(folder, "train", train, leading, classes),
        *_images(folder, "val", val, leading, classes),
    ]
    return make_source(folder, LAYOUT.form, images, {})


def _images(
    folder: Folder, split: Split, files: tuple[str, ...], leading: int, classes: list[str]
) -> Iterator[SourceImage]:
    number = 0
    for file in files:
        content, record = folder.read(file), leading + PIXELS
        if not content or len(content) % record:
            raise PipelineError(
                f"{folder}/{file} has {len(content):,} bytes, not a multiple of a record's {record}",
                FETCH_AGAIN,
            )
        for start in range(0, len(content), record):
            label = content[start + leading - 1]
            if label >= len(classes):
                raise PipelineError(
                    f"{folder}/{file} has the label {label} and there are {len(classes)} classes",
                    FETCH_AGAIN,
                )
            location = Pixels(folder, file, start + leading, SIDE, SIDE, channels=3)
            yield SourceImage(split, classes[label], f"{split}_{number:05d}.png", location)
            number += 1


LAYOUT = Layout("CIFAR, binary version; pixels as PNG", _matches, _check, _read)
