"""The order of images is a function of (seed, epoch): at any number of workers, from any step."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from stages.augment import Draws
from stages.dataset import Dataset
from stages.loader import Part, Squares, evaluation_batches, training_batches
from stages.recipe import Augmentation

RECIPE = Augmentation(resize=72, crop=64, colour_noise="standard_deviation")


@pytest.fixture(scope="module")
def squares(dataset: Dataset) -> Squares:
    return Squares(dataset.samples("train"), RECIPE.resize)


def batches(squares: Squares, **options):
    return list(training_batches(squares, RECIPE, batch_size=20, seed=1, **options))


@given(st.integers(0, 300), st.integers(1, 9))
def test_parts_share_out_everything_evenly(n: int, world: int) -> None:
    parts = [Part(rank, world).of(np.arange(n)) for rank in range(world)]
    assert np.array_equal(np.concatenate(parts), np.arange(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_an_epoch_is_whole_batches_of_distinct_images(squares: Squares) -> None:
    seen = torch.cat([batch.indices for batch in batches(squares, epoch=0)])
    assert len(seen) == len(squares) // 20 * 20
    assert len(set(seen.tolist())) == len(seen)


@pytest.mark.parametrize("world", [2, 3, 8])
def test_global_batches_are_the_same_at_any_number_of_workers(squares: Squares, world: int) -> None:
    whole = batches(squares, epoch=2)
    parts = [batches(squares, epoch=2, part=Part(rank, world)) for rank in range(world)]
    for k, batch in enumerate(whole):
        for field in ("images", "labels", "indices", "colour"):
            joined = torch.cat([getattr(part[k], field) for part in parts])
            assert torch.equal(joined, getattr(batch, field))


def test_going_on_gives_the_very_next_batch(squares: Squares) -> None:
    whole = batches(squares, epoch=1)
    rest = batches(squares, epoch=1, first_step=3)
    assert len(rest) == len(whole) - 3
    for batch, expected in zip(rest, whole[3:], strict=True):
        assert torch.equal(batch.images, expected.images)


def test_loader_processes_change_nothing(dataset: Dataset, squares: Squares, monkeypatch) -> None:
    monkeypatch.setattr("stages.loader.KEEP_DECODED", 0)
    streamed = Squares(dataset.samples("train"), RECIPE.resize)
    assert not streamed.kept
    for batch, expected in zip(
        batches(streamed, epoch=0, processes=2), batches(squares, epoch=0), strict=True
    ):
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.colour, expected.colour)


def test_labels_and_colour_belong_to_the_images(dataset: Dataset, squares: Squares) -> None:
    labels = dataset.samples("train").labels
    draws = Draws.of_epoch(1, 0, len(squares))
    for batch in batches(squares, epoch=0):
        assert np.array_equal(batch.labels, labels[batch.indices])
        assert np.array_equal(batch.colour, draws.colour[batch.indices])


@pytest.mark.parametrize("world", [1, 2, 5])
def test_a_test_sees_each_image_once(dataset: Dataset, world: int) -> None:
    val = Squares(dataset.samples("val"), 72)
    seen = [
        index
        for rank in range(world)
        for batch in evaluation_batches(val, batch_size=5, part=Part(rank, world))
        for index in batch.indices.tolist()
    ]
    assert sorted(seen) == list(range(len(val)))
