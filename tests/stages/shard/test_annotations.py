"""Objects and captions go from a source into the manifest, whether or not images have a class."""

import hashlib
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from stages import embedded
from stages.dataset import Box, ImageClass, is_dataset, read_info
from stages.errors import PipelineError
from stages.load.samples import Dataset
from stages.shard import shard
from stages.shard.verify import is_ilsvrc, verify
from stages.sources import Source, open_source
from stages.sources.source import SourceObject
from tests.stages.sources.originals import refused


def rows_of(root: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(root / "manifest.parquet").to_pylist()
    return {row["key"]: row for row in rows}


def unlabelled(found: Source, *classes: str) -> Source:
    """The same images without a class of their own, the first ones with objects, all with a caption."""
    images = [
        replace(
            image,
            synset=None,
            objects=tuple(SourceObject(c, Box(1, 2, 30, 40 + n)) for c in classes) if n < 5 else (),
            captions=(f"Picture {n}.",),
        )
        for n, image in enumerate(found.images)
    ]
    described = tuple(ImageClass(key, None, key) for key in sorted(classes))
    return replace(found, images=tuple(images), classes=described)


def test_objects_go_along_with_their_own_labels(source: Path, tmp_path: Path) -> None:
    found = open_source(source)
    synsets = [item.synset for item in found.classes]
    objects = (
        SourceObject(synsets[4], Box(1, 2, 30, 40)),
        SourceObject("n00000000", Box(0, 0, 9, 9)),
        SourceObject(synsets[0], Box(5, 6, 7.5, 8), difficult=True),
    )
    images = tuple(replace(image, objects=objects) for image in found.images)
    info = shard(replace(found, images=images), tmp_path / "data")
    samples = Dataset(tmp_path / "data").samples("train")
    for found_objects in samples.objects:
        assert found_objects.labels.tolist() == [4, 0]
        assert found_objects.boxes.tolist() == [[1, 2, 30, 40], [5, 6, 7.5, 8]]
        assert found_objects.difficult.tolist() == [False, True]
    assert len(samples.objects.every) == 2 * len(samples) == 192
    assert info.flags == {}
    assert verify(tmp_path / "data") == []


def test_the_digest_of_labelled_images_is_over_keys_labels_and_bytes_alone(
    source: Path, dataset: Dataset, tmp_path: Path
) -> None:
    found = open_source(source)
    annotated = tuple(
        replace(i, objects=(SourceObject(str(i.synset), Box(1, 2, 3, 4)),), captions=("A fish.",))
        for i in found.images
    )
    info = shard(replace(found, images=annotated), tmp_path / "data")
    lines = sorted(
        f"{row['split']} {row['key']} {row['label']} {row['sha256']}\n"
        for row in rows_of(tmp_path / "data").values()
    )
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()[:12]
    assert info.digest == dataset.info.digest == expected
    assert info.plan != dataset.info.plan


def test_embedded_captions_and_objects_arrive(tmp_path: Path) -> None:
    embedded.generate(tmp_path / "embedded", train_per_class=1, val_per_class=1)
    shard(open_source(tmp_path / "embedded"), tmp_path / "data")
    samples = Dataset(tmp_path / "data").samples("val")
    classes = embedded.CLASSES
    for label, objects, captions in zip(
        samples.labels, samples.objects, samples.captions, strict=True
    ):
        assert objects.labels.tolist() == [label]
        assert len(captions) == 5
        assert all(classes[label].shape in text for text in captions)
        assert classes[label].words in captions[0]
    assert verify(tmp_path / "data") == []
    # Sharded once more they are the same.
    again = shard(open_source(tmp_path / "data"), tmp_path / "again")
    assert again.digest == read_info(tmp_path / "data").digest
    columns = ["key", "objects", "captions"]
    first, second = (
        pq.read_table(tmp_path / name / "manifest.parquet", columns=columns).sort_by("key")
        for name in ("data", "again")
    )
    assert first.equals(second)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'["a"]',
        b'{"a.JPEG": "one text"}',
        b'{"a.JPEG": [1]}',
        rb'{"a.JPEG": ["\ud800"]}',
        b"[" * 100_000,
    ],
)
def test_captions_of_another_form_are_refused(source: Path, tmp_path: Path, content: bytes) -> None:
    shutil.copytree(source, tmp_path / "copy")
    (tmp_path / "copy" / "captions.json").write_bytes(content)
    refused(tmp_path / "copy", r"captions\.json cannot be read", "or remove it")


