"""Crops and colour as the papers have them."""

import io
import itertools
import math
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from torch import Tensor

from pipeline.papers.googlenet import recipes as googlenet
from pipeline.papers.resnet import recipes as resnet
from pipeline.papers.vgg import recipes as vgg
from pipeline.papers.zfnet import recipes as zfnet
from stages.augmentation import (
    AreaCrop,
    Augmentation,
    FixedCrops,
    Interpolation,
    PaddedSquare,
    ScaleJitter,
)
from stages.errors import PipelineError
from stages.load.augment.colour import Normalise, distort
from stages.load.augment.crops import place_in_padded, training_crop, windows_of_padded
from stages.load.augment.draws import Draws
from stages.load.decode import centre_square, decode, resize, resize_short_side
from stages.load.samples import Dataset

RECIPE = Augmentation(resize=72, crop=64)


def coordinates(height: int, width: int) -> Tensor:
    """An image whose first two channels tell the place of each pixel."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([y, x, torch.zeros_like(x)]).to(torch.uint8)


def place_of(crop: Tensor) -> tuple[int, int]:
    return int(crop[0].min()), int(crop[1].min())


def unmirrored(recipe: Augmentation) -> Augmentation:
    return replace(recipe, flip=False)


def test_crops_reach_every_place_and_no_other() -> None:
    draws = Draws(0, 0, 4000)
    crops = [training_crop(coordinates(72, 72), unmirrored(RECIPE), draws[i]) for i in range(4000)]
    assert {crop.shape for crop in crops} == {(3, 64, 64)}
    assert {place_of(crop) for crop in crops} == {(y, x) for y in range(9) for x in range(9)}


@given(
    st.sampled_from(
        [
            replace(RECIPE, sampling=FixedCrops()),
            replace(RECIPE, sampling=ScaleJitter(64, 130)),
            replace(RECIPE, sampling=AreaCrop(interpolations=("bilinear", "area", "nearest"))),
            replace(RECIPE, sampling=AreaCrop(log_ratio=True), random_crop=False),
        ]
    ),
    st.integers(64, 150),
    st.integers(64, 150),
    st.integers(0, 9),
)
def test_any_image_gives_crops_of_the_same_size(recipe, height, width, image) -> None:
    crop = training_crop(coordinates(height, width), recipe, Draws(1, 2, 10)[image])
    assert crop.shape == (3, 64, 64)
    assert crop.dtype == torch.uint8


def test_half_of_the_crops_are_mirrored() -> None:
    draws = Draws(3, 1, 10_000)
    assert 0.48 < np.mean([draws[i].mirror for i in range(10_000)]) < 0.52
    draw = draws[0]
    plain = training_crop(coordinates(72, 72), RECIPE, replace(draw, mirror=False))
    mirrored = training_crop(coordinates(72, 72), RECIPE, replace(draw, mirror=True))
    assert torch.equal(mirrored, plain.flip(-1))
    still = training_crop(coordinates(72, 72), unmirrored(RECIPE), replace(draw, mirror=True))
    assert torch.equal(still, plain)


def test_without_random_crops_it_is_the_middle() -> None:
    crop = training_crop(coordinates(72, 72), replace(RECIPE, random_crop=False), Draws(0, 0, 1)[0])
    assert place_of(crop) == (4, 4)


def test_randomness_is_of_seed_epoch_and_image() -> None:
    one, same, other = Draws(5, 2, 100)[7], Draws(5, 2, 100)[7], Draws(5, 3, 100)[7]
    assert np.array_equal(one.colour, same.colour)
    assert not np.array_equal(one.colour, other.colour)
    for draw in ("crop", "distortion"):
        drawn = [
            d.crop().random() if draw == "crop" else d.distortion(0.5)[3]
            for d in (one, same, other, Draws(5, 2, 100)[8], Draws(6, 2, 100)[7])
        ]
        assert drawn[0] == drawn[1]
        assert len(set(drawn)) == 4


def test_zfnet_has_ten_fixed_crops_equally_often() -> None:
    recipe = replace(zfnet.AUGMENTATION, resize=72, crop=64)
    draws = Draws(0, 0, 4000)
    seen = Counter(
        (*place_of(crop), bool(crop[1, 0, 0] > crop[1, 0, 1]))
        for crop in (training_crop(coordinates(72, 72), recipe, draws[i]) for i in range(4000))
    )
    corners = [(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)]
    assert set(seen) == {(*place, mirrored) for place in corners for mirrored in (False, True)}
    assert all(300 < times < 500 for times in seen.values())


def test_a_padded_square_s_crops_are_windows_of_zeros_around_it() -> None:
    """He 2015, section 4.2: 4 zeros on each side, then a random crop of it or of its mirror image."""
    recipe = replace(RECIPE, resize=32, crop=32, sampling=PaddedSquare(4))
    square = coordinates(32, 32)
    draws = [Draws(0, 0, 4000)[index] for index in range(4000)]
    assert torch.equal(training_crop(square, recipe, draws[0]), square)
    places = [place_in_padded(recipe, draw) for draw in draws]
    assert set(places) == set(itertools.product(range(9), range(9), (False, True)))

    less_mean = np.random.default_rng(0).normal(size=(4000, 3, 32, 32)).astype(np.float32)
    padded = np.pad(less_mean, ((0, 0), (0, 0), (4, 4), (4, 4)))
    found = windows_of_padded(torch.from_numpy(less_mean), torch.tensor(places), 4).numpy()
    for image, crop, (top, left, mirrored) in zip(padded, found, places, strict=True):
        expected = image[:, top : top + 32, left : left + 32]
        assert np.array_equal(crop, expected[..., ::-1] if mirrored else expected)


def test_a_padded_square_stays_where_it_is_if_nothing_is_random() -> None:
    recipe = replace(
        RECIPE, resize=64, crop=64, sampling=PaddedSquare(4), flip=False, random_crop=False
    )
    assert {place_in_padded(recipe, Draws(0, 0, 9)[i]) for i in range(9)} == {(4, 4, False)}
    assert place_in_padded(RECIPE, Draws(0, 0, 9)[0]) == (0, 0, False)
    with pytest.raises(ValueError, match="as large as the crop"):
        replace(recipe, resize=72)


@pytest.mark.parametrize("shape", [(100, 140), (140, 100)])
def test_scale_jitter_draws_every_scale_and_reaches_the_whole_image(shape) -> None:
    """A ramp of 0 to 200 along the longer side: its slope in the crop tells the scale."""
    axis = shape.index(max(shape))
    ramp = torch.linspace(0, 200, max(shape))
    image = ramp.expand(3, min(shape), -1) if axis else ramp[:, None].expand(3, -1, min(shape))
    recipe = replace(RECIPE, sampling=ScaleJitter(64, 128), flip=False)
    draws = Draws(0, 0, 1500)
    sides, ends = [], []
    for index in range(1500):
        crop = training_crop(image.to(torch.uint8), recipe, draws[index])[0].float()
        line = crop.mean(dim=1 - axis)
        slope = (line[-8:].mean() - line[:8].mean()) / 56
        sides.append(float(200 / slope / max(shape) * min(shape)))
        ends.append((float(line[0]), float(line[-1])))
    assert min(sides) < 66
    assert max(sides) > 123
    assert 94 < np.mean(sides) < 98
    assert min(low for low, _ in ends) < 2
    assert max(high for _, high in ends) > 197


def test_a_fixed_scale_is_always_the_same() -> None:
    recipe = replace(RECIPE, sampling=ScaleJitter(72, 72))
    image = coordinates(72, 100)
    for index in range(20):
        crop = training_crop(image, unmirrored(recipe), Draws(0, 0, 20)[index])
        top, left = place_of(crop)
        assert torch.equal(crop, image[:, top : top + 64, left : left + 64])


@pytest.mark.parametrize("log_ratio", [False, True])
def test_area_crops_have_the_published_areas_and_shapes(log_ratio: bool) -> None:
    """The crop of a coordinate image spans the part of the image that it was taken from."""
    recipe = Augmentation(resize=0, crop=32, sampling=AreaCrop(log_ratio=log_ratio), flip=False)
    draws = Draws(0, 0, 3000)
    shares, ratios = [], []
    image = coordinates(240, 240)
    for index in range(3000):
        crop = training_crop(image, recipe, draws[index]).float()
        rows = float(crop[0, -1].mean() - crop[0, 0].mean()) * 32 / 31
        columns = float(crop[1, :, -1].mean() - crop[1, :, 0].mean()) * 32 / 31
        shares.append(rows * columns / 240**2)
        ratios.append(columns / rows)
    assert 0.07 < min(shares) < 0.1
    assert max(shares) > 0.9
    assert 0.72 < min(ratios) < 0.78
    assert 1.28 < max(ratios) < 1.4
    # Of small crops, which always fit: the mean of a uniform ratio is 25/24, of a log-uniform one
    # (4/3 - 3/4) / ln(16/9).
    small = [ratio for ratio, share in zip(ratios, shares, strict=True) if share < 0.5]
    expected = (4 / 3 - 3 / 4) / math.log(16 / 9) if log_ratio else 25 / 24
    assert np.mean(small) == pytest.approx(expected, abs=0.015)


def test_sides_are_swapped_in_half_of_the_draws() -> None:
    """fb.resnet.torch's shapes, here of 1 to 2 so that it shows: half are broad, half as tall."""
    sampling = AreaCrop(area=(0.1, 0.2), ratio=(1.0, 2.0), swap_sides=True)
    recipe = Augmentation(resize=0, crop=32, sampling=sampling, flip=False)
    draws, image = Draws(0, 0, 3000), coordinates(240, 240)
    ratios = []
    for index in range(3000):
        crop = training_crop(image, recipe, draws[index]).float()
        rows = float(crop[0, -1].mean() - crop[0, 0].mean())
        ratios.append(float(crop[1, :, -1].mean() - crop[1, :, 0].mean()) / rows)
    broad, tall = [r for r in ratios if r > 1.02], [1 / r for r in ratios if r < 0.98]
    for some in (broad, tall):
        assert 1300 < len(some) < 1600
        assert np.mean(some) == pytest.approx(1.51, abs=0.03)  # uniform, not its logarithm
        assert 1.95 < max(some) < 2.07


