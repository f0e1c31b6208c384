"""What each protocol shows of an image, on images whose pixels tell their place."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import models
from stages.augmentation import Augmentation
from stages.errors import PipelineError
from stages.load.decode import centre_square, decode, resize, resize_short_side
from stages.load.images import Images
from stages.load.samples import Dataset
from stages.shard import shard
from stages.sources import open_source
from stages.tasks.classification.predict import predict, prediction_table
from stages.tasks.classification.protocols import PROTOCOLS, Views
from stages.tasks.classification.recipe import (
    PROTOCOL_WORDS,
    Classification,
    Shown,
    TestProtocol,
)
from tests.stages.load.test_augment import coordinates

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
        ("ten_crop_rectangle", 10),
        ("dense", 2),
        ("dense_multi_scale", 6),
        ("dense_multi_scale_scores", 6),
        ("multi_crop", 150),
        ("multi_crop_and_dense", 156),
        ("144_crops", 144),
    ],
)
@pytest.mark.parametrize("shape", [(100, 140), (140, 100), (128, 128)])
def test_counts_are_exact_and_weights_add_up(protocol, count, shape) -> None:
    scales = (*SCALES, 192) if protocol == "144_crops" else SCALES
    views = Views(protocol, Shown(crop=64, resize=72, scales=scales))
    square = PROTOCOLS[protocol].cut_from == "square"
    image = coordinates(72, 72) if square else coordinates(*shape)
    tensors = shown(views, image)
    mirrors = 2 if views.mirrored else 1
    assert mirrors * sum(len(tensor) for tensor in tensors) == views.count == count
    weight = sum(
        mirrors * len(tensor) * weight
        for tensor, weight in zip(tensors, views.weights, strict=True)
    )
    assert weight == pytest.approx(1)


def test_ten_crop_is_corners_and_centre() -> None:
    (crops,) = shown(Views("ten_crop", Shown(crop=64, resize=72)), coordinates(72, 72))
    assert {spans(crop) for crop in crops} == {
        (y, y + 63, x, x + 63) for y, x in [(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)]
    }
    (centre,) = shown(Views("centre_crop", Shown(crop=64, resize=72)), coordinates(72, 72))
    assert spans(centre[0]) == (4, 67, 4, 67)


def test_ten_crops_of_the_rectangle_reach_its_corners() -> None:
    views = Views("ten_crop_rectangle", Shown(crop=64, resize=72))
    (crops,) = shown(views, coordinates(72, 120))
    assert {spans(crop) for crop in crops} == {
        (y, y + 63, x, x + 63) for y, x in [(4, 28), (0, 0), (0, 56), (8, 0), (8, 56)]
    }
    (crops,) = shown(views, coordinates(144, 100))  # its short side becomes 72
    assert crops.shape == (5, 3, 64, 64)


def test_dense_shows_whole_images_at_each_scale() -> None:
    views = Views("dense_multi_scale", Shown(crop=64, resize=72, scales=SCALES))
    sizes = [tuple(view.shape) for view in shown(views, coordinates(100, 150))]
    assert sizes == [(1, 3, 96, 144), (1, 3, 128, 192), (1, 3, 160, 240)]
    (one,) = shown(replace(views, protocol="dense"), coordinates(150, 100))
    assert one.shape == (1, 3, 192, 128)


def test_multi_crop_is_a_regular_grid_that_reaches_every_edge() -> None:
    views = Views("multi_crop", Shown(crop=64, resize=72, scales=(128,)))
    (crops,) = shown(views, coordinates(128, 200))
    assert [spans(crop) for crop in crops] == [
        (y, y + 63, x, x + 63) for y in (0, 16, 32, 48, 64) for x in (0, 34, 68, 102, 136)
    ]


@pytest.mark.parametrize("upright", [False, True])
def test_144_crops_are_six_of_three_squares_of_four_scales(upright: bool) -> None:
    views = Views("144_crops", Shown(crop=64, resize=72, scales=(80, 96, 112, 128)))
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


def test_144_crops_listed_place_by_place() -> None:
    """Scale; where its three squares begin; where a crop's five places lie in a square."""
    places = {
        80: ((0, 40, 80), [(8, 8), (0, 0), (0, 16), (16, 0), (16, 16)]),
        96: ((0, 48, 96), [(16, 16), (0, 0), (0, 32), (32, 0), (32, 32)]),
        112: ((0, 56, 112), [(24, 24), (0, 0), (0, 48), (48, 0), (48, 48)]),
        128: ((0, 64, 128), [(32, 32), (0, 0), (0, 64), (64, 0), (64, 64)]),
    }
    image = coordinates(100, 200)
    (crops,) = shown(Views("144_crops", Shown(crop=64, resize=72, scales=tuple(places))), image)
    expected = []
    for scale, (begins, five) in places.items():
        whole = resize_short_side(image, scale)
        assert whole.shape == (3, scale, 2 * scale)
        for begin in begins:
            square = whole[:, :, begin : begin + scale]
            expected += [square[:, y : y + 64, x : x + 64] for y, x in five]
            expected.append(resize(square, (64, 64)))
    assert len(expected) == 144 // 2
    assert torch.equal(crops, torch.stack(expected))


