"""The optimisers of the history's papers as they wrote them, with rates by group and schedule."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.errors import PipelineError
from stages.recipe import (
    MomentumSGD,
    Optimiser,
    Plateau,
    Polynomial,
    RMSProp,
    Schedule,
    Staircase,
    Steps,
)


class RecipeOptimizer(torch.optim.Optimizer):
    """An optimiser whose groups have a recipe's schedules and factors; `set_rates` sets their rates."""

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})

    def _trained(self) -> Iterator[tuple[float, float, list[Tensor], list[Tensor]]]:
        """Rate, weight decay, parameters and gradients of each group; one whose rate is 0 stays as it is."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["lr"] != 0.0 and parameters:
                gradients = [p.grad for p in parameters]
                yield group["lr"], group["weight_decay"], parameters, gradients

    def _kept(self, name: str, parameters: Iterable[Tensor], initial: float) -> list[Tensor]:
        """What is remembered of each parameter, of its shape."""
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.full_like(p, initial)
        return [self.state[p][name] for p in parameters]


class MomentumSGDOptimizer(RecipeOptimizer):
    """Stochastic gradient descent in the two conventions of `stages.recipe.MomentumSGD`.

    At a constant rate they are the same. When the rate drops, torch.optim.SGD (outside) scales the whole
    velocity at once, and with the rate inside the drop fades in over about ten steps.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], recipe: MomentumSGD) -> None:
        if recipe.nesterov and recipe.rate == "inside":
            raise ValueError("nesterov is only defined with the rate outside the velocity")
        super().__init__(groups)
        self._recipe = recipe

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step from the gradients in ``.grad``."""
        inside, momentum = self._recipe.rate == "inside", self._recipe.momentum
        for rate, decay, parameters, gradients in self._trained():
            velocities = self._kept("velocity", parameters, 0.0)
            torch._foreach_mul_(velocities, momentum)
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


class RMSPropOptimizer(RecipeOptimizer):
    """RMSProp as `stages.recipe.RMSProp` describes it.

    Not torch.optim.RMSprop, which begins with a mean square of 0 and adds epsilon outside the root: with an
    epsilon of 1 that is another step from the first one on.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], recipe: RMSProp) -> None:
        super().__init__(groups)
        self._recipe = recipe

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step from the gradients in ``.grad``, which it changes."""
        trained = list(self._trained())
        for _, decay, parameters, gradients in trained:
            if (
                decay
            ):  # Google's is a term of the loss, so that it is clipped and scaled with the rest
                torch._foreach_add_(gradients, parameters, alpha=decay)
        self._clip([gradient for *_, gradients in trained for gradient in gradients])
        for rate, _, parameters, gradients in trained:
            squares = self._kept("square", parameters, 1.0)
            velocities = self._kept("velocity", parameters, 0.0)
            torch._foreach_mul_(squares, self._recipe.decay)
            torch._foreach_addcmul_(squares, gradients, gradients, value=1 - self._recipe.decay)
            roots = torch._foreach_add(squares, self._recipe.epsilon)
            torch._foreach_sqrt_(roots)
            torch._foreach_mul_(velocities, self._recipe.momentum)
            torch._foreach_addcdiv_(velocities, gradients, roots, value=rate)
            torch._foreach_sub_(parameters, velocities)

    def _clip(self, gradients: list[Tensor]) -> None:
        """Scale a gradient that is longer than the recipe's bound back to it (Pascanu 2013)."""
        bound = self._recipe.clip_norm
        if bound is not None and gradients:
            length = torch.stack(torch._foreach_norm(gradients)).norm()
            torch._foreach_mul_(gradients, (bound / length).clamp(max=1.0))


def build(model: nn.Module, recipe: Optimiser) -> RecipeOptimizer:
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
    trained = [group for group in groups if group["params"]]
    match recipe:
        case MomentumSGD():
            return MomentumSGDOptimizer(trained, recipe)
        case RMSProp():
            return RMSPropOptimizer(trained, recipe)
    raise TypeError(f"no optimiser for {type(recipe).__name__}")


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


def set_rates(optimiser: RecipeOptimizer, epoch: float, *, epochs: int, drops: int = 0) -> float:
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
