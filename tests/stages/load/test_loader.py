"""The order of images is a function of (seed, epoch): at any number of workers, from any step."""

import functools
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from benchmarks.mixing import mixing
from pipeline.papers.googlenet import recipes as googlenet
from pipeline.papers.vgg import recipes as vgg
from pipeline.papers.zfnet import recipes as zfnet
from stages.augmentation import AreaCrop, Augmentation, CentreSquare, FixedCrops, ScaleJitter
from stages.errors import PipelineError
from stages.job import RunFolder, TrainJob
from stages.load import order
from stages.load.augment.draws import Draws
from stages.load.images import Images
from stages.load.loader import steps_per_epoch
from stages.load.samples import Dataset
from stages.parallel import Part
from stages.shard import shard
from stages.sources import open_source
from stages.tasks.classification.batches import evaluation_batches, training_batches
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import Classification, Shown
from stages.train import train

RECIPE = Augmentation(resize=72, crop=64, colour_noise="standard_deviation")
# One of each kind of sampling, at the size of the tests' images.
RECIPES = {
    "alexnet": RECIPE,
    "zfnet": replace(zfnet.AUGMENTATION, resize=72, crop=64),
    "vgg": replace(vgg.augmentation(256, 512), resize=64, crop=56, sampling=ScaleJitter(60, 80)),
    "googlenet": replace(googlenet.AUGMENTATION, resize=72, crop=48),
}


@functools.cache
def images_of(dataset: Dataset, name: str) -> Images:
    return Images.to_train(dataset.samples("train"), RECIPES[name])


@pytest.fixture(scope="module")
def images(dataset: Dataset) -> Images:
    return images_of(dataset, "alexnet")


def batches(images: Images, recipe: Augmentation = RECIPE, **options):
    return list(training_batches(images, recipe, **{"batch_size": 20, "seed": 1, **options}))


def assert_equal(found, expected) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.global_size == other.global_size
        for field in ("images", "labels", "indices", "colour", "distortion"):
            assert torch.equal(getattr(one, field), getattr(other, field)), field


@given(st.integers(0, 300), st.integers(1, 9))
def test_parts_share_out_everything_evenly(n: int, world: int) -> None:
    parts = [Part(rank, world).slice_of(np.arange(n)) for rank in range(world)]
    assert np.array_equal(np.concatenate(parts), np.arange(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_an_epoch_is_whole_batches_of_distinct_images(images: Images) -> None:
    seen = torch.cat([batch.indices for batch in batches(images, epoch=0)])
    assert len(seen) == len(images) // 20 * 20
    assert len(set(seen.tolist())) == len(seen)


@pytest.mark.parametrize("world", [1, 3, 8])
@pytest.mark.parametrize("shuffle_buffer", [None, 25])
def test_or_it_is_every_image_once(images: Images, world: int, shuffle_buffer) -> None:
    """96 images are nine batches of ten and one of six: fewer than eight workers."""
    seen = []
    for rank in range(world):
        part = batches(
            images,
            epoch=0,
            batch_size=10,
            drop_last=False,
            shuffle_buffer=shuffle_buffer,
            part=Part(rank, world),
        )
        assert [batch.global_size for batch in part] == [10] * 9 + [6]
        seen += [index for batch in part for index in batch.indices.tolist()]
    assert sorted(seen) == list(range(96))
    assert steps_per_epoch(96, 10, drop_last=False) == 10
    assert steps_per_epoch(90, 10, drop_last=False) == 9


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(RECIPES)),
    epoch=st.integers(0, 3),
    first_step=st.integers(0, 6),
    world=st.integers(1, 8),
    shuffle_buffer=st.sampled_from([None, 1, 30]),
    drop_last=st.booleans(),
)
def test_any_workers_go_on_with_the_very_next_batch(
    dataset: Dataset, name, epoch, first_step, world, shuffle_buffer, drop_last
) -> None:
    """Bits of every field, against one worker that was never interrupted."""
    images, recipe = images_of(dataset, name), RECIPES[name]
    options = {
        "epoch": epoch,
        "batch_size": 14,
        "shuffle_buffer": shuffle_buffer,
        "drop_last": drop_last,
    }
    whole = batches(images, recipe, **options)
    parts = [
        batches(images, recipe, first_step=first_step, part=Part(rank, world), **options)
        for rank in range(world)
    ]
    joined = [
        batch[0]._replace(
            **{
                field: torch.cat([getattr(part, field) for part in batch])
                for field in ("images", "labels", "indices", "colour", "distortion")
            }
        )
        for batch in zip(*parts, strict=True)
    ]
    assert_equal(joined, whole[first_step:])


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_loader_processes_change_nothing(dataset: Dataset, name: str, monkeypatch) -> None:
    expected = batches(images_of(dataset, name), RECIPES[name], epoch=0)
    monkeypatch.setattr("stages.load.images.KEEP_DECODED", 0)
    streamed = Images.to_train(dataset.samples("train"), RECIPES[name])
    assert not streamed.kept
    assert_equal(batches(streamed, RECIPES[name], epoch=0, processes=2), expected)
    assert_equal(batches(streamed, RECIPES[name], epoch=0, processes=1), expected)


