"""What each protocol shows of an image, on images whose pixels tell their place."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import models
from stages.augment.views import Views
from stages.dataset import Dataset
from stages.evaluate import answers, predict
from stages.loader import Images
from stages.recipe import Augmentation, Recipe
from tests.test_augment import coordinates

SCALES = (96, 128, 160)


def shown(views: Views, image: Tensor) -> list[Tensor]:
    return list(views(image))


def spans(view: Tensor) -> tuple[int, int, int, int]:
    """First and last row and column of the image that a view reaches."""
    return tuple(int(v) for c in view[:2] for v in (c.min(), c.max()))


@pytest.mark.parametrize(
    ("protocol", "count"),
    [
        ("centre_crop", 1),
        ("ten_crop", 10),
        ("dense", 2),
        ("dense_multi_scale", 6),
        ("multi_crop", 150),
        ("multi_crop_and_dense", 156),
        ("144_crops", 144),
    ],
)
@pytest.mark.parametrize("shape", [(100, 140), (140, 100), (128, 128)])
def test_counts_are_exact_and_weights_add_up(protocol, count, shape) -> None:
    scales = (*SCALES, 192) if protocol == "144_crops" else SCALES
    views = Views(protocol, crop=64, resize=72, scales=scales)
    image = coordinates(72, 72) if views.square else coordinates(*shape)
    tensors = shown(views, image)
    mirrors = 2 if views.mirrored else 1
    assert mirrors * sum(len(tensor) for tensor in tensors) == views.count == count
    weight = sum(
        mirrors * len(tensor) * weight
        for tensor, weight in zip(tensors, views.weights, strict=True)
    )
    assert weight == pytest.approx(1)


def test_ten_crop_is_corners_and_centre() -> None:
    (crops,) = shown(Views("ten_crop", crop=64, resize=72), coordinates(72, 72))
    assert {spans(crop) for crop in crops} == {
        (y, y + 63, x, x + 63) for y, x in [(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)]
    }
    (centre,) = shown(Views("centre_crop", crop=64, resize=72), coordinates(72, 72))
    assert spans(centre[0]) == (4, 67, 4, 67)


def test_dense_shows_whole_images_at_each_scale() -> None:
    views = Views("dense_multi_scale", crop=64, resize=72, scales=SCALES)
    sizes = [tuple(view.shape) for view in shown(views, coordinates(100, 150))]
    assert sizes == [(1, 3, 96, 144), (1, 3, 128, 192), (1, 3, 160, 240)]
    (one,) = shown(replace(views, protocol="dense"), coordinates(150, 100))
    assert one.shape == (1, 3, 192, 128)


def test_multi_crop_is_a_regular_grid_that_reaches_every_edge() -> None:
    views = Views("multi_crop", crop=64, resize=72, scales=(128,))
    (crops,) = shown(views, coordinates(128, 200))
    assert [spans(crop) for crop in crops] == [
        (y, y + 63, x, x + 63) for y in (0, 16, 32, 48, 64) for x in (0, 34, 68, 102, 136)
    ]


@pytest.mark.parametrize("upright", [False, True])
def test_144_crops_are_six_of_three_squares_of_four_scales(upright: bool) -> None:
    views = Views("144_crops", crop=64, resize=72, scales=(80, 96, 112, 128))
    image = coordinates(160, 80) if upright else coordinates(80, 160)
    (crops,) = shown(views, image)
    assert crops.shape == (72, 3, 64, 64)
    found = [spans(crop) for crop in crops[:18]]  # at scale 80 nothing is resized but the squares
    for place, begin in enumerate((0, 40, 80)):
        top, left = (begin, 0) if upright else (0, begin)
        five = [(8, 8), (0, 0), (0, 16), (16, 0), (16, 16)]
        square = found[6 * place : 6 * place + 6]
        assert square[:5] == [(top + y, top + y + 63, left + x, left + x + 63) for y, x in five]
        assert square[5] == (top, top + 79, left, left + 79)


def test_whole_images_need_scales(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="test_scales"):
        Views.of(recipe, "dense")


class Brightness(nn.Module):
    """Logits (mean of the red channel, 0); `dense` gives them place by place."""

    def forward(self, x: Tensor) -> Tensor:
        red = x[:, 0].mean(dim=(1, 2))
        return torch.stack([red, torch.zeros_like(red)], dim=1)

    def dense(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0], torch.zeros_like(x[:, 0])], dim=1)


@pytest.mark.parametrize("protocol", ["dense", "dense_multi_scale", "multi_crop_and_dense"])
def test_scores_are_averaged_over_places_and_shares_over_views(dataset: Dataset, protocol) -> None:
    views = Views(protocol, crop=40, resize=64, scales=(48, 64, 80))
    images = Images.to_view(dataset.samples("val"), views)

    def tenth(x: Tensor) -> Tensor:
        return x.float() / 100

    table = answers(predict(Brightness(), images, tenth, views, device=torch.device("cpu")))
    for row in table.slice(0, 4).to_pylist():
        groups: dict[bool, list[Tensor]] = {True: [], False: []}
        for tensor in views(images[row["index"]]):
            logits = Brightness()(tenth(tensor)).softmax(dim=1)
            groups[tensor.shape[-1] == 40].extend([*logits, *logits])
        means = [torch.stack(views).mean(dim=0) for views in groups.values() if views]
        expected = torch.stack(means).mean(dim=0).sort(descending=True)
        assert row["answers"] == expected.indices.tolist()
        assert row["probabilities"] == pytest.approx(expected.values.tolist(), abs=1e-5)


def test_vgg_is_tested_densely(dataset: Dataset) -> None:
    """Photographs of any shape, through the network's own fully convolutional form."""
    torch.manual_seed(0)
    model = models.create("vgg_a", num_classes=6, width=0.125, image_size=32)
    views = Views("dense_multi_scale", crop=32, resize=32, scales=(32, 48))
    images = Images.to_view(dataset.samples("val"), views)
    normalise = lambda x: x.float() - 120  # noqa: E731
    table = answers(predict(model, images, normalise, views, device=torch.device("cpu")))
    assert sorted(table["index"].to_pylist()) == list(range(len(images)))


def test_views_of_a_recipe(recipe: Recipe) -> None:
    whole = replace(
        recipe,
        augmentation=Augmentation(resize=384, crop=224),
        test_scales=(256, 384, 512),
    )
    views = Views.of(whole, "dense")
    (view,) = views(torch.zeros(3, 400, 500, dtype=torch.uint8))
    assert view.shape == (1, 3, 384, 480)
