"""Crops, views and colour as the paper has them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.augment import Draws, Normalise, epoch_order, evaluation_views, training_crop
from stages.dataset import Dataset
from stages.recipe import Augmentation

RECIPE = Augmentation(resize=72, crop=64)


def coordinates(side: int) -> np.ndarray:
    """An image whose first two channels tell the place of each pixel."""
    y, x = np.mgrid[:side, :side].astype(np.uint8)
    return np.stack([y, x, np.zeros_like(x)])


def test_crops_reach_every_place_and_no_other() -> None:
    draws = Draws.of_epoch(0, 0, 4000)
    places = set()
    for place in draws.place:
        crop = training_crop(coordinates(72), RECIPE, place, False)
        assert crop.shape == (3, 64, 64)
        places.add((int(crop[0, 0, 0]), int(crop[1, 0, 0])))
    assert places == {(y, x) for y in range(9) for x in range(9)}


def test_half_of_the_crops_are_mirrored() -> None:
    draws = Draws.of_epoch(3, 1, 10_000)
    assert 0.48 < draws.mirror.mean() < 0.52
    plain = training_crop(coordinates(72), RECIPE, draws.place[0], False)
    mirrored = training_crop(coordinates(72), RECIPE, draws.place[0], True)
    assert np.array_equal(mirrored, plain[:, :, ::-1])
    assert np.array_equal(
        training_crop(coordinates(72), replace(RECIPE, flip=False), draws.place[0], True), plain
    )


def test_randomness_is_of_seed_epoch_and_image() -> None:
    assert np.array_equal(Draws.of_epoch(5, 2, 100).colour, Draws.of_epoch(5, 2, 100).colour)
    assert not np.array_equal(Draws.of_epoch(5, 2, 100).colour, Draws.of_epoch(5, 3, 100).colour)
    assert not np.array_equal(epoch_order(5, 2, 100), epoch_order(6, 2, 100))
    assert sorted(epoch_order(5, 2, 100)) == list(range(100))


def test_ten_crop_is_corners_centre_and_mirrors() -> None:
    square = torch.from_numpy(coordinates(72))[None]
    views = evaluation_views(square, 64, "ten_crop")
    assert views.shape == (10, 1, 3, 64, 64)
    places = {(int(v[0, 0, 0, 0]), int(v[0, 1, 0, 0])) for v in views[:5]}
    assert places == {(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)}
    assert torch.equal(views[5:], views[:5].flip(-1))
    assert torch.equal(evaluation_views(square, 64, "centre_crop")[0], views[0])


def test_the_mean_image_is_cut_at_the_centre(dataset: Dataset) -> None:
    side = dataset.mean_image.shape[-1]
    recipe = Augmentation(resize=side, crop=side - 8)
    normalise = Normalise(dataset, recipe, torch.device("cpu"))
    centre = dataset.mean_image[:, 4:-4, 4:-4]
    zeros = torch.zeros(1, 3, side - 8, side - 8, dtype=torch.uint8)
    assert np.allclose(normalise(zeros)[0].numpy(), -centre, atol=1e-4)


@pytest.mark.parametrize("convention", ["standard_deviation", "variance"])
def test_colour_noise_follows_the_principal_components(dataset: Dataset, convention) -> None:
    recipe = Augmentation(resize=72, crop=64, colour_noise=convention, colour_divisor=1.0)
    normalise = Normalise(dataset, recipe, torch.device("cpu"))
    black = torch.zeros(20_000, 3, 64, 64, dtype=torch.uint8)[:, :, :1, :1].expand(-1, -1, 64, 64)[
        :2000
    ]
    colour = torch.from_numpy(np.random.default_rng(0).standard_normal((2000, 3), dtype=np.float32))
    shift = (normalise(black, colour) - normalise(black))[:, :, 0, 0].double().numpy()
    statistics = dataset.info.statistics
    values, vectors = np.array(statistics.eigenvalues), np.array(statistics.eigenvectors)
    along = shift @ vectors.T
    expected = 0.1 * (np.sqrt(values) if convention == "standard_deviation" else values / 255)
    assert np.allclose(along.std(axis=0), expected, rtol=0.06)


def test_the_authors_divisor_is_for_noisy_images_only(dataset: Dataset) -> None:
    recipe = Augmentation(resize=72, crop=64, colour_noise="standard_deviation", colour_divisor=1.1)
    normalise = Normalise(dataset, recipe, torch.device("cpu"))
    images = torch.full((2, 3, 64, 64), 200, dtype=torch.uint8)
    assert torch.allclose(normalise(images, torch.zeros(2, 3)) * 1.1, normalise(images), atol=1e-4)
