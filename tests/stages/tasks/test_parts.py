"""A test that several workers share is the test of one."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stages.evaluate import evaluate_in_parts, read_evaluation
from stages.job import RunFolder, TrainJob
from stages.load.samples import Dataset
from stages.parallel import alone
from stages.tasks.classification.recipe import Classification
from stages.tasks.task import Net
from stages.train import train


@pytest.fixture(scope="module")
def net(recipe: Classification, dataset: Dataset, tmp_path_factory) -> Net:
    folder = RunFolder(tmp_path_factory.mktemp("net"))
    one = replace(recipe, epochs=1)
    train(TrainJob(one, dataset.root, folder, seed=0))
    return Net(one, folder.weights)


@pytest.mark.parametrize("workers", [2, 5, 50])
def test_parts_add_up_to_the_whole(
    net: Net, dataset: Dataset, tmp_path: Path, workers: int
) -> None:
    protocols = ["centre_crop", "ten_crop"]
    folders = []
    for count in (1, workers):
        folders.append(RunFolder(tmp_path / str(count)))
        evaluate_in_parts(
            [net], dataset.root, protocols, folders[-1], pmap=alone, workers=count, processes=0
        )
    for protocol in protocols:
        whole, parts = (pq.read_table(folder.predictions(protocol)) for folder in folders)
        assert parts["key"] == whole["key"]
        assert parts["answers"] == whole["answers"]
        assert read_evaluation(folders[1], protocol) == read_evaluation(folders[0], protocol)
