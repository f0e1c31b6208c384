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
from stages.evaluate import evaluate_part, read_evaluation, score
from stages.job import RunFolder, TrainJob
from stages.load.augment.colour import Normalise
from stages.load.samples import Dataset, Samples
from stages.measurement import Evaluation
from stages.parallel import Part
from stages.tasks.classification.predict import predict, prediction_table
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import Classification, Shown
from stages.tasks.classification.score import error_percent
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


def scored(job: TrainJob, parts: list[pa.Table], protocol: str, folder: Path) -> Evaluation:
    return score(job.recipe, parts, job.dataset, protocol, RunFolder(folder))


@pytest.mark.parametrize("protocol", ["centre_crop", "ten_crop"])
def test_any_number_of_workers_counts_the_same(trained: TrainJob, protocol, tmp_path: Path) -> None:
    one = scored(trained, parts_of(trained, protocol, 1), protocol, tmp_path / "1")
    assert one.n == 42
    for world in (2, 3, 7, 50):  # the last leaves some workers without images
        parts = parts_of(trained, protocol, world)
        assert scored(trained, parts, protocol, tmp_path / str(world)) == one
    assert read_evaluation(RunFolder(tmp_path / "50"), protocol) == one


def test_networks_that_are_shown_the_same_share_its_decoding(
    trained: TrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.load.images.KEEP_DECODED", 0)
    read = Samples.read
    reads: list[int] = []

    def counted(samples: Samples, index: int) -> bytes:
        reads.append(index)
        return read(samples, index)

    monkeypatch.setattr(Samples, "read", counted)
    net = Net(trained.recipe, trained.folder.weights)
    larger = replace(trained.recipe, augmentation=replace(trained.recipe.augmentation, resize=96))
    counts = []
    for nets in ([net], [net, net, net], [net, replace(net, origin=larger), net]):
        reads.clear()
        evaluate_part(nets, trained.dataset, "centre_crop")
        counts.append(len(reads))
    assert counts[0] == counts[1]
    assert counts[2] == 2 * counts[0]


def test_a_lost_or_doubled_image_is_refused(trained: TrainJob, tmp_path: Path) -> None:
    first, second = parts_of(trained, "centre_crop", 2)
    for wrong in (
        [first],
        [first, first],
        [first, second.slice(1)],
        [first, second, second.slice(0, 1)],
    ):
        with pytest.raises(PipelineError, match="42 items"):
            scored(trained, wrong, "centre_crop", tmp_path)
    assert read_evaluation(RunFolder(tmp_path), "centre_crop") is None


def test_answers_are_kept_image_by_image(
    trained: TrainJob, dataset: Dataset, tmp_path: Path
) -> None:
    result = scored(trained, parts_of(trained, "ten_crop", 2), "ten_crop", tmp_path)
    table = pq.read_table(RunFolder(tmp_path).predictions("ten_crop")).to_pydict()
    assert list(table) == ["key", "index", "label", "answers", "probabilities"]
    assert table["key"] == dataset.samples("val").keys
    wrong = sum(
        label != answers[0] for label, answers in zip(table["label"], table["answers"], strict=True)
    )
    assert result.figures["error_top1"].value == pytest.approx(100 * wrong / 42)
    wrong = sum(
        label not in answers
        for label, answers in zip(table["label"], table["answers"], strict=True)
    )
    assert result.figures["error_top5"].value == pytest.approx(100 * wrong / 42)
    assert json.loads(RunFolder(tmp_path).evaluation("ten_crop").read_text())["n"] == 42


class Corner(nn.Module):
    """Says how bright the top left pixel is: logits (brightness, 0)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x[:, 0, 0, 0] / 50
        return torch.stack([bright, torch.zeros_like(bright)], dim=1)


def test_ten_crop_averages_probabilities_not_logits(dataset: Dataset) -> None:
    views = Views("ten_crop", Shown(crop=64, resize=72))
    images = views.images(dataset.samples("val"))
    normalise = Normalise(dataset, AUGMENTATION, torch.device("cpu"))
    table = prediction_table(
        predict(Corner(), images, normalise, views, device=torch.device("cpu"))
    )
    for row in table.slice(0, 5).to_pylist():
        (crops,) = views(images[row["index"]])
        shown = normalise(torch.cat([crops, crops.flip(-1)]))
        expected = Corner()(shown).softmax(dim=1).mean(dim=0).sort(descending=True)
        assert row["answers"] == expected.indices.tolist()
        assert np.allclose(row["probabilities"], expected.values, atol=1e-5)


@pytest.mark.parametrize("world", [1, 7, 50])
def test_fewer_classes_than_answers(
    recipe: Classification, dataset: Dataset, tmp_path: Path, world: int
) -> None:
    views = Views("centre_crop", Shown(crop=64, resize=72))
    images = views.images(dataset.samples("val"))
    parts = [
        prediction_table(
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
    found = score(recipe, parts, dataset.root, "centre_crop", RunFolder(tmp_path))
    labels = dataset.samples("val").labels
    assert found.n == 42
    assert found.figures["error_top5"].value == pytest.approx(100 * np.mean(labels > 1))


@pytest.mark.parametrize(("errors", "n", "low", "high"), [(0, 50, 0.0, 7.13), (9, 50, 9.77, 30.80)])
def test_wilson_interval(errors: int, n: int, low: float, high: float) -> None:
    interval = error_percent(errors, n)
    assert (interval.low, interval.high) == (
        pytest.approx(low, abs=0.01),
        pytest.approx(high, abs=0.01),
    )