def test_images_without_a_class(source: Path, tmp_path: Path) -> None:
    found = unlabelled(open_source(source), "zebra", "ant")
    info = shard(found, tmp_path / "data", shard_bytes=100_000)
    assert not info.labelled
    assert [item.synset for item in info.classes] == ["ant", "zebra"]
    assert info.counts == {"train": 96, "val": 42}
    rows = rows_of(tmp_path / "data")
    assert {(row["label"], row["synset"]) for row in rows.values()} == {(None, None)}
    samples = Dataset(tmp_path / "data").samples("train")
    key = found.images[0].key
    first = samples.keys.index(key)
    assert samples.objects[first].labels.tolist() == [1, 0]
    assert samples.captions[first] == ["Picture 0."]
    assert sum(map(len, samples.objects)) == 10
    with pytest.raises(PipelineError, match="have no class labels") as raised:
        _ = samples.labels
    assert "a class each" in raised.value.fix
    # A shard holds the images alone.
    with tarfile.open(tmp_path / "data" / rows[key]["shard"]) as tar:
        assert all(name.endswith(".jpg") for name in tar.getnames())
    assert verify(tmp_path / "data") == []
    assert not is_ilsvrc(info)


def test_what_is_known_of_images_without_a_class_is_their_identity(
    source: Path, tmp_path: Path
) -> None:
    found = unlabelled(open_source(source), "zebra", "ant")
    other = list(found.images)
    moved = SourceObject("ant", Box(0, 0, 5, 5))
    changes = {
        "same": {},
        "moved": {"objects": (moved, *other[0].objects[1:])},
        "difficult": {"objects": (replace(other[0].objects[0], difficult=True),)},
        "said": {"captions": ("Something else.",)},
    }
    digests = {}
    for name, change in changes.items():
        images = (replace(other[0], **change), *other[1:])
        digests[name] = shard(replace(found, images=images), tmp_path / name).digest
    assert len(set(digests.values())) == 4
    # Of the order of the samples it does not depend, nor of how often they were sharded.
    assert shard(found, tmp_path / "other order", seed=1).digest == digests["same"]
    again = shard(open_source(tmp_path / "same"), tmp_path / "again")
    assert (again.digest, again.labelled) == (digests["same"], False)


def test_captions_alone_have_no_classes(source: Path, tmp_path: Path) -> None:
    found = unlabelled(open_source(source))
    info = shard(found, tmp_path / "data")
    assert (info.classes, info.labelled) == ((), False)
    assert Dataset(tmp_path / "data").samples("val").captions[0][0].startswith("Picture")
    assert verify(tmp_path / "data") == []
    assert shard(open_source(tmp_path / "data"), tmp_path / "again").digest == info.digest


def test_odd_boxes_are_noted_and_kept(source: Path, tmp_path: Path) -> None:
    found = open_source(source)
    synset = found.classes[0].synset
    width, height = 64, 64
    boxes = {
        0: (Box(0, 0, width - 1, height - 1), []),
        1: (Box(5, 5, 5, 9), ["box-empty"]),
        2: (Box(9, 5, 5, 9), ["box-empty"]),
        3: (Box(0, 0, width, height), []),
        4: (Box(0, 0, width + 1, 9), ["box-outside"]),
        5: (Box(-2, 0, 9, 9), ["box-outside"]),
        6: (Box(-2, 0, -2, 9), ["box-empty", "box-outside"]),
    }
    images = list(found.images)
    for place, (box, _) in boxes.items():
        images[place] = replace(images[place], objects=(SourceObject(synset, box),))
    info = shard(replace(found, images=tuple(images)), tmp_path / "data")
    rows = rows_of(tmp_path / "data")
    if {(row["width"], row["height"]) for row in rows.values()} != {(width, height)}:
        pytest.skip("needs images of 64 pixels")
    for place, (box, flags) in boxes.items():
        row = rows[images[place].key]
        assert [flag for flag in row["flags"] if flag.startswith("box")] == flags, box
        assert list(row["objects"][0].values())[1:5] == [box.xmin, box.ymin, box.xmax, box.ymax]
    assert info.flags["box-empty"] == info.flags["box-outside"] == 3


def test_a_data_set_with_and_without_classes_is_refused(source: Path, tmp_path: Path) -> None:
    shard(open_source(source), tmp_path / "data")
    table = pq.read_table(tmp_path / "data" / "manifest.parquet")
    place = table.schema.get_field_index("synset")
    synsets = [None, *table["synset"].to_pylist()[1:]]
    changed = table.set_column(place, "synset", [synsets])
    pq.write_table(changed, tmp_path / "data" / "manifest.parquet")
    refused(tmp_path / "data", "137 of the 138 images .* have a class", "or none that has")
    assert is_dataset(tmp_path / "data")