@pytest.mark.parametrize("shuffle_buffer", [None, 30])
def test_loader_processes_go_on_with_the_very_next_batch(
    dataset: Dataset, shuffle_buffer, monkeypatch
) -> None:
    monkeypatch.setattr("stages.load.images.KEEP_DECODED", 0)
    images = Images.to_train(dataset.samples("train"), RECIPES["googlenet"])
    options = {"epoch": 1, "batch_size": 14, "drop_last": False, "shuffle_buffer": shuffle_buffer}
    whole = batches(images, RECIPES["googlenet"], **options)
    rest = batches(images, RECIPES["googlenet"], first_step=3, processes=2, **options)
    assert len(rest) == 4
    assert_equal(rest, whole[3:])


@pytest.fixture(params=[0, 1 << 30], ids=["decoded each time", "kept decoded"])
def keep(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to hold the images."""
    monkeypatch.setattr("stages.load.images.KEEP_DECODED", request.param)


@pytest.mark.usefixtures("keep")
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_images_on_a_device_make_the_same_batches(dataset: Dataset, name: str) -> None:
    """The CPU is a device, too, and shows all but a GPU's own decoder."""
    there = Images.to_train(dataset.samples("train"), RECIPES[name], torch.device("cpu"))
    for epoch in (0, 1):
        expected = batches(images_of(dataset, name), RECIPES[name], epoch=epoch)
        assert_equal(batches(there, RECIPES[name], epoch=epoch, processes=2), expected)


@pytest.mark.gpu
@pytest.mark.usefixtures("keep")
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_gpu_decodes_and_crops_nearly_the_same(dataset: Dataset, name: str) -> None:
    there = Images.to_train(dataset.samples("train"), RECIPES[name], torch.device("cuda"))
    expected = batches(images_of(dataset, name), RECIPES[name], epoch=0)
    for batch, other in zip(batches(there, RECIPES[name], epoch=0), expected, strict=True):
        assert batch.images.is_cuda
        difference = batch.images.cpu().float() - other.images.float()
        assert difference.square().mean() < 4  # 42 dB


def test_a_damaged_image_is_named_wherever_it_is_decoded(source: Path, tmp_path: Path) -> None:
    shard(open_source(source), tmp_path / "data")
    broken = Dataset(tmp_path / "data").samples("train")
    whole = broken.read(5)
    with next((tmp_path / "data").glob("train*.tar")).open("r+b") as tar:
        tar.seek(tar.read().index(whole) + 300)
        tar.write(bytes(len(whole) - 300))
    for device in (None, torch.device("cpu")):
        images = Images.to_train(broken, RECIPE, device)
        with pytest.raises(PipelineError, match=broken.keys[5]):
            batches(images, epoch=0)


def test_batches_stay_as_they_are_as_long_as_they_are_kept(dataset: Dataset, monkeypatch) -> None:
    """Loader processes write into memory that was used before; not while somebody has a view of it."""
    monkeypatch.setattr("stages.load.images.KEEP_DECODED", 0)
    images = Images.to_train(dataset.samples("train"), RECIPE)
    expected = batches(images, epoch=0, batch_size=3)
    options = {"batch_size": 3, "seed": 1, "epoch": 0, "processes": 2}
    kept = []
    for number, batch in enumerate(training_batches(images, RECIPE, **options)):
        assert torch.equal(batch.images, expected[number].images)
        if number % 3 == 0:
            kept.append((number, batch.images[1:, :, 2:9]))
    for number, view in kept:
        assert torch.equal(view, expected[number].images[1:, :, 2:9])


def test_labels_and_colour_belong_to_the_images(dataset: Dataset, images: Images) -> None:
    labels = dataset.samples("train").labels
    draws = Draws(1, 0, len(images))
    for batch in batches(images, epoch=0):
        assert np.array_equal(batch.labels, labels[batch.indices])
        expected = [draws[index].colour for index in batch.indices.tolist()]
        assert np.array_equal(batch.colour, expected)


@pytest.mark.parametrize("world", [1, 2, 5])
@pytest.mark.parametrize("protocol", ["centre_crop", "multi_crop"])
def test_a_test_sees_each_image_once(dataset: Dataset, world: int, protocol) -> None:
    views = Views(protocol, Shown(crop=32, resize=36, scales=(40,)))
    val = views.images(dataset.samples("val"))
    seen = []
    for rank in range(world):
        for batch in evaluation_batches(val, views, at_once=150, part=Part(rank, world)):
            assert len(batch.indices) * views.count <= 150
            (shown,) = batch.views
            assert shown.shape[0] == len(batch.indices)
            seen += batch.indices.tolist()
    assert sorted(seen) == list(range(len(val)))


def test_a_recipe_decides_about_the_last_batch_and_the_order(
    recipe: Classification, dataset: Dataset, tmp_path: Path
) -> None:
    """96 images: four batches of 20 and one of 16, through every part of an augmentation."""
    whole = replace(
        recipe,
        augmentation=replace(RECIPES["googlenet"], crop=64),
        batch_size=20,
        epochs=1,
        drop_last=False,
        shuffle_buffer=30,
    )
    assert train(TrainJob(whole, dataset.root, RunFolder(tmp_path / "whole"), seed=0)).steps == 5
    dropped = replace(whole, drop_last=True)
    assert (
        train(TrainJob(dropped, dataset.root, RunFolder(tmp_path / "dropped"), seed=0)).steps == 4
    )
    assert len({whole.id, dropped.id, replace(whole, shuffle_buffer=None).id}) == 3
    samplings = (CentreSquare(), FixedCrops(), ScaleJitter(64, 72), ScaleJitter(64, 73), AreaCrop())
    augmentations = [replace(whole.augmentation, sampling=sampling) for sampling in samplings]
    assert len({replace(whole, augmentation=one).id for one in augmentations}) == 5


# Order


def shards_of(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=12)


@given(st.integers(0, 2**31), st.integers(0, 1000), st.integers(1, 300))
def test_the_indexed_order_is_a_permutation_of_seed_and_epoch(seed, epoch, n) -> None:
    found = order.indexed(seed, epoch, n)
    assert sorted(found) == list(range(n))
    assert np.array_equal(found, order.indexed(seed, epoch, n))
    if n > 20:
        assert not np.array_equal(found, order.indexed(seed, epoch + 1, n))
        assert not np.array_equal(found, order.indexed(seed + 1, epoch, n))


@given(SIZES, st.integers(0, 100), st.integers(0, 9), st.integers(0, 9))
def test_streaming_reads_shards_once_and_never_holds_more_than_its_buffer(
    sizes, buffer, seed, epoch
) -> None:
    shards = shards_of(sizes)
    found = order.streaming(seed, epoch, shards, buffer)
    assert sorted(found) == list(range(len(shards)))
    assert np.array_equal(found, order.streaming(seed, epoch, shards, buffer))
    # The order in which a reader goes through the shards is that of an empty buffer.
    read = order.streaming(seed, epoch, shards, 0)
    changes = np.count_nonzero(np.diff(shards[read])) + 1
    assert changes == len(sizes)
    place = np.empty(len(shards), int)
    place[read] = np.arange(len(shards))
    reached = np.maximum.accumulate(place[found]) + 1
    held = reached - np.arange(1, len(shards) + 1)
    assert held.max() <= max(0, buffer)


def test_streaming_epochs_differ() -> None:
    shards = shards_of([50] * 8)
    first, second = (order.streaming(0, epoch, shards, 100) for epoch in (0, 1))
    assert not np.array_equal(first, second)


def test_what_a_seed_means_is_for_good() -> None:
    """The numbers themselves: another version of a library, or of this project, may not change them.

    Runs of one seed would else differ from those on record, and a run that goes on after an update would
    see some images twice and others never.
    """
    assert order.indexed(0, 0, 10).tolist() == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]
    assert order.indexed(1, 2, 10).tolist() == [8, 5, 6, 0, 9, 1, 4, 3, 7, 2]
    streamed = order.streaming(0, 0, shards_of([4, 4, 4]), 5)
    assert streamed.tolist() == [4, 5, 6, 8, 7, 9, 10, 1, 3, 11, 0, 2]
    draws = Draws(0, 0, 3)
    assert [draws[i].mirror for i in range(3)] == [True, True, True]
    assert [Draws(0, 1, 4)[i].mirror for i in range(4)] == [True, False, False, False]
    assert np.array([draws[i].place for i in range(3)]) == pytest.approx(
        np.array([[0.88978219, 0.44923878], [0.02506745, 0.39104164], [0.76717943, 0.57696873]])
    )
    assert np.array([draws[i].colour for i in range(3)]) == pytest.approx(
        np.array(
            [
                [-0.2441331, 0.06704468, -0.49928257],
                [0.26256987, -0.28568232, 0.74242783],
                [-1.03213441, -1.08484709, -0.7045958],
            ]
        )
    )
    other = Draws(1, 2, 1)[0]
    assert other.crop().random(2) == pytest.approx([0.86895805, 0.43243308])
    assert other.distortion(0.5) == pytest.approx([0, 1, 2, 1.17047226, 0.61101466, 1.01150906])


def test_a_larger_buffer_mixes_more_shards_into_a_batch() -> None:
    """40 shards of 250 images, batches of 100."""
    shards = shards_of([250] * 40)
    quality = {
        buffer: mixing(order.streaming(0, 0, shards, buffer), shards, 100)
        for buffer in (1, 500, 2000, 5000)
    }
    assert 1.0 <= quality[1] < 1.5
    assert 1.5 < quality[500] < quality[2000] < quality[5000] < 40
    assert quality[2000] == pytest.approx(2000 / 250, rel=0.25)
    assert mixing(order.indexed(0, 0, 10_000), shards, 100) == pytest.approx(40, rel=0.03)
