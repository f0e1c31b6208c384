from pathlib import Path

import pytest

from tests.sources.originals import Originals, read_originals


@pytest.fixture(scope="session")
def boxed_source(
    whole_source: Path, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`source` with the boxes archives of the set it was cut from beside it."""
    folder = tmp_path_factory.mktemp("sources") / "boxed"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)
    for split, new in (("train", "train_v2.tar.gz"), ("val", "val_v3.tgz")):
        old = whole_source / f"ILSVRC2012_bbox_{split}.tar.gz"
        (folder / f"ILSVRC2012_bbox_{new}").symlink_to(old)  # as the publisher calls them
    return folder


@pytest.fixture(scope="session")
def originals(boxed_source: Path) -> Originals:
    return read_originals(boxed_source)
