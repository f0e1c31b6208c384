"""Whatever happens to a data set, verify finds it and says what to do, and doing that mends it."""

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from timm.data import ImageNetInfo

from stages.dataset import REJECTS_SCHEMA, read_info
from stages.errors import PipelineError
from stages.load.samples import Dataset
from stages.parallel import processes
from stages.shard import shard
from stages.shard.verify import is_ilsvrc, verify
from stages.sources import open_source, read_classes
from tests.conftest import add, command, tar_of
from tests.stages.shard.test_shard import contents, folder_of, odd_files


@pytest.fixture
def copy(dataset: Dataset, tmp_path: Path) -> Path:
    """A data set to be damaged."""
    return Path(shutil.copytree(dataset.root, tmp_path / "copy"))


def test_a_whole_data_set_has_no_findings(copy: Path) -> None:
    assert verify(copy) == []
    assert verify(copy, pmap=processes(2)) == []


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 3)
        file.write(b"garbage " * 2000)


def lengthened(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(512))


def swapped(path: Path) -> None:
    other = path.with_name("train-000000.tar")
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)


def doubled_member(path: Path) -> None:
    with tarfile.open(path, "a") as tar:
        add(tar, tar.getnames()[0], b"another content")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (Path.unlink, "is missing"),
        (truncated, "instead of .* images are damaged or lost"),
        (emptied, "is 0 bytes long"),
        (flipped, "has different content than was written"),
        (overwritten, "has different content than was written: .* damaged or lost, first"),
        (lengthened, "bytes long instead of .*, all outside its images"),
        (swapped, "has the content of train-000000.tar"),
        (doubled_member, "all outside its images|instead of"),
    ],
)
def test_damage_to_a_shard_is_found_and_mended_as_advised(
    source: Path, copy: Path, damage: Callable[[Path], None], problem: str
) -> None:
    whole = contents(copy)
    damage(copy / "train-000001.tar")
    findings = verify(copy, decode=False)
    findings = {finding.file: finding for finding in findings}
    assert findings.keys() == {
        name for name, data in whole.items() if contents(copy).get(name) != data
    }
    finding = findings["train-000001.tar"]
    assert re.search(problem, finding.problem)
    assert "pipeline.shard" in finding.fix
    for name in findings:
        (copy / name).unlink(missing_ok=True)
    shard(open_source(source), copy, shard_bytes=100_000)
    assert contents(copy) == whole


def test_damage_beside_the_shards_is_found(copy: Path) -> None:
    whole = contents(copy)
    for name in ("manifest.parquet", "rejects.parquet", "mean_image.npy", "_info.json"):
        for damage in (Path.unlink, truncated, emptied):
            damage(copy / name)
            assert name in {finding.file for finding in verify(copy, decode=False)}, (name, damage)
            (copy / name).write_bytes(whole[name])
    (copy / "dataset.json").write_text("{")
    with pytest.raises(PipelineError, match="not a readable data set"):
        verify(copy)
    (copy / "dataset.json").unlink()
    with pytest.raises(PipelineError, match="not a finished data set"):
        verify(copy)


def test_what_does_not_belong_is_found(copy: Path) -> None:
    (copy / "train-000099.tar").write_bytes(b"")
    (copy / "_work").mkdir()
    (copy / "_work" / "train-000000.tar.parquet").write_bytes(b"")
    assert {finding.file for finding in verify(copy, decode=False)} == {
        "train-000099.tar",
        "_work/train-000000.tar.parquet",
    }


def change(root: Path, name: str, values: Callable[[list[Any]], list[Any]]) -> None:
    """Change a column of the manifest."""
    table = pq.read_table(root / "manifest.parquet")
    place = table.schema.get_field_index(name)
    field = table.schema.field(name)
    changed = pa.array(values(table[name].to_pylist()), field.type)
    pq.write_table(table.set_column(place, field, changed), root / "manifest.parquet")


def describe(root: Path, **changed: Any) -> None:
    """Change what ``dataset.json`` says."""
    values = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**values, **changed}))


def problems(root: Path, *, decode: bool = False) -> str:
    return "\n".join(str(finding) for finding in verify(root, decode=decode))


