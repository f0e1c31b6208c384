"""Whatever happens to a data set, verify finds it and says what to do, and doing that mends it."""

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.dataset import Dataset, ImageClass, read_info
from stages.errors import PipelineError
from stages.shard import shard
from stages.sources import open_source, read_classes
from stages.verify import is_ilsvrc, verify
from stages.workers import processes
from tests.conftest import add, command
from tests.test_shard import contents, folder_of, odd_files


@pytest.fixture
def copy(dataset: Dataset, tmp_path: Path) -> Path:
    """A data set to be damaged."""
    return Path(shutil.copytree(dataset.root, tmp_path / "copy"))


def test_a_whole_data_set_has_no_findings(copy: Path) -> None:
    assert verify(copy) == []
    assert verify(copy, run=processes(2)) == []


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
        (flipped, "has other bytes than were written"),
        (overwritten, "has other bytes than were written: .* damaged or lost, first"),
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
    told = {finding.file: finding for finding in findings}
    assert told.keys() == {name for name, data in whole.items() if contents(copy).get(name) != data}
    finding = told["train-000001.tar"]
    assert re.search(problem, finding.problem)
    assert "pipeline.shard" in finding.fix
    for name in told:
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


def test_a_changed_label_is_found(copy: Path) -> None:
    table = pq.read_table(copy / "manifest.parquet")
    labels = table["label"].to_pylist()
    labels[3] = (labels[3] + 1) % 6
    place = table.schema.get_field_index("label")
    table = table.set_column(place, table.schema.field("label"), pa.array(labels, pa.int32()))
    pq.write_table(table, copy / "manifest.parquet")
    problems = "\n".join(finding.problem for finding in verify(copy, decode=False))
    assert "gives 1 samples a label that is not their synset's" in problems
    assert f"first {table['key'][3]}" in problems


def test_another_order_of_labels_is_found(copy: Path) -> None:
    values = json.loads((copy / "dataset.json").read_text())
    values["classes"].reverse()
    (copy / "dataset.json").write_text(json.dumps(values))
    problems = [finding.problem for finding in verify(copy, decode=False)]
    assert "its classes are not in the order of their synsets" in problems
    assert any("label that is not their synset's" in problem for problem in problems)


def test_the_order_of_ilsvrc_is_known(shared_data: Path, copy: Path) -> None:
    classes = sorted(read_classes(shared_data / "devkit"), key=lambda item: item.synset)
    values = json.loads((copy / "dataset.json").read_text())

    def with_classes(classes: list[ImageClass]) -> None:
        values["classes"] = [asdict(item) for item in classes]
        (copy / "dataset.json").write_text(json.dumps(values))

    with_classes(classes)
    assert is_ilsvrc(read_info(copy))
    by_number = sorted(classes, key=lambda item: item.ilsvrc_id or 0)
    misnumbered = [
        ImageClass(item.synset, number, item.words) for number, item in enumerate(classes, 1)
    ]
    for wrong in (by_number, misnumbered):
        with_classes(wrong)
        assert not is_ilsvrc(read_info(copy))
        assert any("1000 classes are not" in f.problem for f in verify(copy, decode=False))


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
