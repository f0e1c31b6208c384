"""The two forms of dropout: the same expectation, and two different trainings."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from models.parts.layers import OriginalDropout

RATE, DECAY, KEPT = 0.01, 5e-4, 0.5
# Each stands above a dropout.
ABOVE = ("fc7.weight", "fc8.weight")


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
def test_units_are_zeroed_in_training_and_scaled_at_test_time(p: float) -> None:
    x = torch.rand(64, 1000) + 1
    layer = OriginalDropout(p)
    torch.manual_seed(0)
    y = layer(x)
    kept = y != 0
    assert kept.double().mean().item() == pytest.approx(1 - p, abs=0.02)
    torch.testing.assert_close(y[kept], x[kept])
    torch.manual_seed(0)
    assert torch.equal(nn.Dropout(p)(x) != 0, kept)  # the mask of the inverted form
    torch.testing.assert_close(layer.eval()(x), (1 - p) * x)


def test_a_probability_that_leaves_nothing_is_refused() -> None:
    for p in (-0.1, 1.0):
        with pytest.raises(ValueError, match="probability"):
            OriginalDropout(p)


@pytest.mark.parametrize("network", ["alexnet", "zfnet"])
def test_inverted_dropout_is_the_same_training_only_if_it_is_compensated(network: str) -> None:
    as_run = trained(network, inverted=False, scale=1.0, factor=1.0)
    compensated = trained(network, inverted=True, scale=KEPT, factor=KEPT**2)
    plain = trained(network, inverted=True, scale=1.0, factor=1.0)
    torch.testing.assert_close(compensated, as_run, rtol=1e-9, atol=1e-9)
    # Twice the scale at the start and four times the rate: other scores by more than a tenth of their size.
    assert (plain - as_run).std() > 0.1 * as_run.std()


def trained(network: str, *, inverted: bool, scale: float, factor: float) -> Tensor:
    """Scores after ten steps.

    Args:
        network: which.
        inverted: the form of dropout.
        scale: of the initial weights above a dropout.
        factor: of their rate; what they lose to decay at each step stays the same share.
    """
    knobs = {"width": 0.125, "image_size": 64}
    torch.manual_seed(0)
    net = models.create(network, 5, **knobs, dropout=1 - KEPT, inverted_dropout=inverted).double()
    above = [net.get_parameter(name) for name in ABOVE]
    with torch.no_grad():
        for weight in above:
            weight.mul_(scale)
    others = [p for name, p in net.named_parameters() if name not in ABOVE]
    groups = [
        {"params": above, "lr": factor * RATE, "weight_decay": DECAY / factor},
        {"params": others, "lr": RATE, "weight_decay": DECAY},
    ]
    optimiser = torch.optim.SGD(groups, momentum=0.9)
    labels = torch.arange(20) % 5
    x = 60 * torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()[labels]
    for step in range(10):
        torch.manual_seed(step)  # the same masks
        optimiser.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimiser.step()
    with torch.no_grad():
        scores: Tensor = net.eval()(x)
    return scores
