"""The optimiser's steps against the paper's formula, by hand."""

import pytest
import torch
from torch import nn

from pipeline.papers.alexnet import PAPER_RECIPE
from stages import optim
from stages.errors import PipelineError
from stages.recipe import Optimiser, ParameterGroup, Steps


def net() -> nn.Module:
    model = nn.Sequential()
    model.add_module("conv1", nn.Linear(2, 1))
    model.add_module("fc8", nn.Linear(1, 1))
    return model


def test_the_rate_is_inside_the_velocity() -> None:
    """Section 5: v <- 0.9 v - 0.0005 rate w - rate g; w <- w + v, across a drop of the rate."""
    recipe = Optimiser(
        (
            ParameterGroup(
                ".*",
                Steps(
                    (
                        (0, 0.1),
                        (2, 0.01),
                    )
                ),
                5e-4,
            ),
        )
    )
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    holder = nn.Module()
    holder.weight = weight
    optimiser = optim.build(holder, recipe)
    w, v = 1.0, 0.0
    for epoch, gradient in enumerate([0.5, -0.2, 0.3, 0.1]):
        rate = 0.1 if epoch < 2 else 0.01
        v = 0.9 * v - 5e-4 * rate * w - rate * gradient
        w += v
        assert optim.set_rates(optimiser, epoch, epochs=91) == rate
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        assert weight.item() == pytest.approx(w, abs=1e-12)


def test_it_is_torch_sgd_while_the_rate_is_constant() -> None:
    torch.manual_seed(0)
    mine, torchs = net(), net()
    torchs.load_state_dict(mine.state_dict())
    ours = optim.build(mine, Optimiser((ParameterGroup(".*", Steps(((0, 0.05),)), 1e-3),)))
    theirs = torch.optim.SGD(torchs.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    optim.set_rates(ours, 0, epochs=1)
    for _ in range(5):
        x = torch.randn(4, 2)
        for model, optimiser in ((mine, ours), (torchs, theirs)):
            optimiser.zero_grad()
            model(x).square().sum().backward()
            optimiser.step()
    for a, b in zip(mine.parameters(), torchs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_authors_groups_at_each_epoch() -> None:
    """layer-params-145.cfg: biases at twice the rate, never dropped nor decayed; conv1 frozen late."""
    optimiser = optim.build(net(), PAPER_RECIPE.optimiser)
    expected = {  # conv1.bias, other biases, conv1.weight, other weights
        0: (0.02, 0.02, 0.01, 0.01),
        25: (0.02, 0.02, 1e-3, 1e-3),
        51: (0.02, 0.02, 1e-4, 1e-4),
        67: (0.02, 0.02, 1e-5, 1e-4),
        72: (0.0, 0.02, 0.0, 1e-4),
        79: (0.0, 0.02, 0.0, 1e-5),
        90.9: (0.0, 0.02, 0.0, 1e-5),
    }
    for epoch, rates in expected.items():
        optim.set_rates(optimiser, epoch, epochs=91)
        assert tuple(group["lr"] for group in optimiser.param_groups) == rates, epoch
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.0, 0.0, 5e-4, 5e-4]
    assert [len(group["params"]) for group in optimiser.param_groups] == [1, 1, 1, 1]


def test_a_rate_of_zero_freezes() -> None:
    model = net()
    optimiser = optim.build(model, PAPER_RECIPE.optimiser)
    optim.set_rates(optimiser, 75, epochs=91)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"fc8.bias", "fc8.weight"}


def test_a_parameter_that_no_group_takes_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"fc8\.weight"):
        optim.build(net(), Optimiser((ParameterGroup("conv1.*", Steps(((0, 0.1),)), 0.0),)))
