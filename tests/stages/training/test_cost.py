"""What a training costs, counted on paper, from a data sheet and measured here."""

from dataclasses import replace

import pytest
import torch

from stages.devices import DEVICES
from stages.errors import PipelineError
from stages.execution import Execution
from stages.job import Cost
from stages.tasks import task_of
from stages.tasks.classification.recipe import Classification


@pytest.fixture(scope="module")
def tiny(recipe: Classification) -> Classification:
    """A network whose costs can be counted on paper."""
    return replace(
        recipe,
        model="vgg_a",
        knobs={"width": 0.125, "image_size": 32, "dropout": 0.0},
        augmentation=replace(recipe.augmentation, resize=32, crop=32),
        batch_size=32,
        epochs=4,
    )


@pytest.fixture(scope="module")
def whole(recipe: Classification) -> Classification:
    """VGG's net A as published."""
    augmentation = replace(recipe.augmentation, resize=256, crop=224)
    return replace(recipe, model="vgg_a", knobs={}, augmentation=augmentation, batch_size=100)


def cost(recipe: Classification, classes: int, device: torch.device | str) -> Cost:
    return task_of(recipe).cost(recipe, 100, classes, device, Execution())


def test_what_one_image_costs_counted_on_paper(tiny: Classification) -> None:
    """Channels 8, 16, 32, 64, 64 on sides 32, 16, 8, 4, 2; 512 units twice."""
    convolutions = [
        (3, 8, 32),
        (8, 16, 16),
        (16, 32, 8),
        (32, 32, 8),
        (32, 64, 4),
        (64, 64, 4),
        (64, 64, 2),
        (64, 64, 2),
    ]
    linear = [(64, 512), (512, 512), (512, 10)]
    macs = sum(9 * i * o * side**2 for i, o, side in convolutions) + sum(i * o for i, o in linear)
    parameters = sum(9 * i * o + o for i, o, _ in convolutions) + sum(i * o + o for i, o in linear)
    # For the backward pass: the image, what each ReLU gives, and of each pool its output and, in eight
    # bytes, from where each maximum came.
    relus = sum(o * side**2 for _, o, side in convolutions) + 2 * 512
    pooled = 8 * 16**2 + 16 * 8**2 + 32 * 4**2 + 64 * 2**2 + 64
    floats = 3 * 32**2 + relus + pooled
    activations = 4 * floats + 8 * pooled

    planned = cost(tiny, 10, "h100")
    assert planned == Cost(
        steps=4 * 3,
        batch_size=32,
        seconds=3 * 2 * macs / (0.2 * 989e12),
        parameters=parameters,
        multiply_adds=macs,
        activation_bytes=activations,
        device="h100",
        measured=False,
    )
    assert planned.memory(32) == 12 * parameters + 32 * activations
    assert planned.total_seconds == 12 * 32 * planned.seconds
    assert planned.total_multiply_adds == 3 * macs * 12 * 32

    measured = cost(tiny, 10, torch.device("cpu"))
    assert measured.seconds > 0
    assert measured == replace(planned, seconds=measured.seconds, device="cpu", measured=True)


def test_the_last_smaller_batch_is_a_step_where_it_is_trained_on(tiny: Classification) -> None:
    assert cost(replace(tiny, drop_last=False), 10, "h100").steps == 4 * 4


def test_a_known_device_needs_no_room_for_the_weights(whole: Classification) -> None:
    """Sixty-four times as wide, two terabytes of weights."""
    wide = cost(replace(whole, model="vgg_e", knobs={"width": 64.0}), 1000, "h100")
    assert wide.parameters > 5e11
    assert cost(whole, 1000, "h100").parameters == 132_863_336


def test_an_unknown_device_is_refused_with_those_there_are(tiny: Classification) -> None:
    with pytest.raises(PipelineError, match="unknown device 'abacus'") as raised:
        cost(tiny, 10, "abacus")
    assert all(device in raised.value.fix for device in DEVICES)
