import subprocess
import sys

import pytest
import torch
from residual_nets import multiply_adds, on_meta, parameters, sizes
from torch import nn

import models.inception
from models.registry import create

NAMES = ("inception_v3", "inception_v4", "inception_resnet_v2")


@pytest.mark.parametrize(
    ("name", "knobs", "params", "giga"),
    [
        ("inception_v3", {"aux_head": False}, 23_834_568, 5.713),
        ("inception_v3", {}, 27_161_264, 5.713),
        ("inception_v4", {}, 42_679_816, 12.254),
        ("inception_resnet_v2", {}, 55_843_464, 13.156),
    ],
)
def test_parameters_and_multiply_adds(name, knobs, params, giga):
    model = on_meta(name, **knobs)
    assert parameters(model) == params
    assert multiply_adds(model, 299) / 1e9 == pytest.approx(giga, abs=0.001)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        (
            "inception_v3",
            {
                "Conv2d_4a_3x3": (192, 71),
                "Mixed_5d": (288, 35),
                "Mixed_6e": (768, 17),
                "Mixed_7c": (2048, 8),
            },
        ),
        (
            "inception_v4",
            {
                "features.5": (384, 35),
                "features.9": (384, 35),
                "features.17": (1024, 17),
                "features.21": (1536, 8),
            },
        ),
        (
            "inception_resnet_v2",
            {
                "repeat": (320, 35),
                "repeat_1": (1088, 17),
                "repeat_2": (2080, 8),
                "conv2d_7b": (1536, 8),
            },
        ),
    ],
)
def test_layer_table(name, layers):
    model = on_meta(name)
    assert model.input_size == 299
    found = sizes(model, [f"net.{layer}" for layer in layers], 299)
    assert found == {f"net.{layer}": shape for layer, shape in layers.items()}


def test_training_returns_the_auxiliary_logits_and_evaluation_does_not():
    model = on_meta("inception_v3", num_classes=7)
    images = torch.empty(2, 3, 299, 299, device="meta")
    assert model(images).shape == (2, 7)
    main, auxiliary = model.train()(images)
    assert main.shape == auxiliary.shape == (2, 7)
    without = on_meta("inception_v3", num_classes=7, aux_head=False).train()
    assert without(images).shape == (2, 7)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_googles(name):
    (probability,) = {m.p for m in on_meta(name).modules() if isinstance(m, nn.Dropout)}
    assert probability == 0.2


@pytest.mark.parametrize("name", NAMES)
def test_75_px_is_the_smallest_image(name):
    knobs = {"aux_head": False} if name == "inception_v3" else {}
    model = on_meta(name, image_size=75, num_classes=3, **knobs)
    assert model.input_size == 75
    assert model(torch.empty(1, 3, 75, 75, device="meta")).shape == (1, 3)
    with pytest.raises(ValueError, match=r"74.*75"):
        on_meta(name, image_size=74, **knobs)
    with pytest.raises(RuntimeError):
        model(torch.empty(1, 3, 74, 74, device="meta"))


def test_the_auxiliary_head_needs_299_px():
    with pytest.raises(ValueError, match=r"AuxLogits.*298.*299.*aux_head=False"):
        on_meta("inception_v3", image_size=298)
    with pytest.raises(RuntimeError):
        on_meta("inception_v3").train()(torch.empty(2, 3, 298, 298, device="meta"))


def test_initialisation():
    model = create("inception_v3", num_classes=5)
    conv = model.net.Mixed_7c.branch3x3dbl_2.conv.weight
    assert conv.std().item() == pytest.approx((2 / (448 * 9)) ** 0.5, rel=0.02)
    assert model.net.AuxLogits.conv1.conv.weight.std().item() == pytest.approx(0.0088, rel=0.02)
    assert model.net.AuxLogits.fc.weight.abs().max() <= 0.002
    before, state = conv.detach().clone(), torch.get_rng_state()
    model.reset_parameters(torch.Generator().manual_seed(1))
    assert not torch.equal(before, conv)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_reduce_the_loss(name):
    torch.manual_seed(0)
    knobs = {"aux_head": False} if name == "inception_v3" else {}
    model = create(name, num_classes=4, image_size=107, dropout=0.0, **knobs)
    # The last batch norms need several pixels per image: with only one, the loss is too noisy to train.
    images, labels = torch.randn(8, 3, 107, 107), torch.arange(8) % 4
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in model.parameters())


def test_importing_the_networks_imports_no_zoo():
    code = (
        "import sys, models.inception; assert not {'timm', 'torchvision'} & set(sys.modules),"
        " 'a zoo was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_fidelity_rows_say_why(name):
    for row in models.inception.FIDELITY[name]:
        assert row.source
        assert row.status == "same" or row.note
