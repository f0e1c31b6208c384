"""Momentum SGD as the history's papers wrote it, with rates by group and epoch."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from stages.errors import PipelineError
from stages.recipe import Optimiser, Rates


class MomentumSGD(torch.optim.Optimizer):
    """Stochastic gradient descent with the learning rate inside the velocity.

    v <- momentum v - rate (gradient + weight_decay w);  w <- w + v  (Krizhevsky 2012, section 5).
    torch.optim.SGD keeps the rate outside: the same at a constant rate, but there a drop of the rate
    scales the whole velocity at once, and here it fades over about ten steps.
    """

    def __init__(self, params: Iterable[dict[str, Any]], momentum: float) -> None:
        super().__init__(params, {"lr": 0.0, "weight_decay": 0.0, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step from the gradients in ``.grad``; a group whose rate is 0 stays as it is."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["lr"] == 0.0 or not parameters:
                continue
            for p in parameters:
                if "velocity" not in self.state[p]:
                    self.state[p]["velocity"] = torch.zeros_like(p)
            velocities: list[Tensor] = [self.state[p]["velocity"] for p in parameters]
            gradients: list[Tensor] = [p.grad for p in parameters if p.grad is not None]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, gradients, alpha=-group["lr"])
            if group["weight_decay"]:
                torch._foreach_add_(
                    velocities, parameters, alpha=-group["lr"] * group["weight_decay"]
                )
            torch._foreach_add_(parameters, velocities)


def build(model: nn.Module, recipe: Optimiser) -> MomentumSGD:
    """The optimiser of a model by a recipe; each parameter goes to the first group that matches it.

    Raises:
        PipelineError: a parameter that no group matches.
    """
    groups: list[dict[str, Any]] = [
        {"params": [], "rates": group.rates, "weight_decay": group.weight_decay}
        for group in recipe.groups
    ]
    for name, parameter in model.named_parameters():
        for settings, group in zip(recipe.groups, groups, strict=True):
            if re.fullmatch(settings.pattern, name):
                group["params"].append(parameter)
                break
        else:
            raise PipelineError(
                f"no parameter group of the recipe matches {name!r}",
                "end the recipe's groups with the pattern '.*'",
            )
    return MomentumSGD([group for group in groups if group["params"]], recipe.momentum)


def rate_at(rates: Rates, epoch: float) -> float:
    """The learning rate in force at an epoch (fractions allowed)."""
    return next(rate for start, rate in reversed(rates) if epoch >= start)


def set_rates(optimiser: MomentumSGD, epoch: float) -> float:
    """Give each group its rate for ``epoch``; returns the last group's, which holds the most weights."""
    for group in optimiser.param_groups:
        group["lr"] = rate_at(group["rates"], epoch)
    return float(optimiser.param_groups[-1]["lr"])
