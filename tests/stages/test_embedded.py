"""The embedded data set: its archives, its bytes, and what its pictures show."""

import csv
import io
import json
import resource
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from stages.embedded import CLASSES, generate
from stages.embedded.scene import paint
from stages.embedded.shapes import SHAPES, TEXTURES

TRAIN, VAL, SIZE = 24, 6, 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded") / "parent" / "set"
    return generate(folder, train_per_class=TRAIN, val_per_class=VAL, image_size=SIZE)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def files(tar: tarfile.TarFile) -> dict[str, bytes]:
    return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.fixture(scope="module")
def train_images(root: Path) -> dict[str, bytes]:
    with tarfile.open(root / "ILSVRC2012_img_train.tar") as outer:
        synsets = files(outer)
    assert list(synsets) == [f"{kind.wnid}.tar" for kind in CLASSES]
    images = {}
    for content in synsets.values():
        with tarfile.open(fileobj=io.BytesIO(content)) as synset:
            images |= files(synset)
    return images


@pytest.fixture(scope="module")
def val_images(root: Path) -> dict[str, bytes]:
    with tarfile.open(root / "ILSVRC2012_img_val.tar") as tar:
        return files(tar)


@pytest.fixture(scope="module")
def kinds(root: Path, train_images: dict[str, bytes]) -> dict[str, int]:
    """The class of each file, by the route that ILSVRC's own layout gives."""
    index = {int(row["ILSVRC2012_ID"]): int(row["index0"]) for row in table(root / "classes.tsv")}
    truth = (root / "ILSVRC2012_validation_ground_truth.txt").read_text().splitlines()
    found = {f"ILSVRC2012_val_{n:08d}.JPEG": index[int(i)] for n, i in enumerate(truth, start=1)}
    by_wnid = {kind.wnid: kind.index for kind in CLASSES}
    return found | {name: by_wnid[name.partition("_")[0]] for name in train_images}


def test_images_are_named_counted_and_sized_as_in_ilsvrc(
    train_images: dict[str, bytes], val_images: dict[str, bytes]
) -> None:
    assert list(train_images) == [
        f"{kind.wnid}_{n}.JPEG" for kind in CLASSES for n in range(1, TRAIN + 1)
    ]
    assert list(val_images) == [
        f"ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, VAL * len(CLASSES) + 1)
    ]
    for content in (train_images | val_images).values():
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIZE, SIZE))


def test_no_two_images_are_the_same(
    train_images: dict[str, bytes], val_images: dict[str, bytes]
) -> None:
    contents = [*train_images.values(), *val_images.values()]
    assert len(set(contents)) == len(contents)


def test_class_table(root: Path) -> None:
    rows = table(root / "classes.tsv")
    assert len(rows) == len(SHAPES) * len(TEXTURES) >= 20
    wnids = [row["wnid"] for row in rows]
    assert wnids == sorted(set(wnids))
    # WordNet 3.0 has no noun at or above this offset.
    assert all(len(wnid) == 9 and wnid[0] == "n" and int(wnid[1:]) > 15300051 for wnid in wnids)
    assert [int(row["index0"]) for row in rows] == list(range(len(rows)))
    assert {(row["n_train"], row["n_val"]) for row in rows} == {(str(TRAIN), str(VAL))}
    assert len({row["words"] for row in rows}) == len(rows)


def test_ilsvrc_ids_are_a_permutation_that_never_agrees_with_the_index(root: Path) -> None:
    rows = table(root / "classes.tsv")
    ids = [int(row["ILSVRC2012_ID"]) for row in rows]
    assert sorted(ids) == list(range(1, len(rows) + 1))
    assert all(i not in (index, index + 1) for index, i in enumerate(ids))


def test_val_labels_agree_and_are_shuffled(root: Path, kinds: dict[str, int]) -> None:
    rows = table(root / "val_labels.tsv")
    assert [kinds[row["file"]] for row in rows] == [int(row["index0"]) for row in rows]
    labels = [int(row["index0"]) for row in rows]
    assert set(Counter(labels).values()) == {VAL}
    assert labels != sorted(labels)


def test_archives_are_plain_ustar_with_fixed_times(root: Path) -> None:
    for path in [*root.glob("*.tar"), *root.glob("*.tar.gz")]:
        with tarfile.open(path) as tar:
            for member in tar:
                assert member.isfile()
                assert member.pax_headers == {}
                assert (member.mtime, member.uid, member.gid) == (0, 0, 0)


def test_same_seed_same_bytes_other_seed_other_images(tmp_path: Path) -> None:
    sets = [
        generate(tmp_path / name, seed=seed, train_per_class=2, val_per_class=1, image_size=SIZE)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, again, other = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in sets
    )
    assert first == again
    for name in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "captions.json"):
        assert first[name] != other[name]
    assert first["classes.tsv"] == other["classes.tsv"]


