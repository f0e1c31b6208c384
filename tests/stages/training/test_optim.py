"""The optimiser's steps against the paper's formula, by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.papers.alexnet.recipes import PAPER_RECIPE
from stages.errors import PipelineError
from stages.recipe import (
    MomentumSGD,
    ParameterGroup,
    Plateau,
    Polynomial,
    RMSProp,
    Staircase,
    Steps,
)
from stages.training import optim


def net() -> nn.Module:
    model = nn.Sequential()
    model.add_module("conv1", nn.Linear(2, 1))
    model.add_module("fc8", nn.Linear(1, 1))
    return model


@pytest.mark.parametrize(
    ("rate", "nesterov", "weights", "biases"),
    [
        # v <- m v - rate (g + decay w); w <- w + v
        ("inside", False, (0.89, 0.7261, 0.6334239), (-0.2, -0.5, -0.67)),
        # v <- m v + g + decay w; w <- w - rate v
        ("outside", False, (0.89, 0.7261, 0.7071789), (-0.2, -0.5, -0.535)),
        # w <- w - rate (g + decay w + m v)
        ("outside", True, (0.835, 0.644975, 0.6249237875), (-0.3, -0.65, -0.6875)),
    ],
    ids=["inside", "outside", "nesterov"],
)
def test_steps_worked_out_by_hand(rate, nesterov, weights, biases) -> None:
    """Gradients of 1, momentum 0.5; the rate is 0.1 for two steps and then a tenth of it.

    The weight decays by 0.1; the bias does not and learns at twice the rate.
    """
    schedule = Steps(((0, 0.1), (2, 0.01)))
    recipe = MomentumSGD(
        (
            ParameterGroup("bias", schedule, weight_decay=0.0, factor=2.0),
            ParameterGroup(".*", schedule, weight_decay=0.1),
        ),
        momentum=0.5,
        rate=rate,
        nesterov=nesterov,
    )
    model = nn.Linear(1, 1, dtype=torch.float64)
    nn.init.ones_(model.weight)
    nn.init.zeros_(model.bias)
    optimiser = optim.build(model, recipe)
    for epoch, expected in enumerate(zip(weights, biases, strict=True)):
        assert optim.set_rates(optimiser, epoch, epochs=3) == (0.1 if epoch < 2 else 0.01)
        model(torch.ones(1, 1, dtype=torch.float64)).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        assert (model.weight.item(), model.bias.item()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("rate", "nesterov", "rates"),
    [
        ("inside", False, (0.05,)),  # the conventions part where the rate changes
        ("outside", False, (0.05, 0.005, 0.02)),
        ("outside", True, (0.05, 0.005, 0.02)),
    ],
)
def test_it_is_torchs_sgd(rate, nesterov, rates) -> None:
    torch.manual_seed(0)
    mine, torchs = net(), net()
    torchs.load_state_dict(mine.state_dict())
    schedule = Steps(tuple(enumerate(rates)))
    ours = optim.build(
        mine, MomentumSGD((ParameterGroup(".*", schedule, 0.1),), rate=rate, nesterov=nesterov)
    )
    theirs = torch.optim.SGD(
        torchs.parameters(), lr=0.0, momentum=0.9, weight_decay=0.1, nesterov=nesterov
    )
    for epoch in range(4):
        theirs.param_groups[0]["lr"] = optim.set_rates(ours, epoch, epochs=4)
        for _ in range(3):
            x = torch.randn(4, 2)
            for model, optimiser in ((mine, ours), (torchs, theirs)):
                optimiser.zero_grad()
                model(x).square().sum().backward()
                optimiser.step()
    for a, b in zip(mine.parameters(), torchs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Steps(((0, 0.1), (2, 0.01), (2.5, 0.2))), {0: 0.1, 1.9: 0.1, 2: 0.01, 2.5: 0.2, 9: 0.2}),
        (Polynomial(0.2, power=0.5), {0: 0.2, 7.5: 0.1, 9.9: 0.02}),
        (Polynomial(0.2, power=1.0), {0: 0.2, 2.5: 0.15, 9: 0.02}),
        # Szegedy 2014: 4 % less every 8 epochs
        (Staircase(0.01, 0.96, every=8), {0: 0.01, 7.99: 0.01, 8: 0.0096, 24.5: 0.00884736}),
        (Plateau(0.1, drops=3), {0: 0.1, 9: 0.1}),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else "",
)
def test_rates_at_given_epochs(schedule, rates) -> None:
    found = {epoch: optim.rate_at(schedule, epoch, epochs=10) for epoch in rates}
    assert found == pytest.approx(rates)


def test_a_plateaus_rate_falls_with_its_drops_and_no_further_than_published() -> None:
    schedule = Plateau(0.1, factor=0.1, drops=3)
    rates = [optim.rate_at(schedule, 0, epochs=10, drops=drops) for drops in range(6)]
    assert rates == pytest.approx([0.1, 0.01, 1e-3, 1e-4, 1e-4, 1e-4])


def test_a_plateau_is_patience_epochs_without_a_gain_of_the_threshold() -> None:
    schedule = Plateau(0.1, patience=2, threshold=0.5)
    state = optim.PlateauState()
    cases = [  # error, and then best, waited, drops
        (80.0, (80.0, 0, 0)),
        (79.6, (80.0, 1, 0)),  # 0.4 points better: not enough
        (79.5, (79.5, 0, 0)),  # just enough
        (79.4, (79.5, 1, 0)),
        (90.0, (79.5, 0, 1)),  # the first drop, and the patience begins again
        (79.1, (79.5, 1, 1)),
        (79.0, (79.0, 0, 1)),
        (79.0, (79.0, 1, 1)),
        (79.0, (79.0, 0, 2)),
    ]
    for error, expected in cases:
        state.update(error, schedule)
        assert (state.best, state.waited, state.drops) == expected


def test_only_a_plateau_is_a_plateau() -> None:
    steps = ParameterGroup("conv1.*", Steps(((0, 0.1),)), 0.0)
    plateau = ParameterGroup(".*", Plateau(0.1), 0.0)
    assert optim.plateau_of(MomentumSGD((steps, plateau))) == plateau.schedule
    assert optim.plateau_of(MomentumSGD((steps,))) is None


def test_nesterov_with_the_rate_inside_is_refused() -> None:
    group = ParameterGroup(".*", Steps(((0, 0.1),)), 0.0)
    with pytest.raises(ValueError, match="nesterov is only defined with the rate outside"):
        optim.build(net(), MomentumSGD((group,), rate="inside", nesterov=True))


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
        optim.build(net(), MomentumSGD((ParameterGroup("conv1.*", Steps(((0, 0.1),)), 0.0),)))


# RMSProp


def inception(**changes) -> RMSProp:
    """Inception-v3's optimiser with a rate that falls, and parameters that do not decay."""
    schedule = Staircase(0.045, factor=0.94, every=2)
    groups = (
        ParameterGroup(".*bias", schedule, weight_decay=0.0, factor=2.0),
        ParameterGroup(".*", schedule, weight_decay=0.1),
    )
    return RMSProp(groups, decay=0.9, momentum=0.9, epsilon=1.0, **changes)


