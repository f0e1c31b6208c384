"""Modern layers in the place of old ones: where they are the same, and how each network knows it."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import models
from models.fidelity import fidelity_rows

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("image_size", "rounding_up", "rounding_down"),
    [(224, 6, 6), (227, 6, 6), (112, 3, 2), (64, 1, 1)],
)
def test_alexnets_pools_round_up(image_size: int, rounding_up: int, rounding_down: int) -> None:
    """As cuda-convnet's (layer.py): at the published sizes either rule gives 55, 27, 13 and 6."""
    net = models.create("alexnet", 3, width=0.125, image_size=image_size).eval()
    x = torch.randn(1, 3, image_size, image_size)
    assert models.features(net, ["pool5"], x)["pool5"].shape[-1] == rounding_up
    for pool in net.modules():
        if isinstance(pool, nn.MaxPool2d):
            assert (pool.kernel_size, pool.stride) == (3, 2)
            pool.ceil_mode = False
    net.fc6 = nn.LazyLinear(8)
    net.fc7 = nn.Linear(8, 8)
    net.fc8 = nn.Linear(8, 3)
    assert models.features(net, ["pool5"], x)["pool5"].shape[-1] == rounding_down


def test_batch_norm_is_torch7s() -> None:
    """nn.SpatialBatchNormalization: epsilon 1e-5, a share of 0.1, running variances that are unbiased."""
    torch.manual_seed(0)
    x = 3 * torch.randn(4, 5, 6, 7, dtype=torch.float64) + 2
    norms = [
        module
        for name in ("resnet50", "resnext50_32x4d", "se_resnet50", "preact_resnet200")
        for module in models.create_on_meta(name).modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    assert {(n.eps, n.momentum, n.affine, n.track_running_stats) for n in norms} == {
        (1e-5, 0.1, True, True)
    }
    norm = nn.BatchNorm2d(5).double()
    y = norm(x)
    mean, biased = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    expected = (x - mean.view(1, 5, 1, 1)) / (biased.view(1, 5, 1, 1) + 1e-5).sqrt()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * x.var((0, 2, 3), correction=1))


@pytest.mark.parametrize("name", models.names())
def test_what_is_the_same_says_how_it_was_checked(name: str) -> None:
    for row in fidelity_rows(name):
        assert row.checked or row.status != "same", row.element
        named = re.findall(r"\b(test_\w+)\.(test_\w+)", row.checked)
        assert named or row.status != "same", f"{row.element} names no test"
        for file, function in named:
            (path,) = TESTS.rglob(f"{file}.py")
            assert f"def {function}(" in path.read_text(), (
                f"{row.element}: {file} has no {function}"
            )
