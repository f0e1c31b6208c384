"""The losses of a classifier, by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from stages.tasks.classification.losses import map_criterion, summed_loss
from stages.tasks.classification.recipe import CrossEntropy, MAPCriterion


def test_the_map_criterion_pulls_the_right_class_and_pushes_the_others_up_to_j():
    logits = torch.tensor([[-3.0, -5.0]], requires_grad=True)
    loss = map_criterion(logits, torch.tensor([0]), j=1.0)
    expected = 3 + math.log(math.exp(-1) + math.exp(-3) + math.exp(-5))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 0] < 0 < gradient[0, 1]
    far = torch.tensor([[-0.5, -900.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(map_criterion(far, torch.tensor([0]), j=1.0), far)
    assert gradient[0, 1] == 0


def test_losses_are_summed_over_the_images():
    generator = torch.Generator().manual_seed(0)
    scores = -torch.rand(5, 4, generator=generator) * 10
    labels = torch.tensor([0, 1, 2, 3, 0])
    for loss in (CrossEntropy(), MAPCriterion(j=3.0)):
        each = [summed_loss(loss, scores[i : i + 1], labels[i : i + 1], 0.0) for i in range(5)]
        assert torch.allclose(summed_loss(loss, scores, labels, 0.0), torch.stack(each).sum())
    smoothed = summed_loss(CrossEntropy(), scores, labels, 0.1)
    expected = F.cross_entropy(scores, labels, reduction="sum", label_smoothing=0.1)
    assert torch.equal(smoothed, expected)
