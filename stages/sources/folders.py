"""One folder per class: torchvision's ImageFolder for ImageNet, Imagenette, and any set of that form.

``train/CLASS/IMAGE`` and ``val/CLASS/IMAGE``, as folders or as the members of one tar. The validation
split may be called ``val``, ``validation``, ``valid`` or ``test``, in this order of preference; other
folders are not looked at. What lies in ``train`` is a training image and what lies in ``val`` a validation
image, whatever ILSVRC called it (Imagenette mixes them).
"""

from collections.abc import Iterator, Mapping

from stages.dataset import Split
from stages.errors import PipelineError
from stages.sources.classes import DEVKIT, known_classes
from stages.sources.locations import Location, Span, WholeFile
from stages.sources.source import Layout, Source, SourceImage, image_name, is_image, make_source
from stages.sources.tars import files, open_tar
from stages.storage import Folder

VAL_NAMES = ("val", "validation", "valid", "test")


def _matches(folder: Folder) -> bool:
    return not {"train/", *(f"{name}/" for name in VAL_NAMES)}.isdisjoint(folder.children())


def _check(folder: Folder) -> None:
    present = folder.children()
    val = _val_name(name.rstrip("/") for name in present if name.endswith("/"))
    if "train/" not in present or val is None:
        raise PipelineError(
            f"{folder} has no {'train' if val else 'val'}/ folder",
            "give the folder that holds train/CLASS/IMAGE and val/CLASS/IMAGE",
        )
    for split in ("train", val):
        inside = folder.children(split)
        loose = next((name for name in inside if not name.endswith("/")), None)
        if loose is not None:
            raise _flat(f"{folder}/{split}", loose, any(name.endswith("/") for name in inside))


def _flat(where: str, example: str, mixed: bool) -> PipelineError:
    if mixed:
        return PipelineError(
            f"{where} holds {example!r} beside its class folders",
            "move the file into the folder of its class, or remove it",
        )
    return PipelineError(
        f"{where} is flat: it holds {example!r} instead of one folder per class, so nothing says which "
        "class an image belongs to",
        f"sort the files into {where}/CLASS/ (torchvision's valprep.sh does it for ILSVRC), or give the "
        f"official archives with {DEVKIT}, which need no unpacking",
    )


def _read(folder: Folder) -> Source:
    val = _val_name(name.rstrip("/") for name in folder.children())
    assert val is not None  # `_check`
    locations: dict[str, Location] = {}
    for split in ("train", val):
        for file, size in folder.list(split).items():
            locations[file] = WholeFile(folder, file, size)
        filled = {file.split("/")[1] for file in locations if file.startswith(f"{split}/")}
        for name in folder.children(split):
            if name.rstrip("/") not in filled:
                raise PipelineError(
                    f"{folder}/{split}/{name} is empty",
                    "copy its images again: without them all later classes would get other numbers",
                )
    return make_source(folder, LAYOUT.form, _images(str(folder), locations), known_classes(folder))


def _matches_tar(folder: Folder) -> bool:
    tars = _tars(folder)
    return len(tars) == 1 and not tars[0].startswith("ILSVRC2012_")


def _check_tar(folder: Folder) -> None:
    (name,) = _tars(folder)
    with open_tar(folder, name) as archive:
        first = next((member.name for member in archive if member.isreg()), "nothing")
    if first.removeprefix("./").split("/")[0] not in ("train", *VAL_NAMES):
        raise PipelineError(
            f"{folder}/{name} begins with {first!r}, which is not SPLIT/CLASS/IMAGE",
            "pack the folders train/CLASS and val/CLASS (tar -cf NAME.tar train val)",
        )


def _read_tar(folder: Folder) -> Source:
    (name,) = _tars(folder)
    with open_tar(folder, name) as archive:
        locations: dict[str, Location] = {
            member.name.removeprefix("./"): Span(folder, name, member.offset_data, member.size)
            for member in files(archive, f"{folder}/{name}")
        }
    return make_source(
        folder, TAR_LAYOUT.form, _images(f"{folder}/{name}", locations), known_classes(folder)
    )


def _tars(folder: Folder) -> list[str]:
    return [name for name in folder.children() if name.endswith(".tar")]


def _images(where: str, locations: Mapping[str, Location]) -> Iterator[SourceImage]:
    """Images of ``SPLIT/CLASS/IMAGE`` names."""
    val = _val_name({name.split("/")[0] for name in locations})
    splits: dict[str | None, Split] = {val: "val", "train": "train"}
    for path, location in locations.items():
        parts = path.split("/")
        if parts[0] not in splits:
            continue
        if len(parts) != 3 or ".." in parts:
            raise PipelineError(
                f"{where} holds {path!r}, which is not SPLIT/CLASS/IMAGE",
                "move images into the folder of their class, which has no folders of its own",
            )
        if not parts[1].isprintable() or not is_image(path):
            raise PipelineError(
                f"{where} holds {path!r}, which is not named as an image of a class",
                "remove it, or rename it with the suffix of its format (.jpg, .png, ...)",
            )
        yield SourceImage(splits[parts[0]], parts[1], image_name(path, parts[1]), location)


def _val_name(present: Iterator[str] | set[str]) -> str | None:
    names = set(present)
    return next((name for name in VAL_NAMES if name in names), None)


LAYOUT = Layout("a folder a class (train/CLASS, val/CLASS)", _matches, _check, _read)
TAR_LAYOUT = Layout(
    "a folder a class (train/CLASS, val/CLASS) in one tar", _matches_tar, _check_tar, _read_tar
)
