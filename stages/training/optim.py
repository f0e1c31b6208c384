"""Momentum SGD as the history's papers wrote it, with rates by group and schedule."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.errors import PipelineError
from stages.recipe import MomentumSGD, Optimiser, Plateau, Polynomial, Schedule, Staircase, Steps


class MomentumSGDOptimizer(torch.optim.Optimizer):
    """Stochastic gradient descent in the two conventions of `stages.recipe.MomentumSGD`.

    At a constant rate they are the same. When the rate drops, torch.optim.SGD (outside) scales the whole
    velocity at once, and with the rate inside the drop fades in over about ten steps.
    """

    def __init__(self, params: Iterable[dict[str, Any]], recipe: MomentumSGD) -> None:
        if recipe.nesterov and recipe.rate == "inside":
            raise ValueError("nesterov is only defined with the rate outside the velocity")
        super().__init__(params, {"lr": 0.0, "weight_decay": 0.0})
        self._recipe = recipe

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
            rate, decay, momentum = group["lr"], group["weight_decay"], self._recipe.momentum
            torch._foreach_mul_(velocities, momentum)
            inside = self._recipe.rate == "inside"
            torch._foreach_add_(velocities, gradients, alpha=-rate if inside else 1.0)
            if decay:
                torch._foreach_add_(
                    velocities, parameters, alpha=-rate * decay if inside else decay
                )
            if inside:
                torch._foreach_add_(parameters, velocities)
            elif self._recipe.nesterov:
                if decay:
                    torch._foreach_add_(gradients, parameters, alpha=decay)
                torch._foreach_add_(parameters, gradients, alpha=-rate)
                torch._foreach_add_(parameters, velocities, alpha=-rate * momentum)
            else:
                torch._foreach_add_(parameters, velocities, alpha=-rate)


def build(model: nn.Module, recipe: Optimiser) -> MomentumSGDOptimizer:
    """The optimiser of a model by a recipe; each parameter goes to the first group that matches it.

    Raises:
        PipelineError: a parameter that no group matches.
        ValueError: a convention that does not exist.
    """
    groups: list[dict[str, Any]] = [
        {
            "params": [],
            "schedule": group.schedule,
            "factor": group.factor,
            "weight_decay": group.weight_decay,
        }
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
    if not isinstance(recipe, MomentumSGD):
        raise NotImplementedError(type(recipe).__name__)
    return MomentumSGDOptimizer([group for group in groups if group["params"]], recipe)


def rate_at(schedule: Schedule, epoch: float, *, epochs: int, drops: int = 0) -> float:
    """The learning rate in force.

    Args:
        schedule: of the recipe.
        epoch: reached so far, fractions included.
        epochs: of the whole training.
        drops: plateaus met so far (`PlateauState.drops`).
    """
    match schedule:
        case Steps(rates=rates):
            return next(rate for start, rate in reversed(rates) if epoch >= start)
        case Plateau(start=start, factor=factor, drops=most):
            return start * factor ** min(drops, most)
        case Polynomial(start=start, power=power):
            return start * (1 - epoch / epochs) ** power
        case Staircase(start=start, factor=factor, every=every):
            return start * factor ** (epoch // every)


def set_rates(
    optimiser: MomentumSGDOptimizer, epoch: float, *, epochs: int, drops: int = 0
) -> float:
    """Give each group its rate (see `rate_at`); returns the last group's, which holds the most weights."""
    for group in optimiser.param_groups:
        rate = rate_at(group["schedule"], epoch, epochs=epochs, drops=drops)
        group["lr"] = group["factor"] * rate
    return float(optimiser.param_groups[-1]["lr"])


@dataclass
class PlateauState:
    """What has been seen of the validation error; part of a checkpoint.

    Attributes:
        best: lowest error so far, percent.
        waited: epochs since then, or since the last drop.
        drops: how often it stopped improving.
    """

    best: float = float("inf")
    waited: int = 0
    drops: int = 0

    def update(self, error: float, schedule: Plateau) -> None:
        """Take note of an epoch's validation error in percent."""
        if error <= self.best - schedule.threshold:
            self.best, self.waited = error, 0
            return
        self.waited += 1
        if self.waited >= schedule.patience:
            self.waited, self.drops = 0, self.drops + 1


def plateau_of(recipe: Optimiser) -> Plateau | None:
    """The plateau schedule of a recipe's last group that has one; None where all rates are planned."""
    plateaus = [g.schedule for g in recipe.groups if isinstance(g.schedule, Plateau)]
    return plateaus[-1] if plateaus else None