@pytest.mark.parametrize("shape", [(20, 900), (900, 20)])
def test_what_fits_no_shape_is_cropped_at_the_centre_or_as_large_as_can_be(shape) -> None:
    image = coordinates(*shape)
    image[:2] = image[:2] // 4  # 900 pixels in one byte
    draw = Draws(0, 0, 1)[0]
    centre = Augmentation(0, 16, AreaCrop(area=(0.9, 1.0), fallback="centre"), flip=False)
    small = resize_short_side(image, 16)
    top, left = ((side - 16) // 2 for side in small.shape[1:])
    found = training_crop(image, centre, draw)
    assert torch.equal(found, small[:, top : top + 16, left : left + 16])
    largest = training_crop(image, replace(centre, sampling=AreaCrop(area=(0.9, 1.0))), draw)
    assert not torch.equal(largest, found)


def test_googlenet_draws_among_four_interpolations() -> None:
    """Of crops that are the whole image it can be seen how they were resized."""
    sampling = replace(googlenet.AUGMENTATION.sampling, area=(1.0, 1.0), ratio=(1.0, 1.0))
    recipe = replace(googlenet.AUGMENTATION, crop=16, flip=False, sampling=sampling)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 60, 60), np.uint8))
    expected = {how: resize(image, (16, 16), how) for how in get_args(Interpolation)}
    draws = Draws(0, 0, 400)
    seen = Counter(
        how
        for crop in (training_crop(image, recipe, draws[index]) for index in range(400))
        for how, resized in expected.items()
        if torch.equal(crop, resized)
    )
    assert set(seen) == {"bilinear", "area", "nearest", "cubic"}
    assert all(70 < times < 130 for times in seen.values())
    assert sum(seen.values()) == 400


