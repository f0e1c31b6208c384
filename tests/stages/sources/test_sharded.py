"""A finished data set is a source too, and every source may lie in an object store."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.load.samples import Dataset
from stages.sources import check_source, fingerprint, open_source
from stages.storage import open_folder
from tests.stages.sources.originals import Originals, contents, expected, refused, refused_at_once


def test_bytes_and_labels(dataset: Dataset, originals: Originals) -> None:
    check_source(dataset.root)
    found = open_source(dataset.root)
    assert contents(found) == expected(originals)
    assert found.classes == dataset.info.classes


def test_a_data_set_without_its_manifest_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_bytes((dataset.root / "dataset.json").read_bytes())
    refused_at_once(tmp_path, r"has no manifest\.parquet", "copy the data set's folder again")
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1")
    refused(tmp_path, "is damaged", "copy the data set's folder again")


@pytest.mark.parametrize("key", ["x" * 97, "café", "a/b", "a.b", ""])
def test_a_key_that_fits_into_no_tar_is_refused(dataset: Dataset, tmp_path: Path, key: str) -> None:
    (tmp_path / "dataset.json").write_bytes((dataset.root / "dataset.json").read_bytes())
    manifest = pq.read_table(dataset.root / "manifest.parquet")
    for name, problem in (
        ("x" * 96, None),
        (key, f"image called {key!r}, which is not a valid sample name"),
    ):
        keys = pa.array([name, *manifest["key"].to_pylist()[1:]])
        column = manifest.schema.get_field_index("key")
        pq.write_table(manifest.set_column(column, "key", keys), tmp_path / "manifest.parquet")
        if problem is None:
            assert name in {image.key for image in open_source(tmp_path).images}
        else:
            refused(tmp_path, problem, "1 to 96 letters")


def test_archives_in_an_object_store(boxed_source: Path, originals: Originals) -> None:
    url = "memory://bucket/sets/mini"
    folder = open_folder(url)
    for path in boxed_source.iterdir():
        folder.write_atomic(path.name, path.read_bytes())
    check_source(url)
    found = open_source(url)
    assert found.name == "mini"
    assert contents(found) == expected(originals)
    assert [image.boxes for image in found.images] == [i.boxes for i in originals.images]


def test_class_folders_in_an_object_store(originals: Originals) -> None:
    url = "memory://bucket/sets/folders"
    folder = open_folder(url)
    for image in originals.images:
        folder.write_atomic(f"{image.split}/{image.synset}/{image.name}", image.data)
    check_source(url)
    assert contents(open_source(url)) == expected(originals)


def test_a_fingerprint_changes_with_any_file(originals: Originals, tmp_path: Path) -> None:
    path = tmp_path / "train" / "a" / "x.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(originals.images[0].data)
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    path.write_bytes(originals.images[0].data[::-1])
    second = fingerprint(tmp_path)
    path.rename(path.with_name("y.jpg"))
    assert len({first, second, fingerprint(tmp_path)}) == 3


def test_what_is_no_source(tmp_path: Path) -> None:
    refused_at_once(tmp_path / "nowhere", "does not exist", "embedded images")
    (tmp_path / "file").write_text("x")
    refused_at_once(tmp_path / "file", "is a file, not a folder", "the folder that holds it")
    refused_at_once(tmp_path, r"in a known layout \(found: file", "give a folder with")
    refused_at_once("memory://bucket/nothing", "found: nothing", "give a folder with")
