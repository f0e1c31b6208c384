"""Tasks: each folder holds one, with its targets, losses, tests and metrics; here one is chosen.

Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.recipe import Pretrained, Recipe
from stages.tasks.classification.recipe import Classification, PretrainedClassifier

if TYPE_CHECKING:
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
