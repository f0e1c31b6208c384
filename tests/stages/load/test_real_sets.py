"""Real images all the way: as they are held, through shards and verify, to any number of workers."""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.papers.googlenet import recipes as googlenet
from pipeline.papers.resnet import recipes as resnet
from stages.augmentation import Augmentation
from stages.load.images import Images
from stages.load.samples import Dataset
from stages.parallel import Part
from stages.shard import shard
from stages.shard.verify import verify
from stages.sources import open_source
from stages.tasks.classification.batches import Batch, training_batches
from tests.stages.sources.originals import contents


def held(shared_data: Path, name: str, folder: Path) -> Path:
    """A set as a source: archives where they lie, the loose samples in one folder per class."""
    if name != "full-res-samples":
        return shared_data / "mini-imagenet-real" / name
    with tarfile.open(shared_data / name / "samples.tar") as tar:
        for number, member in enumerate(tar.getmembers()):
            synset = member.name.split("_")[0]
            train = folder / "train" / synset / member.name
            train.parent.mkdir(parents=True)
            train.write_bytes(tar.extractfile(member).read())
            if number % 10 == 0:  # they are one a class, so that some have to be both
                val = folder / "val" / synset / member.name
                val.parent.mkdir(parents=True)
                shutil.copyfile(train, val)
    return folder


@pytest.mark.parametrize(
    ("name", "every", "images", "recipe"),
    [
        ("in64-100", 20, 800, Augmentation(resize=72, crop=64)),
        ("in224-10", 10, 175, resnet.AUGMENTATION),
        ("orig-12", 2, 93, googlenet.AUGMENTATION),
        ("full-res-samples", 1, 132, Augmentation(resize=256, crop=224)),
    ],
)
def test_a_real_set_is_whole_and_makes_the_same_batches_at_any_number_of_workers(
    shared_data: Path, tmp_path: Path, name: str, every: int, images: int, recipe: Augmentation
) -> None:
    """Of the large sets every so-manieth image, which leaves no class without one."""
    found = open_source(held(shared_data, name, tmp_path / "source"))
    source = replace(found, images=found.images[::every])
    assert len(source.images) == images
    shard(source, tmp_path / "data", shard_bytes=1 << 20)
    assert verify(tmp_path / "data") == []
    assert contents(open_source(tmp_path / "data")) == contents(source)
    samples = Dataset(tmp_path / "data").samples("train")

    def epoch(part: Part) -> list[Batch]:
        decoded = Images.to_train(samples, recipe)
        options = {"batch_size": 32, "seed": 0, "epoch": 0, "drop_last": False}
        return list(training_batches(decoded, recipe, part=part, **options))

    whole = epoch(Part())
    assert sorted(index for batch in whole for index in batch.indices) == list(range(len(samples)))
    parts = [epoch(Part(rank, 3)) for rank in range(3)]
    for batch, *shares in zip(whole, *parts, strict=True):
        for field in ("images", "labels", "indices", "colour", "distortion"):
            joined = torch.cat([getattr(share, field) for share in shares])
            assert torch.equal(joined, getattr(batch, field)), field