def test_published_numbers() -> None:
    assert vgg.augmentation(256, 512).resize == 384
    assert vgg.augmentation(256, 512).mean == "channel"
    assert vgg.TEST_SCALES[(256, 512)] == (256, 384, 512)
    assert resnet.AUGMENTATION.sampling == ScaleJitter(256, 480)
    assert resnet.AUGMENTATION.mean == "image"
    assert resnet.RESNET_152.test_scales == (224, 256, 384, 480, 640)
    area = googlenet.AUGMENTATION.sampling
    assert isinstance(area, AreaCrop)
    assert (area.area, area.ratio, area.log_ratio) == ((0.08, 1.0), (0.75, 4 / 3), False)


# Colour


def test_the_mean_image_is_cut_at_the_centre(dataset: Dataset) -> None:
    side = dataset.mean_image.shape[-1]
    recipe = Augmentation(resize=side, crop=side - 8)
    normalise = Normalise(dataset, recipe, torch.device("cpu"))
    centre = dataset.mean_image[:, 4:-4, 4:-4]
    zeros = torch.zeros(1, 3, side - 8, side - 8, dtype=torch.uint8)
    assert np.allclose(normalise(zeros)[0].numpy(), -centre, atol=1e-4)
    whole = normalise(torch.zeros(1, 3, side + 9, side, dtype=torch.uint8))
    assert np.allclose(whole[0].amax(dim=(1, 2)).numpy(), -centre.mean(axis=(1, 2)), atol=1e-3)