def boxes(root: Path) -> dict[str, tuple[ElementTree.Element, tuple[int, ...]]]:
    found = {}
    for split in ("train", "val"):
        with tarfile.open(root / f"ILSVRC2012_bbox_{split}.tar.gz") as tar:
            for name, content in files(tar).items():
                annotation = ElementTree.fromstring(content)
                assert name == (
                    f"{annotation.findtext('folder')}/{annotation.findtext('filename')}.xml"
                )
                box = annotation.find("object/bndbox")
                corners = tuple(int(box.findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax"))
                found[f"{annotation.findtext('filename')}.JPEG"] = annotation, corners
    return found


def test_every_image_has_a_box_inside_it_that_names_its_class(
    root: Path, kinds: dict[str, int]
) -> None:
    found = boxes(root)
    assert found.keys() == kinds.keys()
    for name, (annotation, (xmin, ymin, xmax, ymax)) in found.items():
        assert annotation.findtext("object/name") == CLASSES[kinds[name]].wnid
        assert annotation.findtext("size/width") == str(SIZE)
        assert 0 <= xmin < xmax < SIZE
        assert 0 <= ymin < ymax < SIZE
        assert min(xmax - xmin, ymax - ymin) > SIZE / 4


def test_boxes_are_around_the_object() -> None:
    """The same scene with another texture differs inside the box alone, and up to its border."""
    n, size = 12, 96
    shape = np.arange(n) % len(SHAPES)
    one, two = (
        paint(np.random.default_rng(3), shape, np.full(n, texture), size) for texture in (0, 2)
    )
    np.testing.assert_array_equal(one.boxes, two.boxes)
    changed = np.abs(one.pixels.astype(int) - two.pixels).max(axis=3) > 8
    for mask, (xmin, ymin, xmax, ymax) in zip(changed, one.boxes, strict=True):
        inside = mask[ymin : ymax + 1, xmin : xmax + 1]
        # The outline fades over a pixel, at sharp corners over two.
        around = mask[max(0, ymin - 2) : ymax + 3, max(0, xmin - 2) : xmax + 3]
        assert mask.sum() == around.sum()
        rows, columns = inside.any(axis=1).nonzero()[0], inside.any(axis=0).nonzero()[0]
        slack = 0.15 * size  # stripes and spots can agree for a while along the border
        assert np.ptp(rows) > len(inside) - slack
        assert np.ptp(columns) > inside.shape[1] - slack


def test_captions_tell_the_shape_and_the_texture(root: Path, kinds: dict[str, int]) -> None:
    sentences = json.loads((root / "captions.json").read_text())
    assert sentences.keys() == kinds.keys()
    for name, said in sentences.items():
        kind = CLASSES[kinds[name]]
        assert len(said) == len(set(said)) == 5
        for sentence in said:
            words = set(sentence.rstrip(".").lower().replace(",", "").split())
            assert words & SHAPES.keys() == {kind.shape}
            assert words & TEXTURES.keys() == {kind.texture}


def test_captions_tell_the_place(root: Path) -> None:
    sentences = json.loads((root / "captions.json").read_text())
    for name, (_, (xmin, ymin, xmax, ymax)) in boxes(root).items():
        said = sentences[name][0].split("the picture")[0]
        x, y = (xmin + xmax + 1) / 2 / SIZE, (ymin + ymax + 1) / 2 / SIZE
        assert ("left" in said, "right" in said) == (x < 0.44, x > 0.56)
        assert ("top" in said, "bottom" in said) == (y < 0.44, y > 0.56)


def test_a_linear_model_on_pixels_fails(
    train_images: dict[str, bytes], val_images: dict[str, bytes], kinds: dict[str, int]
) -> None:
    def pixels(images: dict[str, bytes]) -> torch.Tensor:
        thumbnails = [
            Image.open(io.BytesIO(i)).resize((32, 32), Image.BOX) for i in images.values()
        ]
        return torch.from_numpy(np.stack(thumbnails)).flatten(1).float()

    def labels(images: dict[str, bytes]) -> torch.Tensor:
        return torch.tensor([kinds[name] for name in images])

    x, y = pixels(train_images), labels(train_images)
    mean, std = x.mean(dim=0), x.std(dim=0)
    x = (x - mean) / std
    torch.manual_seed(0)
    model = torch.nn.Linear(x.shape[1], len(CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    predicted = model((pixels(val_images) - mean) / std).argmax(dim=1)
    assert (model(x).argmax(dim=1) == y).float().mean() > 0.9  # it did learn its training images
    assert (predicted != labels(val_images)).float().mean() > 0.7


def test_refuses_to_overwrite(root: Path) -> None:
    before = (root / "classes.tsv").read_bytes()
    with pytest.raises(FileExistsError, match="remove it"):
        generate(root, train_per_class=1, val_per_class=1)
    assert (root / "classes.tsv").read_bytes() == before


@pytest.mark.parametrize("knob", ["train_per_class", "val_per_class", "image_size"])
def test_refuses_sizes_that_mean_nothing(tmp_path: Path, knob: str) -> None:
    with pytest.raises(ValueError, match=f"{knob}=0"):
        generate(tmp_path / "set", **{knob: 0})
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A file size limit stands in for a full disk."""
    script = (
        "import pathlib, sys; from stages.embedded import generate;"
        "generate(pathlib.Path(sys.argv[1]), train_per_class=4, val_per_class=4)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "set")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "OSError: [Errno 27]" in done.stderr
    assert list(tmp_path.iterdir()) == []
