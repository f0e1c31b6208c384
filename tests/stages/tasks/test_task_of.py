"""The one place where a task is chosen."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from stages.recipe import Pretrained, Recipe
from stages.tasks import task_of
from stages.tasks.classification.recipe import Classification, PretrainedClassifier, Shown
from stages.tasks.classification.task import ClassificationTask
from stages.tasks.task import Task
from tests.conftest import ROOT


def test_recipes_and_pretrained_networks_have_the_task_of_their_kind(
    recipe: Classification,
) -> None:
    task: Task = task_of(recipe)
    assert isinstance(task, ClassificationTask)
    pretrained = PretrainedClassifier("torchvision:resnet18", Shown(crop=224, resize=256))
    assert isinstance(task_of(pretrained), ClassificationTask)


@dataclass(frozen=True, kw_only=True)
class Divination(Recipe):
    """A kind that no task carries out."""


@pytest.mark.parametrize(
    ("origin", "kind"),
    [
        (Divination(model="crystal_ball", epochs=1, protocols=()), "Divination"),
        (Recipe(model="alexnet", epochs=1, protocols=()), "Recipe"),
        (Pretrained("torchvision:resnet18"), "Pretrained"),
    ],
)
def test_a_kind_without_a_task_is_refused_by_its_name(
    origin: Recipe | Pretrained, kind: str
) -> None:
    with pytest.raises(TypeError, match=f"no task for {kind}$"):
        task_of(origin)


def test_verbs_and_the_choice_import_no_torch() -> None:
    code = (
        "import sys, stages.train, stages.evaluate, stages.trial, stages.tasks\n"
        "import stages.tasks.classification.score\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