COLOURS = torch.tensor(
    [[128, 128, 128], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=torch.float32
)
MARK = 4


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> Dataset:
    """Grey images, broad, upright and square, whose corners are red, green, blue and white."""
    folder = tmp_path_factory.mktemp("marked")
    for split, shapes in (("train", [(120, 120)]), ("val", [(120, 160), (160, 120), (120, 120)])):
        for place, shape in enumerate(shapes):
            image = np.full((*shape, 3), 128, np.uint8)
            corners = [(y, x) for y in (slice(MARK), slice(-MARK, None)) for x in (0, -1)]
            for (rows, column), colour in zip(corners, COLOURS[1:].tolist(), strict=True):
                columns = slice(MARK) if column == 0 else slice(-MARK, None)
                image[rows, columns] = colour
            path = folder / "source" / split / f"class{place}" / "image.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(image).save(path)
    for name in ("class1", "class2"):  # every class has training images
        shutil.copytree(folder / "source/train/class0", folder / f"source/train/{name}")
    shard(open_source(folder / "source"), folder / "dataset")
    return Dataset(folder / "dataset")


class Looking(nn.Module):
    """Certain of the colour that one corner of a view has."""

    def __init__(self, corner: int) -> None:
        super().__init__()
        self.corner = corner

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(x[:, :, self.corner, self.corner], COLOURS)

    def dense(self, x: Tensor) -> Tensor:
        return self(x)[:, :, None, None]


@pytest.mark.parametrize(
    ("protocol", "shares"),
    [
        # The share of the views that have a marked corner of the image in their own.
        ("centre_crop", (0, 0, 0)),
        ("ten_crop", (0, 0, 1 / 10)),  # only a square image's corners are in its centre square
        ("ten_crop_rectangle", (1 / 10, 1 / 10, 1 / 10)),
        ("dense", (1 / 2, 1 / 2, 1 / 2)),
        ("dense_multi_scale", (1 / 2, 1 / 2, 1 / 2)),
        ("multi_crop", (1 / 50, 1 / 50, 1 / 50)),
        ("multi_crop_and_dense", (0.26, 0.26, 0.26)),
        # At each of four scales a crop of the square at the end, and that whole square; of a square
        # image all three squares are the same.
        ("144_crops", (8 / 144, 8 / 144, 24 / 144)),
    ],
)
def test_marked_corners_are_seen_as_often_as_the_protocol_says(
    marked: Dataset, protocol, shares
) -> None:
    """A view's top left shows the image's own, and its top right in a mirror image; so below."""
    views = Views(protocol, Shown(crop=64, resize=72, scales=(80, 96, 112, 128)))
    images = views.images(marked.samples("val"))
    for corner, (own, mirrored) in ((0, (1, 2)), (-1, (4, 3))):
        found = predict(
            Looking(corner), images, torch.Tensor.float, views, device=torch.device("cpu")
        )
        expected = torch.zeros(3, len(COLOURS))
        expected[:, own] = expected[:, mirrored] = torch.tensor(shares)
        expected[:, 0] = 1 - expected.sum(dim=1)
        order = marked.samples("val").labels.argsort()
        assert torch.allclose(found.probabilities[order], expected, atol=1e-5)


def test_every_protocol_has_a_name_a_row_and_words() -> None:
    names = get_args(TestProtocol)
    assert tuple(PROTOCOLS) == tuple(PROTOCOL_WORDS) == names


def test_an_unknown_protocol_is_refused_with_those_there_are(recipe: Classification) -> None:
    with pytest.raises(PipelineError, match="no protocol 'twelve_crops'") as raised:
        Views("twelve_crops", recipe.shown)
    assert "ten_crop_rectangle, dense" in raised.value.fix


def test_whole_images_need_scales(recipe: Classification) -> None:
    with pytest.raises(PipelineError, match="test_scales"):
        Views("dense", recipe.shown)


class Brightness(nn.Module):
    """Logits (mean of the red channel, 0); `dense` gives them place by place."""

    def forward(self, x: Tensor) -> Tensor:
        red = x[:, 0].mean(dim=(1, 2))
        return torch.stack([red, torch.zeros_like(red)], dim=1)

    def dense(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0], torch.zeros_like(x[:, 0])], dim=1)