def test_unit_variance(dataset: Dataset) -> None:
    """Colours drawn from the data set's own covariance come out with mean 0 and deviation 1."""
    recipe = Augmentation(resize=72, crop=64, mean="channel", unit_variance=True)
    statistics = dataset.info.statistics
    vectors, values = np.array(statistics.eigenvectors), np.array(statistics.eigenvalues)
    sample = np.random.default_rng(0).standard_normal((64 * 64 * 20, 3)) * np.sqrt(values) / 2
    pixels = (sample @ vectors + statistics.mean).reshape(20, 64, 64, 3).transpose(0, 3, 1, 2)
    images = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))
    normalised = Normalise(dataset, recipe, torch.device("cpu"))(images)
    assert torch.allclose(normalised.mean(dim=(0, 2, 3)), torch.zeros(3), atol=0.02)
    assert torch.allclose(normalised.std(dim=(0, 2, 3)), torch.full((3,), 0.5), atol=0.03)


@pytest.mark.parametrize("convention", ["standard_deviation", "variance"])
def test_colour_noise_follows_the_principal_components(dataset: Dataset, convention) -> None:
    recipe = Augmentation(resize=72, crop=64, colour_noise=convention, colour_divisor=1.0)
    normalise = Normalise(dataset, recipe, torch.device("cpu"))
    black = torch.zeros(2000, 3, 1, 1, dtype=torch.uint8).expand(-1, -1, 64, 64)
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


def test_distortions_are_pillows_in_each_images_own_order() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)
    orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    factors = np.random.default_rng(1).uniform(0.5, 1.5, (6, 3))
    rows = torch.from_numpy(np.concatenate([orders, factors], axis=1).astype(np.float32))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    found = distort(images, rows, clip=True)
    enhancers = (ImageEnhance.Contrast, ImageEnhance.Brightness, ImageEnhance.Color)
    for image, sequence, amounts, distorted in zip(pixels, orders, factors, found, strict=True):
        expected = Image.fromarray(image)
        for which, factor in zip(sequence, amounts, strict=True):
            expected = enhancers[which](expected).enhance(factor)
        difference = distorted.permute(1, 2, 0).numpy() - np.asarray(expected, np.float32)
        assert np.abs(difference).max() < 4.0  # Pillow rounds down after each of the three
        assert abs(difference.mean()) < 1.5


def test_distortions_of_fb_resnet_torch_blend_floats_and_clip_nothing(shared_data: Path) -> None:
    """datasets/transforms.lua: Saturation, Brightness and Contrast of photographs, in any order."""
    with tarfile.open(shared_data / "full-res-samples/samples.tar") as tar:
        files = [member for member in tar if member.isfile()][:6]
        photographs = [tar.extractfile(file).read() for file in files]
    orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    factors = np.random.default_rng(1).uniform(0.6, 1.4, (6, 3))
    rows = torch.from_numpy(np.concatenate([orders, factors], axis=1).astype(np.float32))
    left = 0
    for data, sequence, amounts, row in zip(photographs, orders, factors, rows, strict=True):
        image = decode(data, "a photograph").float()
        x = image.numpy().astype(np.float64)
        for which, alpha in zip(sequence, amounts, strict=True):
            grey = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
            other = (np.full_like(grey, grey.mean()), np.zeros_like(grey), grey)[which]
            x = alpha * x + (1 - alpha) * other
        found = distort(image[None], row[None], clip=False)[0].numpy()
        assert np.abs(found - x).max() < 0.01
        left += int(((x < 0) | (x > 255)).sum())
    assert left > 10_000  # clipping would have changed these


