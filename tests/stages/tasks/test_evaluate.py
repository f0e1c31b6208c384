"""Every validation image is counted exactly once; errors carry their interval."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from stages.augmentation import Augmentation
from stages.errors import PipelineError
from stages.evaluate import answers, error_percent, evaluate_part, predict, read_evaluation, score
from stages.job import RunFolder, TrainJob
from stages.load.augment.colour import Normalise
from stages.load.loader import Images
from stages.load.samples import Dataset
from stages.parallel import Part
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import Classification
from stages.tasks.task import Net
from stages.train import train

AUGMENTATION = Augmentation(resize=72, crop=64)


@pytest.fixture(scope="module")
def trained(recipe: Classification, dataset: Dataset, tmp_path_factory) -> TrainJob:
    job = TrainJob(
        replace(recipe, epochs=1), dataset.root, RunFolder(tmp_path_factory.mktemp("run")), seed=0
    )
    train(job)
    return job


def parts_of(job: TrainJob, protocol, world: int) -> list[pa.Table]:
    return [
        evaluate_part(
            [Net(job.recipe, job.folder.weights)], job.dataset, protocol, part=Part(rank, world)
        )
        for rank in range(world)
    ]


@pytest.mark.parametrize("protocol", ["centre_crop", "ten_crop"])
def test_any_number_of_workers_counts_the_same(trained: TrainJob, protocol, tmp_path: Path) -> None:
    one = score(parts_of(trained, protocol, 1), trained.dataset, protocol, tmp_path / "1")
    assert one.n == 42
    for world in (2, 3, 7, 50):  # the last leaves some workers without images
        more = score(
            parts_of(trained, protocol, world), trained.dataset, protocol, tmp_path / str(world)
        )
        assert more == one
    assert read_evaluation(tmp_path / "50", protocol) == one


def test_a_lost_or_doubled_image_is_refused(trained: TrainJob, tmp_path: Path) -> None:
    first, second = parts_of(trained, "centre_crop", 2)
    for wrong in (
        [first],
        [first, first],
        [first, second.slice(1)],
        [first, second, second.slice(0, 1)],
    ):
        with pytest.raises(PipelineError, match="42 validation images"):
            score(wrong, trained.dataset, "centre_crop", tmp_path)
    assert read_evaluation(tmp_path, "centre_crop") is None


def test_answers_are_kept_image_by_image(
    trained: TrainJob, dataset: Dataset, tmp_path: Path
) -> None:
    result = score(parts_of(trained, "ten_crop", 2), trained.dataset, "ten_crop", tmp_path)
    table = pq.read_table(tmp_path / "ten_crop.parquet").to_pydict()
    assert table["key"] == dataset.samples("val").keys
    wrong = sum(
        label != answers[0] for label, answers in zip(table["label"], table["answers"], strict=True)
    )
    assert result.error_top1.value == pytest.approx(100 * wrong / 42)
    wrong = sum(
        label not in answers
        for label, answers in zip(table["label"], table["answers"], strict=True)
    )
    assert result.error_top5.value == pytest.approx(100 * wrong / 42)
    assert json.loads((tmp_path / "ten_crop.json").read_text())["n"] == 42


class Corner(nn.Module):
    """Says how bright the top left pixel is: logits (brightness, 0)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x[:, 0, 0, 0] / 50
        return torch.stack([bright, torch.zeros_like(bright)], dim=1)


def test_ten_crop_averages_probabilities_not_logits(dataset: Dataset) -> None:
    views = Views("ten_crop", crop=64, resize=72)
    images = Images.to_view(dataset.samples("val"), views)
    normalise = Normalise(dataset, AUGMENTATION, torch.device("cpu"))
    table = answers(predict(Corner(), images, normalise, views, device=torch.device("cpu")))
    for row in table.slice(0, 5).to_pylist():
        (crops,) = views(images[row["index"]])
        shown = normalise(torch.cat([crops, crops.flip(-1)]))
        expected = Corner()(shown).softmax(dim=1).mean(dim=0).sort(descending=True)
        assert row["answers"] == expected.indices.tolist()
        assert np.allclose(row["probabilities"], expected.values, atol=1e-5)


@pytest.mark.parametrize("world", [1, 7, 50])
def test_fewer_classes_than_answers(dataset: Dataset, tmp_path: Path, world: int) -> None:
    views = Views("centre_crop", crop=64, resize=72)
    images = Images.to_view(dataset.samples("val"), views)
    parts = [
        answers(
            predict(
                Corner(),
                images,
                torch.Tensor.float,
                views,
                part=Part(rank, world),
                device=torch.device("cpu"),
            )
        )
        for rank in range(world)
    ]
    found = score(parts, dataset.root, "centre_crop", tmp_path)
    labels = dataset.samples("val").labels
    assert found.n == 42
    assert found.error_top5.value == pytest.approx(100 * np.mean(labels > 1))


@pytest.mark.parametrize(("errors", "n", "low", "high"), [(0, 50, 0.0, 7.13), (9, 50, 9.77, 30.80)])
def test_wilson_interval(errors: int, n: int, low: float, high: float) -> None:
    interval = error_percent(errors, n)
    assert (interval.low, interval.high) == (
        pytest.approx(low, abs=0.01),
        pytest.approx(high, abs=0.01),
    )