@pytest.mark.parametrize("bound", [None, 20.0])
def test_rmsprop_is_tensorflows(bound: float | None) -> None:
    """tf.train.RMSPropOptimizer in numpy: ones at first, epsilon in the root, the rate in the velocity."""
    torch.manual_seed(0)
    model = net().double()
    weights = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    squares = {name: np.ones_like(w) for name, w in weights.items()}
    velocities = {name: np.zeros_like(w) for name, w in weights.items()}
    optimiser = optim.build(model, inception(clip_norm=bound))
    lengths = []
    for step in range(20):
        rate = optim.set_rates(optimiser, step / 4, epochs=5)
        optimiser.zero_grad()
        (3 * model(torch.randn(8, 2, dtype=torch.float64))).square().sum().backward()
        gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
        optimiser.step()
        for name in weights:
            gradients[name] += 0.0 if name.endswith("bias") else 0.1 * weights[name]
        length = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        lengths.append(length)
        for name, g in gradients.items():
            if bound is not None:
                g *= min(1.0, bound / length)
            squares[name] = 0.9 * squares[name] + 0.1 * g**2
            factor = 2.0 if name.endswith("bias") else 1.0
            scaled = factor * rate * g / np.sqrt(squares[name] + 1.0)
            velocities[name] = 0.9 * velocities[name] + scaled
            weights[name] = weights[name] - velocities[name]
    for name, p in model.named_parameters():
        assert np.allclose(p.detach().numpy(), weights[name], rtol=1e-10, atol=1e-12)
    assert min(lengths) < 10 < 40 < max(lengths)  # some gradients are clipped, and some are not


def test_rmsprops_first_step_by_hand() -> None:
    """A gradient of 3: the mean square is 0.9 + 0.1 x 9 = 1.8, the step 0.1 x 3 / sqrt(2.8)."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    recipe = RMSProp((ParameterGroup(".*", Steps(((0, 0.1), (1, 0.0))), weight_decay=0.0),))
    optimiser = optim.build(model, recipe)
    for epoch in (0, 1):  # a rate of 0 leaves everything as it is
        optim.set_rates(optimiser, epoch, epochs=2)
        model(torch.full((1, 1), 3.0, dtype=torch.float64)).backward()
        optimiser.step()
        optimiser.zero_grad()
        assert model.weight.item() == pytest.approx(-0.3 / 2.8**0.5)
    # torch's own, with epsilon outside the root and a mean square of 0 at first, takes another step.
    theirs = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    theirs.grad = torch.full((1,), 3.0, dtype=torch.float64)
    torch.optim.RMSprop([theirs], lr=0.1, alpha=0.9, eps=1.0, momentum=0.9).step()
    assert theirs.item() == pytest.approx(-0.3 / (0.9**0.5 + 1))