@pytest.mark.parametrize("protocol", ["dense", "dense_multi_scale", "multi_crop_and_dense"])
def test_scores_are_averaged_over_places_and_shares_over_views(dataset: Dataset, protocol) -> None:
    views = Views(protocol, Shown(crop=40, resize=64, scales=(48, 64, 80)))
    images = views.images(dataset.samples("val"))

    def tenth(x: Tensor) -> Tensor:
        return x.float() / 100

    table = prediction_table(
        predict(Brightness(), images, tenth, views, device=torch.device("cpu"))
    )
    for row in table.slice(0, 4).to_pylist():
        groups: dict[bool, list[Tensor]] = {True: [], False: []}
        for tensor in views(images[row["index"]]):
            logits = Brightness()(tenth(tensor)).softmax(dim=1)
            groups[tensor.shape[-1] == 40].extend([*logits, *logits])
        means = [torch.stack(views).mean(dim=0) for views in groups.values() if views]
        expected = torch.stack(means).mean(dim=0).sort(descending=True)
        assert row["answers"] == expected.indices.tolist()
        assert row["probabilities"] == pytest.approx(expected.values.tolist(), abs=1e-5)


def test_scores_may_be_averaged_before_one_softmax(dataset: Dataset) -> None:
    """He 2015, section 3.4, to the letter: one softmax, of the mean over all windows, scales and mirrors."""
    torch.manual_seed(0)
    model = models.create("resnet18", num_classes=6, width=0.125, image_size=64).eval()
    views = Views("dense_multi_scale_scores", Shown(crop=64, resize=64, scales=(64, 96, 130)))
    images, cpu = views.images(dataset.samples("val")), torch.device("cpu")
    normalise = lambda x: x.float() / 20 - 6  # noqa: E731
    found = predict(model, images, normalise, views, device=cpu)
    with torch.inference_mode():
        for index in range(6):
            scores = []
            for view in views(images[index]):
                for image in (view, view.flip(-1)):
                    last = models.features(model, ["conv5_x"], normalise(image))["conv5_x"]
                    scores.append(model.fc(nn.functional.avg_pool2d(last, 2, 1).mean((2, 3))))
            expected = torch.stack(scores).mean(dim=0)[0].softmax(dim=0)
            torch.testing.assert_close(found.probabilities[index], expected)
    of_probabilities = replace(views, protocol="dense_multi_scale")
    other = predict(model, images, normalise, of_probabilities, device=cpu).probabilities
    assert (found.probabilities - other).abs().max() > 0.005


def test_tests_decode_every_pixel(tmp_path: Path) -> None:
    """A JPEG of more than twice the size that is shown could be decoded at a half; training does so."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    photograph = Image.fromarray(noise).resize((400, 300))
    for split in ("train", "val"):
        path = tmp_path / "source" / split / "class" / "image.jpg"
        path.parent.mkdir(parents=True)
        photograph.save(path)
    shard(open_source(tmp_path / "source"), tmp_path / "dataset")
    samples = Dataset(tmp_path / "dataset").samples("val")
    whole = decode(samples.read(0), "image")
    for protocol in ("centre_crop", "ten_crop_rectangle", "dense"):
        views = Views(protocol, Shown(crop=64, resize=72, scales=(72,)))
        (image,) = views.images(samples).take([0])
        square = PROTOCOLS[protocol].cut_from == "square"
        assert torch.equal(image, centre_square(whole, 72) if square else whole)
    trained_on = Images.to_train(samples, Augmentation(resize=72, crop=64))[0]
    assert not torch.equal(trained_on, centre_square(whole, 72))


def test_vgg_is_tested_densely(dataset: Dataset) -> None:
    """As sliding its fully connected layers over the maps of the last pool by hand."""
    torch.manual_seed(0)
    model = models.create("vgg_a", num_classes=6, width=0.125, image_size=64).eval()
    views = Views("dense_multi_scale", Shown(crop=64, resize=64, scales=(64, 96, 130)))
    images = views.images(dataset.samples("val"))
    normalise = lambda x: x.float() - 120  # noqa: E731
    found = predict(model, images, normalise, views, device=torch.device("cpu"))
    assert found.indices.tolist() == list(range(42))

    layers = list(model.children())
    flatten = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Flatten))
    convolutions, head = nn.Sequential(*layers[:flatten]), nn.Sequential(*layers[flatten:])
    for index in range(0, 42, 10):
        shares = []
        for side in (64, 96, 130):
            whole = normalise(resize_short_side(images[index], side))
            for shown_image in (whole, whole.flip(-1)):
                maps = convolutions(shown_image[None])
                rows, columns = (length - 1 for length in maps.shape[2:])  # windows of 2 x 2
                scores = [
                    head(maps[:, :, y : y + 2, x : x + 2])
                    for y in range(rows)
                    for x in range(columns)
                ]
                shares.append(torch.cat(scores).mean(dim=0).softmax(dim=0))
        expected = torch.stack(shares).mean(dim=0)
        assert torch.allclose(found.probabilities[index], expected, atol=1e-5)


def test_views_of_a_recipe(recipe: Classification) -> None:
    whole = replace(
        recipe,
        augmentation=Augmentation(resize=384, crop=224),
        test_scales=(256, 384, 512),
    )
    views = Views("dense", whole.shown)
    (view,) = views(torch.zeros(3, 400, 500, dtype=torch.uint8))
    assert view.shape == (1, 3, 384, 480)