def next_label(labels: list[int]) -> list[int]:
    return [(labels[0] + 1) % 6, *labels[1:]]


def same_key(keys: list[str]) -> list[str]:
    return [keys[1], *keys[1:]]


def one_more(numbers: list[int]) -> list[int]:
    return [numbers[0] + 1, *numbers[1:]]


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("label", next_label, "gives 1 samples a label that is not their synset's"),
        ("key", same_key, "holds 1 keys more than once, first {second}\n"),
        ("key", same_key, r"train-000000.tar holds (\d+) samples, .* correctly, first {second}\n"),
        (
            "offset",
            one_more,
            r"train-000000.tar holds (\d+) samples, .* correctly, first {first}\n",
        ),
        ("width", one_more, r"{first} \(from .*\) does not decode: it is \d+ x \d+ (RGB|L)\n"),
    ],
)
def test_a_changed_manifest_is_found(copy: Path, column: str, values, problem: str) -> None:
    first, second = pq.read_table(copy / "manifest.parquet")["key"].to_pylist()[:2]
    change(copy, column, values)
    found = problems(copy, decode=True)
    assert re.search(problem.format(first=first, second=second), found), found
    assert "manifest.parquet: is not the one that was written with the data set" in found


def objects_of(column: list[Any], **changed: Any) -> list[Any]:
    """Give the first sample an object with something changed."""
    corners = {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}
    return [[{"label": 0, **corners, "difficult": False, **changed}], *column[1:]]


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        (
            "label",
            lambda old: [None, *old[1:]],
            "has 1 samples without a label, but .* every sample has one",
        ),
        ("objects", lambda old: [None, *old[1:]], "has 1 samples without a list of objects"),
        ("objects", lambda old: [[None], *old[1:]], "1 samples with incomplete objects"),
        (
            "objects",
            partial(objects_of, label=6),
            "with objects whose class is not in the data set, first",
        ),
        (
            "objects",
            partial(objects_of, label=-1),
            "with objects whose class is not in the data set",
        ),
        (
            "objects",
            partial(objects_of, label=None),
            "with objects whose class is not in the data set",
        ),
        ("objects", partial(objects_of, difficult=None), "with incomplete objects"),
        ("objects", partial(objects_of, xmin=None), "with boxes whose corners are not numbers"),
        ("objects", partial(objects_of, ymax=float("nan")), "boxes whose corners are not numbers"),
        (
            "objects",
            partial(objects_of, xmax=9999),
            "with flags that do not match their odd boxes",
        ),
        ("objects", partial(objects_of, xmax=1), "with flags that do not match their odd boxes"),
        ("captions", lambda old: [["A fish.", " \n"], *old[1:]], "has 1 empty captions"),
        ("captions", lambda old: [[None], *old[1:]], "has 1 empty captions"),
        ("captions", lambda old: [None, *old[1:]], "and 1 samples without a list of them"),
    ],
)
def test_what_is_wrong_with_annotations_is_found(
    copy: Path, column: str, values: Callable[[list[Any]], list[Any]], problem: str
) -> None:
    change(copy, column, values)
    found = problems(copy)
    assert "manifest.parquet: is not the one that was written with the data set" in found
    assert re.search(problem, found), found


@pytest.mark.parametrize(("column", "value"), [("objects", None), ("captions", None), ("label", 0)])
def test_what_is_wrong_without_labels_is_found(
    source: Path, tmp_path: Path, column: str, value: object
) -> None:
    found = open_source(source)
    images = tuple(replace(image, synset=None, captions=("A.",)) for image in found.images)
    shard(replace(found, images=images, classes=()), tmp_path / "data")
    assert verify(tmp_path / "data") == []
    change(tmp_path / "data", column, lambda old: [value, *old[1:]])
    said = problems(tmp_path / "data")
    assert "does not describe the data set" in said or column == "objects"
    if column == "label":
        assert "has 1 samples with a label, but dataset.json says that none has one" in said
    else:
        assert "samples without a list of" in said


