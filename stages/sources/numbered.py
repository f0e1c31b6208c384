"""Sources whose labels are numbers already: Parquet and WebDataset.

A number says nothing of the order it was counted in, and ILSVRC has two. So it is checked against the
synsets in the images' names; where there are none, the source's own order is kept and the form says so.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stages.dataset import ImageClass, Split
from stages.errors import PipelineError
from stages.sources.classes import known_classes
from stages.sources.locations import Location
from stages.sources.source import Source, SourceImage, make_source
from stages.storage import Folder

UNCHECKED = "labels in the source's own order, as no image name tells its synset"
_SYNSET = re.compile(r"(?<![A-Za-z0-9])n\d{8}(?!\d)")


class NumberedImage(NamedTuple):
    """One image with its label as a number; ``path`` is what the source calls it."""

    split: Split
    label: int
    path: str
    name: str
    location: Location


def numbered_source(
    folder: Folder, form: str, images: Sequence[NumberedImage], words: Sequence[str]
) -> Source:
    """A source of numbered images.

    The classes' keys are their synsets where these are known, else the numbers themselves.

    Args:
        folder: where it lies.
        form: what it is called.
        images: all of them.
        words: what each number is called, as far as is known.

    Raises:
        PipelineError: a negative label, labels that contradict the images' synsets, and what
            `make_source` refuses.
    """
    synsets: dict[int, set[str]] = {}
    for image in images:
        if image.label < 0:
            raise PipelineError(
                f"{image.path!r} in {folder} has the label {image.label}, which is not a class",
                "remove the unlabelled images (ILSVRC's test split) from train and val",
            )
        synsets.setdefault(image.label, set()).update(_SYNSET.findall(image.path))
    if _in_sorted_order(folder, synsets):
        keys = {label: next(iter(named)) for label, named in synsets.items()}
    else:
        digits = len(str(max(synsets, default=0)))
        keys = {label: f"{label:0{digits}d}" for label in synsets}
        form = f"{form}; {UNCHECKED}"
    named = {
        key: ImageClass(key, None, words[label] if label < len(words) else key)
        for label, key in keys.items()
    }
    return make_source(
        folder,
        form,
        (SourceImage(i.split, keys[i.label], i.name, i.location) for i in images),
        {**named, **known_classes(folder)},
    )


def _in_sorted_order(folder: Folder, synsets: Mapping[int, set[str]]) -> bool:
    """Whether labels that came as numbers are known to stand in the order of the sorted synsets.

    Args:
        folder: the source, for the error's text.
        synsets: by label, those in the names of its images.

    Returns:
        True if every label has one synset and their order is the labels'; False if a label has none, for
        then the source's own order is all there is.

    Raises:
        PipelineError: a label has images of two synsets, or the orders differ.
    """
    for label, named in sorted(synsets.items()):
        if len(named) > 1:
            raise PipelineError(
                f"images of {' and '.join(sorted(named)[:2])} have the same label {label} in {folder}",
                "labels and images do not belong together: make this set again from the originals",
            )
    if not all(synsets.values()):
        return False
    order = [next(iter(synsets[label])) for label in sorted(synsets)]
    for label, synset, right in zip(sorted(synsets), order, sorted(order), strict=True):
        if synset != right:
            raise PipelineError(
                f"the labels of {folder} are not in the order of sorted synsets: label {label} is "
                f"{synset} where {right} belongs (ILSVRC2012_IDs taken for labels do that)",
                "number the classes by their places among the sorted synsets, or give the originals",
            )
    return True
