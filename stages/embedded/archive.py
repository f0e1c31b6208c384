"""Writes the embedded data set in the layout in which ILSVRC 2012 is handed out."""

import gzip
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from stages.embedded.classes import CLASSES, SyntheticClass, captions
from stages.embedded.scene import paint
from stages.embedded.shapes import TEXTURES, Integers

JPEG_QUALITY = 90
CHUNK = 32  # pictures painted at once: their fields stay within a core's cache


@dataclass(frozen=True)
class _Sample:
    jpeg: bytes
    box: tuple[int, int, int, int]
    truncated: bool
    captions: list[str]


def generate(
    destination: Path,
    *,
    seed: int = 2012,
    train_per_class: int = 200,
    val_per_class: int = 25,
    image_size: int = 72,
) -> Path:
    """Paint the data set and write it as ILSVRC archives into the new folder ``destination``.

    The folder holds ``ILSVRC2012_img_{train,val}.tar``, ``ILSVRC2012_bbox_{train,val}.tar.gz``,
    ``ILSVRC2012_validation_ground_truth.txt``, ``classes.tsv``, ``val_labels.tsv`` and
    ``captions.json`` (file name to five sentences). The same arguments give the same bytes under
    the same versions of numpy and Pillow on the same kind of processor. The folder appears when it
    is complete, or not at all.

    Args:
        destination: folder to make; its parents are made too.
        seed: of everything that is drawn.
        train_per_class, val_per_class: pictures in each of the 24 `CLASSES`.
        image_size: side in pixels, at least 64; everything painted scales with it.

    Returns:
        ``destination``.

    Raises:
        FileExistsError: ``destination`` exists.
        ValueError: a count below one, or too small an image.
        OSError: it cannot be written.
    """
    if image_size < 64 or train_per_class < 1 or val_per_class < 1:
        raise ValueError(
            "need image_size >= 64 and at least one train and one val image a class, not "
            f"{image_size=}, {train_per_class=}, {val_per_class=}"
        )
    if destination.exists():
        raise FileExistsError(f"{destination} exists; remove it to generate it again")
    destination.parent.mkdir(parents=True, exist_ok=True)
    train_seed, val_seed, order_seed = np.random.SeedSequence(seed).spawn(3)
    train_labels = np.repeat(np.arange(len(CLASSES)), train_per_class)
    val_labels = np.random.default_rng(order_seed).permutation(
        np.repeat(np.arange(len(CLASSES)), val_per_class)
    )
    with tempfile.TemporaryDirectory(
        dir=destination.parent, prefix=f".{destination.name}-"
    ) as scratch:
        root = Path(scratch) / destination.name
        root.mkdir()
        samples = _samples(train_labels, train_seed, image_size)
        sentences = _write_train(root, samples, train_per_class, image_size)
        samples = _samples(val_labels, val_seed, image_size)
        sentences |= _write_val(root, [CLASSES[i] for i in val_labels], samples, image_size)
        (root / "captions.json").write_text(json.dumps(sentences, indent=1) + "\n")
        counts = (train_per_class, val_per_class)
        _write_table(
            root / "classes.tsv",
            [
                ("wnid", "ILSVRC2012_ID", "index0", "n_train", "n_val", "words"),
                *((c.wnid, c.ilsvrc_id, c.index, *counts, c.words) for c in CLASSES),
            ],
        )
        root.rename(destination)
    return destination


