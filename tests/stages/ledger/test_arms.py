"""What an arm makes of recipes of any kind, and what it refuses."""

from dataclasses import dataclass, replace

import pytest

from pipeline.papers.alexnet.recipes import TOY_RECIPE
from pipeline.papers.vgg.recipes import A_256
from stages.claim import Arm
from stages.ledger.arms import scaled_rates
from stages.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Generation(Recipe):
    """A recipe of a task that has neither an augmentation nor one optimiser."""

    noise: int = 100


GENERATOR = Generation(model="gan", epochs=2, protocols=("parzen",), knobs={"hidden": 240, "k": 1})


def test_knobs_and_changes_apply_to_any_kind_of_recipe() -> None:
    arm = Arm("small", knobs={"hidden": 60}, without_knobs=("k",), changes={"noise": 10})
    changed = arm.recipe(GENERATOR)
    assert changed == replace(GENERATOR, knobs={"hidden": 60}, noise=10)
    assert arm.tested_by(changed) == "parzen"
    assert Arm("as it is").recipe(GENERATOR) == GENERATOR


@pytest.mark.parametrize(
    ("arm", "field"),
    [
        (Arm("dull", augmentation={"flip": False}), "augmentation"),
        (Arm("free", weight_decay=0.0), "optimiser"),
        (Arm("steady", constant_rate=True), "optimiser"),
        (Arm("larger", changes={"batch_size": 8}), "batch_size"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_a_recipe_does_not_have_cannot_be_changed(arm: Arm, field: str) -> None:
    assert arm.recipe(TOY_RECIPE) != TOY_RECIPE
    with pytest.raises(TypeError, match=f"{arm.name}.* changes .*{field}.* a Generation does not"):
        arm.recipe(GENERATOR)


def test_changes_take_precedence_over_the_short_forms() -> None:
    plain = replace(TOY_RECIPE.augmentation, colour_noise="none")
    arm = Arm("both", augmentation={"flip": False}, changes={"augmentation": plain})
    assert arm.recipe(TOY_RECIPE).augmentation == plain


def test_a_rate_that_waits_for_a_plateau_is_not_made_constant() -> None:
    with pytest.raises(TypeError, match="falls in steps"):
        Arm("steady", constant_rate=True).recipe(A_256)


def test_rates_are_scaled_where_there_are_rates() -> None:
    doubled = scaled_rates(TOY_RECIPE, 2.0)
    assert [group.factor for group in doubled.optimiser.groups] == [
        2 * group.factor for group in TOY_RECIPE.optimiser.groups
    ]
    with pytest.raises(TypeError, match="Generation has no learning rates"):
        scaled_rates(GENERATOR, 2.0)
