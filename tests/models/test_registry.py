import inspect

import pytest

import models
from models.registry import register


@pytest.mark.parametrize("name", models.names())
def test_every_network_has_defaults_and_fidelity(name: str) -> None:
    rows = models.fidelity_rows(name)
    assert {row.status for row in rows} <= {"same", "deviates", "not stated"}
    assert all(row.note for row in rows if row.status != "same")
    assert "num_classes" not in models.knobs_of(name)


def test_names_of_the_history_are_known() -> None:
    assert {
        "alexnet", "zfnet", "vgg_a", "vgg_a_lrn", "vgg_b", "vgg_c", "vgg_d", "vgg_e", "googlenet",
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "plain18", "plain34",
        "resnet_cifar", "preact_resnet200", "resnext50_32x4d", "resnext101_32x4d",
        "resnext101_64x4d", "se_resnet50", "se_resnet101", "se_resnet152", "se_resnext50_32x4d",
        "se_resnext101_32x4d", "senet154", "inception_v3", "inception_v4", "inception_resnet_v2",
        "lenet5",
    } <= set(models.names())  # fmt: skip


def test_unknown_names_suggest_known_ones() -> None:
    with pytest.raises(ValueError, match="did you mean alexnet"):
        models.create("alexnett")


def test_unknown_knobs_are_refused() -> None:
    with pytest.raises(TypeError, match="pooling"):
        models.create("alexnet", pooling="max")


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="alexnet"):
        register("alexnet")(models.alexnet.alexnet)


def test_knobs_are_those_of_the_signature() -> None:
    signature = set(inspect.signature(models.alexnet.alexnet).parameters)
    assert models.knobs_of("alexnet") == signature - {"num_classes"}
    assert "shortcut" in models.knobs_of("resnet50")