def test_constants_of_the_network_s_authors(dataset: Dataset) -> None:
    """The Inceptions see -1 to 1; fb.resnet.torch divides by constants, whatever the data set."""
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 64, 64)
    inception = Augmentation(72, 64, mean="half", divisor=(127.5, 127.5, 127.5))
    found = Normalise(dataset, inception, torch.device("cpu"))(images)
    assert torch.allclose(found[:, 0, 0, 0], torch.tensor([-1.0, 1.0]))
    torch7 = Augmentation(72, 64, mean="channel", divisor=(50.0, 60.0, 70.0))
    black = Normalise(dataset, torch7, torch.device("cpu"))(images)[0, :, 0, 0]
    expected = -np.array(dataset.info.statistics.mean) / (50, 60, 70)
    assert np.allclose(black.numpy(), expected, atol=1e-5)
    with pytest.raises(ValueError, match="exclude each other"):
        replace(torch7, unit_variance=True)


def test_distortions_are_drawn_evenly() -> None:
    rows = np.stack([Draws(0, 0, 3000)[i].distortion(0.5) for i in range(3000)])
    orders = Counter(map(tuple, rows[:, :3].astype(int).tolist()))
    assert len(orders) == 6
    assert all(400 < times < 600 for times in orders.values())
    assert 0.5 <= rows[:, 3:].min() < 0.51
    assert 1.49 < rows[:, 3:].max() <= 1.5


# Decoding and resizing


def encoded(mode: str, kind: str, side: tuple[int, int] = (90, 70), **options) -> bytes:
    smooth = np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    image = Image.fromarray(smooth, "RGBA").resize(side, Image.Resampling.BICUBIC).convert("RGB")
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("RGB", "JPEG", {"subsampling": 0, "quality": 95}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "PNG", {}),
        ("P", "GIF", {}),
    ],
)
def test_decoding_equals_pillow_bit_by_bit(mode, kind, options) -> None:
    data = encoded(mode, kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode(data, "x").permute(1, 2, 0).numpy(), expected)


def test_large_images_may_be_decoded_smaller() -> None:
    data = encoded("RGB", "JPEG", (400, 300))
    assert decode(data, "x", at_least=151).shape == (3, 300, 400)
    half = decode(data, "x", at_least=150)
    assert half.shape == (3, 150, 200)
    error = half.float() - resize_short_side(decode(data, "x"), 150).float()
    assert error.square().mean().sqrt() < 4.0


@pytest.mark.parametrize("keep", [0, 30, 700])
def test_a_damaged_image_is_named(keep: int) -> None:
    with pytest.raises(PipelineError, match="n01440764_1"):
        decode(encoded("RGB", "JPEG")[:keep], "n01440764_1")


def test_resizing_is_pillows_within_a_grey_level() -> None:
    image = decode(encoded("RGB", "PNG", (200, 150)), "x")
    for how, pillow in (
        ("bilinear", Image.Resampling.BILINEAR),
        ("cubic", Image.Resampling.BICUBIC),
    ):
        expected = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((90, 64), pillow)
        difference = resize(image, (64, 90), how).permute(1, 2, 0).numpy() - np.asarray(
            expected, np.int16
        )
        assert np.abs(difference).max() <= 1


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(1, 50))
def test_area_means_are_those_of_the_finest_grid(height, width, rows, columns) -> None:
    """Repeat every pixel so often that the new ones begin and end at whole pixels, then average."""
    image = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    )
    fine = image.float().repeat_interleave(rows, 1).repeat_interleave(columns, 2)
    expected = fine.view(3, rows, height, columns, width).mean(dim=(2, 4))
    found = resize(image, (rows, columns), "area").float()
    assert torch.allclose(found, expected, atol=0.51)


def test_the_centre_square_is_in_the_middle() -> None:
    assert torch.equal(centre_square(coordinates(60, 100), 60)[1, 0], torch.arange(20, 80))
    assert torch.equal(centre_square(coordinates(100, 60), 60)[0, :, 0], torch.arange(20, 80))
    assert centre_square(coordinates(61, 100), 30).shape == (3, 30, 30)
