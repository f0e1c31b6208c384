import subprocess
import sys

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import models
from models.describe import layer_table


class Branches(nn.Module):
    """A stem, then a 1x1 and a 1x7 + 7x1 branch that meet in a sum, and a gate over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.short = nn.Conv2d(8, 8, 1)
        self.flat = nn.Conv2d(8, 8, (1, 7), padding=(0, 3))
        self.tall = nn.Conv2d(8, 8, (7, 1), padding=(3, 0))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Conv2d(8, 8, 1, groups=2)
        self.after = nn.Conv2d(8, 4, 3, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu_()
        x = self.short(x) + self.tall(self.flat(x))
        return self.after(x * self.gate(self.pool(x)))


def test_receptive_field_takes_the_longest_path() -> None:
    table = layer_table(Branches(), 32)
    fields = {layer.name: (layer.receptive_field, layer.jump) for layer in table.layers}
    assert fields == {
        "stem": (3, 2),
        "short": (3, 2),
        "flat": (3, 2),
        "tall": (15, 2),
        "pool": (None, None),
        "gate": (None, None),
        "after": (15 + 4 * 2, 2),
    }
    assert table["gate"].multiply_adds == 8 * 4
    assert table["flat"].kernel == (1, 7)
    assert table["after"].size == (12, 12)


def test_receptive_field_is_where_the_gradient_reaches() -> None:
    model = Branches()
    x = torch.zeros(1, 3, 64, 64, requires_grad=True)
    seen = models.features(model, ["tall"], x)["tall"]
    (grad,) = torch.autograd.grad(seen[0, :, 16, 16].sum(), x)
    assert int(grad.abs().sum((0, 1, 3)).count_nonzero()) == 15


def test_shared_weights_count_once_and_the_mode_is_left_alone() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(shared, nn.ReLU(), shared).train()
    table = layer_table(model, 8)
    assert [layer.parameters for layer in table.layers] == [84, 0]
    assert table.parameters == table.training_parameters == 84
    assert table.layers[1].multiply_adds == 81 * 64
    assert model.training
    assert not shared._forward_hooks


@pytest.mark.parametrize("name", models.names())
def test_every_network_is_described(name: str) -> None:
    table = models.describe(name)
    model = models.create_on_meta(name).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.empty(1, *table.input_shape, device="meta"))
    assert table.training_parameters == sum(p.numel() for p in model.parameters())
    assert 0 < table.parameters <= table.training_parameters
    if name != "lenet5":  # some of its layers are neither convolution nor matrix product
        assert table.multiply_adds == counter.get_total_flops() // 2


def test_heads_that_only_training_uses_are_counted_apart() -> None:
    table = models.describe("googlenet")
    assert (table.parameters, table.training_parameters) == (6_998_552, 13_378_280)
    assert "13,378,280" in str(table)


@pytest.mark.parametrize(
    "model", [torchvision.models.resnet18(), timm.create_model("seresnet18", num_classes=7)]
)
def test_networks_of_others(model: nn.Module) -> None:
    table = layer_table(model, 64)
    assert table.parameters == sum(p.numel() for p in model.parameters())
    assert table.layers[-1].size is None


def test_image_size_reaches_the_heads_that_depend_on_it() -> None:
    assert models.describe("alexnet", 128).parameters < models.describe("alexnet").parameters
    assert models.describe("resnet18", 64)["conv1"].size == (32, 32)
    with pytest.raises(ValueError, match="pool5"):
        models.describe("alexnet", 48)


def test_a_missing_row_is_an_error() -> None:
    with pytest.raises(KeyError, match="conv9"):
        models.describe("alexnet")["conv9"]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "models", *arguments], capture_output=True, text=True, check=False
    )


def test_command_prints_table_totals_and_fidelity() -> None:
    result = command("alexnet", "preset=paper", "remove=('conv3',)", "--image-size", "96")
    assert result.returncode == 0
    table, _, fidelity = result.stdout.partition("alexnet, input 3x96x96: ")
    assert "96x23x23" in table
    assert "conv3" not in table
    assert f"{models.describe('alexnet', 96, remove=('conv3',)).parameters:,}" in fidelity
    assert "local response normalisation" in fidelity


def test_command_suggests_names_and_explains_refusals() -> None:
    result = command("alexnt")
    assert result.returncode != 0
    assert "alexnet" in result.stderr
    assert "Traceback" not in result.stderr