def _samples(labels: Integers, seed: np.random.SeedSequence, size: int) -> Iterator[_Sample]:
    """A painted and encoded sample for each label, in order, on all cores."""
    chunks = np.array_split(labels, -(-len(labels) // CHUNK))
    # numpy and Pillow let go of the interpreter's lock, so threads suffice.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk in pool.map(_paint_chunk, chunks, seed.spawn(len(chunks)), [size] * len(chunks)):
            yield from chunk


def _paint_chunk(labels: Integers, seed: np.random.SeedSequence, size: int) -> list[_Sample]:
    shape, texture = np.divmod(labels, len(TEXTURES))
    pictures = paint(np.random.default_rng(seed), shape, texture, size)
    samples = []
    for number, pixels in enumerate(pictures.pixels):
        jpeg = io.BytesIO()
        Image.fromarray(pixels).save(jpeg, "JPEG", quality=JPEG_QUALITY)
        xmin, ymin, xmax, ymax = pictures.boxes[number].tolist()
        samples.append(
            _Sample(
                jpeg=jpeg.getvalue(),
                box=(xmin, ymin, xmax, ymax),
                truncated=min(xmin, ymin) == 0 or max(xmax, ymax) == size - 1,
                captions=captions(pictures, number),
            )
        )
    return samples


def _write_train(
    root: Path, samples: Iterator[_Sample], per_class: int, size: int
) -> dict[str, list[str]]:
    """The tar of synset tars, and the boxes; returns the captions by file name."""
    sentences = {}
    with (
        tarfile.open(root / "ILSVRC2012_img_train.tar", "w", format=tarfile.USTAR_FORMAT) as images,
        _gzipped_tar(root / "ILSVRC2012_bbox_train.tar.gz") as boxes,
    ):
        for kind in CLASSES:
            synset = io.BytesIO()
            with tarfile.open(fileobj=synset, mode="w", format=tarfile.USTAR_FORMAT) as inner:
                for number, sample in enumerate(islice(samples, per_class), start=1):
                    name = f"{kind.wnid}_{number}"
                    _add(inner, f"{name}.JPEG", sample.jpeg)
                    _add(
                        boxes, f"{kind.wnid}/{name}.xml", _xml(kind.wnid, name, kind, sample, size)
                    )
                    sentences[f"{name}.JPEG"] = sample.captions
            _add(images, f"{kind.wnid}.tar", synset.getvalue())
    return sentences


def _write_val(
    root: Path, kinds: Sequence[SyntheticClass], samples: Iterator[_Sample], size: int
) -> dict[str, list[str]]:
    """The flat tar, its labels and its boxes; returns the captions by file name."""
    sentences, labels = {}, []
    with (
        tarfile.open(root / "ILSVRC2012_img_val.tar", "w", format=tarfile.USTAR_FORMAT) as images,
        _gzipped_tar(root / "ILSVRC2012_bbox_val.tar.gz") as boxes,
    ):
        for number, (kind, sample) in enumerate(zip(kinds, samples, strict=True), start=1):
            name = f"ILSVRC2012_val_{number:08d}"
            _add(images, f"{name}.JPEG", sample.jpeg)
            _add(boxes, f"val/{name}.xml", _xml("val", name, kind, sample, size))
            sentences[f"{name}.JPEG"] = sample.captions
            labels.append((f"{name}.JPEG", kind.wnid, kind.ilsvrc_id, kind.index))
    _write_table(root / "val_labels.tsv", [("file", "wnid", "ILSVRC2012_ID", "index0"), *labels])
    _write_table(
        root / "ILSVRC2012_validation_ground_truth.txt", [(kind.ilsvrc_id,) for kind in kinds]
    )
    return sentences


def _xml(folder: str, name: str, kind: SyntheticClass, sample: _Sample, size: int) -> bytes:
    xmin, ymin, xmax, ymax = sample.box
    return f"""<annotation>
\t<folder>{folder}</folder>
\t<filename>{name}</filename>
\t<source>
\t\t<database>ILSVRC_2012</database>
\t</source>
\t<size>
\t\t<width>{size}</width>
\t\t<height>{size}</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
\t<object>
\t\t<name>{kind.wnid}</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>{int(sample.truncated)}</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmin>{xmin}</xmin>
\t\t\t<ymin>{ymin}</ymin>
\t\t\t<xmax>{xmax}</xmax>
\t\t\t<ymax>{ymax}</ymax>
\t\t</bndbox>
\t</object>
</annotation>
""".encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # mtime, owner and group are 0
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@contextmanager
def _gzipped_tar(path: Path) -> Iterator[tarfile.TarFile]:
    # tarfile's own "w:gz" writes the time and the path into the header.
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        yield tar


def _write_table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
