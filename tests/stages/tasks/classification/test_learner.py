"""What a classifier's learner shows its network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.papers.resnet import recipes as resnet
from stages.augmentation import Augmentation, PaddedSquare
from stages.job import RunFolder, TrainJob
from stages.load.samples import Dataset
from stages.parallel import ALONE
from stages.tasks.classification.learner import ClassificationLearner
from stages.tasks.classification.recipe import Classification


@pytest.mark.parametrize("processes", [0, 2])
def test_the_mean_image_moves_with_a_padded_square(
    dataset: Dataset, tmp_path: Path, processes: int
) -> None:
    """He 2015, section 4.2: less the mean, then 4 zeros on each side, then a crop, or its mirror image."""
    published = resnet.RECIPES["paper"]["cifar20"]
    assert isinstance(published, Classification)
    side = 40
    recipe = replace(
        published,
        knobs={"depth": 8},
        augmentation=Augmentation(side, side, sampling=PaddedSquare(4)),
        batch_size=32,
        batch_norm_images=None,
    )
    job = TrainJob(recipe, dataset.root, RunFolder(tmp_path), 0, loader_processes=processes)
    learner = ClassificationLearner(job, recipe, torch.device("cpu"), ALONE)
    seen: list[torch.Tensor] = []
    learner.descent.model.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    batch = next(iter(learner.batches(0, 0)))
    learner.step(batch, 0)

    black = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    mean = -learner.normalise(black)[0].numpy()
    assert mean.std() > 1  # an image, not a colour
    for index, found, (top, left, mirrored) in zip(
        batch.indices.tolist(), seen[0], batch.places.tolist(), strict=True
    ):
        square = learner.train_images[index].numpy().astype(np.float32)
        padded = np.pad(square - mean, ((0, 0), (4, 4), (4, 4)))
        crop = padded[:, top : top + side, left : left + side]
        expected = crop[..., ::-1] if mirrored else crop
        assert np.allclose(found.numpy(), expected, atol=1e-3)
    tops = batch.places[:, 0]
    assert len(set(tops.tolist())) > 4
    assert (seen[0][tops < 4][:, :, 0] == 0).all()
