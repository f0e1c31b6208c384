"""Tasks: each folder holds one, with its targets, losses, tests and metrics; here one is chosen.

Importing this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.recipe import Pretrained, Recipe
from stages.tasks.classification.recipe import Classification, PretrainedClassifier

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from stages.tasks.task import Task


def task_of(origin: Recipe | Pretrained) -> Task:
    """The task of a recipe, or of a network that was not trained here.

    This is the one place where a task is chosen.

    Raises:
        TypeError: it is of no task.
    """
    match origin:
        case Classification() | PretrainedClassifier():
            from stages.tasks.classification.task import ClassificationTask

            return ClassificationTask()
    raise TypeError(f"there is no task for {type(origin).__name__}")


def correct_items(
    origin: Recipe, metric: str, predictions: Sequence[pa.Table]
) -> NDArray[np.bool_]:
    """The items that one network, or several together, predict correctly, (items,).

    Unlike the verbs of a task this needs no torch, so that the ledger is made without it.

    Args:
        origin: the recipe, which tells the task.
        metric: one that is counted item by item.
        predictions: a table for each network, of the same items in the same order.

    Raises:
        TypeError: no metric of the recipe's task is counted item by item.
    """
    match origin:
        case Classification():
            from stages.tasks.classification import score

            answers = score.mean_answers(predictions) if len(predictions) > 1 else None
            return score.correct_images(predictions[0], metric, answers)
    raise TypeError(f"{type(origin).__name__} has no metric that is counted item by item")
