import tarfile
from pathlib import Path

import pytest

from stages.sources import open_source
from tests.conftest import add
from tests.stages.sources.originals import Originals, read_originals


@pytest.fixture(scope="session")
def boxed_source(
    whole_source: Path, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`source` with its part of the boxes archives beside it, called as the publisher calls them."""
    folder = tmp_path_factory.mktemp("sources") / "boxed"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)
    keys = {image.key for image in open_source(source).images}
    for split, new in (("train", "train_v2.tar.gz"), ("val", "val_v3.tgz")):
        with (
            tarfile.open(whole_source / f"ILSVRC2012_bbox_{split}.tar.gz") as old,
            tarfile.open(folder / f"ILSVRC2012_bbox_{new}", "w:gz") as archive,
        ):
            for member in old:
                if Path(member.name).stem in keys:
                    add(archive, member.name, old.extractfile(member).read())
    return folder


@pytest.fixture(scope="session")
def originals(boxed_source: Path) -> Originals:
    return read_originals(boxed_source)