def test_odd_boxes_are_noted_and_no_fault(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the real set: 63 training and 7 validation images have a box of no width or height."""
    found = open_source(shared_data / "mini-imagenet-real" / "in64-100")
    empty = [
        image
        for image in found.images
        if any(box.xmax <= box.xmin or box.ymax <= box.ymin for box in image.boxes)
    ]
    assert [sum(i.split == split for i in empty) for split in ("train", "val")] == [63, 7]
    # These, and a few of each class that the classes stay.
    few = tuple(dict.fromkeys([*found.images[::35], *empty]))
    info = shard(replace(found, images=few), tmp_path / "data")
    assert info.flags["box-empty"] == 70
    notes: list[str] = []
    assert verify(tmp_path / "data", decode=False, note=notes.append) == []
    (note,) = notes
    assert note.startswith("70 images have an empty box (box-empty), first ")
    done = command("pipeline.verify", tmp_path / "data", "--workers", "1", "--no-decode")
    assert done.returncode == 0, done.stderr
    assert f"noted     {note}" in done.stdout
    assert "is whole" in done.stdout
    # Sharded again they are noted again.
    assert shard(open_source(tmp_path / "data"), tmp_path / "again").flags == info.flags


def test_other_columns_are_found(copy: Path) -> None:
    for name in ("manifest.parquet", "rejects.parquet"):
        pq.write_table(pq.read_table(copy / name).drop_columns("split"), copy / name)
    found = problems(copy)
    assert "manifest.parquet: has different columns from a data set's" in found
    assert "rejects.parquet: has different columns from a data set's" in found


def test_other_numbers_than_the_data_set_says_are_found(copy: Path) -> None:
    fates = read_info(copy).fates
    describe(copy, counts={"train": 97, "val": 41}, fates={**fates, "refused": 3})
    found = problems(copy)
    assert "has 96 train images, but dataset.json says 97" in found
    assert "has 42 val images, but dataset.json says 41" in found
    assert "rejects.parquet: lists 0 files, but dataset.json says 3" in found


def test_another_digest_is_found(copy: Path) -> None:
    describe(copy, digest="0" * 12)
    assert "manifest.parquet: does not describe the data set 000000000000" in problems(copy)


def test_descriptions_of_another_data_set_are_found(copy: Path) -> None:
    image = np.load(copy / "mean_image.npy")
    np.save(copy / "mean_image.npy", image + 1)
    info = (copy / "_info.json").read_text()
    (copy / "_info.json").write_text(info.replace("train-000000.tar", "train-000009.tar"))
    found = problems(copy)
    assert "mean_image.npy: is not the mean image of this data set" in found
    assert "_info.json: does not describe these shards" in found


def test_a_class_whose_training_images_were_refused_is_found(tmp_path: Path) -> None:
    source = folder_of({"plain": odd_files()["plain"]}, tmp_path / "source")
    (source / "train" / "n01443537").mkdir()
    (source / "train" / "n01443537" / "a.JPEG").write_bytes(odd_files()["html"])
    shard(open_source(source), tmp_path / "data")
    (finding,) = verify(tmp_path / "data")
    assert finding.problem == "class 1 (n01443537) has no training image"
    assert "rejects.parquet" in finding.fix


def test_another_order_of_labels_is_found(copy: Path) -> None:
    describe(copy, classes=[asdict(item) for item in reversed(read_info(copy).classes)])
    found = problems(copy)
    assert "its classes are not in the order of their synsets" in found
    assert "label that is not their synset's" in found


def test_numbers_that_no_devkit_has_are_found(copy: Path) -> None:
    classes = [asdict(item) for item in read_info(copy).classes]
    for wrong in (0, 1001, classes[1]["ilsvrc_id"]):
        describe(copy, classes=[{**classes[0], "ilsvrc_id": wrong}, *classes[1:]])
        assert "its ILSVRC2012_IDs are not those of a devkit" in problems(copy)


def test_the_order_of_ilsvrc_is_known(shared_data: Path, copy: Path) -> None:
    classes = sorted(read_classes(shared_data / "devkit"), key=lambda item: item.synset)
    by_number = sorted(classes, key=lambda item: item.ilsvrc_id or 0)
    misnumbered = [replace(item, ilsvrc_id=number) for number, item in enumerate(classes, 1)]
    unnumbered = [replace(item, ilsvrc_id=None) for item in classes]
    others = [replace(item, synset=f"{item.synset}x") for item in classes]
    for found, known, whole in (
        (classes, True, True),
        (unnumbered, True, True),
        (misnumbered, True, False),
        (by_number, False, False),
        (others, False, False),
    ):
        describe(copy, classes=[asdict(item) for item in found])
        assert is_ilsvrc(read_info(copy)) == known
        assert ("1000 classes are not ILSVRC-2012's" not in problems(copy)) == whole


def test_ilsvrc_is_known_by_its_synsets_and_has_its_numbers_of_images(tmp_path: Path) -> None:
    """One folder per class, no devkit. Of all but two images per class it is enough that they are listed."""
    synsets = ImageNetInfo().label_names()
    source = tmp_path / "source"
    image = odd_files()["plain"]
    for split in ("train", "val"):
        for synset in synsets:
            (source / split / synset).mkdir(parents=True)
            (source / split / synset / "a.JPEG").write_bytes(image)
    data = tmp_path / "data"
    fates = shard(open_source(source), data).fates
    assert is_ilsvrc(read_info(data))
    (finding,) = verify(data, decode=False)
    assert finding.problem == (
        "1,000 classes have a different number of images than in ILSVRC-2012 (732 to 1,300 training and 50 "
        "validation images), first class 0 (n01440764) with 1 and 1"
    )
    assert "a deliberate subset may be used" in finding.fix

    def refuse(train: list[int], val: list[int]) -> None:
        """Let so many images of each class be in the source."""
        each = np.array([train, val]) - 1
        columns = {
            "split": np.repeat(["train", "val"], each.sum(axis=1)),
            "label": np.repeat(np.tile(np.arange(1000), 2), each.ravel()),
        }
        rows = int(each.sum())
        table = {field.name: pa.nulls(rows, field.type) for field in REJECTS_SCHEMA} | columns
        pq.write_table(pa.table(table, REJECTS_SCHEMA), data / "rejects.parquet")
        describe(data, fates={**fates, "refused": rows})

    train, val = [732, 1300] * 500, [50] * 1000
    refuse(train, val)
    assert verify(data, decode=False) == []
    train[7], train[8], val[9], val[10] = 731, 1301, 49, 51
    refuse(train, val)
    (finding,) = verify(data, decode=False)
    assert finding.problem.startswith("4 classes have a different number of images")
    assert finding.problem.endswith(f"first class 7 ({synsets[7]}) with 731 and 50")


@pytest.mark.parametrize(("name", "findings"), [("n01440764_1", 0), ("a", 1)])
def test_labels_of_unknown_order_are_found(tmp_path: Path, name: str, findings: int) -> None:
    (tmp_path / "source").mkdir()
    for split in ("train", "val"):
        sample = tar_of([(f"{name}.jpg", odd_files()["plain"]), (f"{name}.cls", b"0")])
        (tmp_path / "source" / f"{split}-000000.tar").write_bytes(sample)
    shard(open_source(tmp_path / "source"), tmp_path / "data")
    found = verify(tmp_path / "data")
    assert len(found) == findings
    for finding in found:
        assert (
            "its labels are the source's own numbers, whose order nothing confirms"
            in finding.problem
        )
        assert "files whose names hold their synset" in finding.fix


def test_an_image_that_does_not_decode_is_found(tmp_path: Path) -> None:
    png = odd_files()["png"]
    source = folder_of({"plain": odd_files()["plain"]}, tmp_path / "source")
    damaged = png[:60] + png[-40:]  # its end marker is there
    (source / "val" / "n01440764" / "a.png").write_bytes(damaged)
    shard(open_source(source), tmp_path / "data")
    assert verify(tmp_path / "data", decode=False) == []
    (finding,) = verify(tmp_path / "data")
    assert "does not decode: truncated or damaged" in finding.problem
    assert "--check-pixels" in finding.fix


def test_the_command_line_tells_findings_by_its_status(copy: Path) -> None:
    done = command("pipeline.verify", copy, "--workers", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "is whole" in done.stdout
    truncated(copy / "val-000000.tar")
    done = command("pipeline.verify", copy, "--workers", "1")
    assert done.returncode == 2
    assert "val-000000.tar: is" in done.stdout
    assert "fix: delete the shard" in done.stdout
    assert "1 fault" in done.stderr
