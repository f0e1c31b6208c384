"""The losses of a classifier, each summed over the images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.tasks.classification.recipe import CrossEntropy, Loss, MAPCriterion


def summed_loss(loss: Loss, scores: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """What a head's scores cost.

    Args:
        loss: of the recipe.
        scores: float32, (n, classes).
        labels: int64, (n,).
        label_smoothing: share of the target that is spread evenly over all classes; for cross-entropy only.

    Returns:
        The sum over the images, a scalar.
    """
    match loss:
        case CrossEntropy():
            return F.cross_entropy(scores, labels, reduction="sum", label_smoothing=label_smoothing)
        case MAPCriterion(j=j):
            return map_criterion(scores, labels, j)


def map_criterion(scores: Tensor, labels: Tensor, j: float) -> Tensor:
    """LeCun 1998, eq. 9, for an output of minus the distances to the classes' codes.

    Args:
        scores: (n, classes), minus the distances.
        labels: int64, (n,).
        j: distance of the rubbish class, which keeps the wrong classes' distances from growing for ever
            and the right one's from collapsing; positive.

    Returns:
        The sum over the images, a scalar.
    """
    rubbish = scores.new_tensor(-j)
    right = scores.gather(1, labels[:, None]).squeeze(1)
    return (torch.logaddexp(rubbish, scores.logsumexp(1)) - right).sum()
