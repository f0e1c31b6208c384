"""Where the images that a command is about are found."""

import shutil
from pathlib import Path

import pytest

from pipeline.engine.command_line import EMBEDDED, Where
from pipeline.engine.data import check, locate
from pipeline.engine.progress import Progress
from pipeline.engine.workspace import Workspace
from stages import embedded
from stages.dataset import is_dataset
from stages.load.samples import Dataset


@pytest.mark.parametrize("form", ["{}/mine", "mine", "file://{}/mine"])
def test_a_given_data_set_is_taken_and_never_deleted(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    shutil.copytree(dataset.root, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.open(tmp_path / "workspace")
    with Progress() as progress:
        found = locate(form.format(tmp_path), workspace, progress, redo=True)
    assert (found.dataset, found.source) == (tmp_path / "mine", None)
    assert is_dataset(tmp_path / "mine")


def test_the_embedded_images_by_default_and_by_their_word(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    embedded.generate(workspace.sources / "embedded-24", train_per_class=2, val_per_class=1)
    check(EMBEDDED)
    with Progress() as progress:
        found = locate("embedded", workspace, progress)
        assert found == locate(Where().source("imagenet"), workspace, progress)
    assert (found.name, found.counts) == ("embedded-24", {"train": 48, "val": 24})
