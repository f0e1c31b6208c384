"""What can be read off a recipe: rates, decays, layers, initial weights."""

import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn

import models
from models.parts.layers import LocalResponseNorm, OriginalDropout
from pipeline import papers
from stages.augmentation import AreaCrop
from stages.recipe import MomentumSGD
from stages.tasks.classification.recipe import Classification
from stages.training import optim


class Number(NamedTuple):
    """A number, where its authors wrote it, and how to read it off a recipe."""

    source: str
    what: str
    theirs: Any
    ours: Callable[[], Any]


class Of:
    """A recipe of a paper, and what can be read off it."""

    def __init__(self, paper: str, recipe: str, profile: str = "paper") -> None:
        found = papers.find(None, paper).recipes[profile][recipe]  # type: ignore[index]
        assert isinstance(found, Classification)
        self.recipe = found

    def rates(self, parameter: str, *epochs: float, drops: Sequence[int] = (0,)) -> list[float]:
        """The learning rate of a parameter at some epochs, or after some drops at a plateau."""
        group = self._group(parameter)
        return [
            group.factor
            * optim.rate_at(group.schedule, epoch, epochs=self.recipe.epochs, drops=dropped)
            for epoch in epochs
            for dropped in drops
        ]

    def decays(self, *parameters: str) -> list[float]:
        return [self._group(name).weight_decay for name in parameters]

    def _group(self, parameter: str) -> Any:
        assert parameter in self.parameters(), f"{self.recipe.model} has no {parameter}"
        groups = self.recipe.optimiser.groups
        return next(group for group in groups if re.fullmatch(group.pattern, parameter))

    @cache  # noqa: B019 (a few recipes, for as long as the tests run)
    def parameters(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.on_meta().named_parameters())

    def on_meta(self) -> nn.Module:
        return models.create_on_meta(self.recipe.model, 1000, **self.recipe.knobs)

    def layers(self, kind: type[nn.Module]) -> list[nn.Module]:
        return [module for module in self.on_meta().modules() if isinstance(module, kind)]

    def response_norms(self) -> list[tuple[float, ...]]:
        """Window, factor of the sum of squares, power and constant of every response norm."""
        return [
            (norm.size, norm.scale, norm.beta, norm.k)
            for norm in self.layers(LocalResponseNorm)
            if isinstance(norm, LocalResponseNorm)
        ]

    def pools(self) -> set[tuple[Any, ...]]:
        """Kernel, stride, padding and rounding up of the max pools."""
        return {
            (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
            for pool in self.layers(nn.MaxPool2d)
            if isinstance(pool, nn.MaxPool2d)
        }

    def dropped(self) -> list[tuple[str, float]]:
        """Kind and probability of every dropout that drops something."""
        found = [m for m in self.on_meta().modules() if isinstance(m, OriginalDropout | nn.Dropout)]
        return [(type(m).__name__, m.p) for m in found if m.p]

    @cache  # noqa: B019
    def initial(self, **smaller: Any) -> dict[str, tuple[float, float]]:
        """Standard deviation and mean of every parameter that a seeded network begins with."""
        torch.manual_seed(0)
        net = models.create(self.recipe.model, 1000, **{**self.recipe.knobs, **smaller})
        return {
            name: (float(value.detach().std(correction=0)), float(value.detach().mean()))
            for name, value in net.named_parameters()
        }

    def initial_stds(self, *layers: str, **smaller: Any) -> list[float]:
        values = self.initial(**smaller)
        return [round(values[f"{layer}.weight"][0], 3) for layer in layers]

    def initial_biases(self, *layers: str, **smaller: Any) -> list[float]:
        """The biases of some layers, each the same constant throughout."""
        values = self.initial(**smaller)
        found = [values[f"{layer}.bias"] for layer in layers]
        assert all(std < 1e-6 for std, _ in found)
        return [round(mean, 6) for _, mean in found]


def momentum(
    of: Of, share: float, rate: str, nesterov: bool
) -> tuple[tuple[float, str, bool], Callable[[], Any]]:
    def ours() -> Any:
        optimiser = of.recipe.optimiser
        assert isinstance(optimiser, MomentumSGD)
        return optimiser.momentum, optimiser.rate, optimiser.nesterov

    return (share, rate, nesterov), ours


def sizes(of: Of) -> tuple[int, int]:
    return of.recipe.batch_size, of.recipe.epochs


def area_crop(of: Of) -> tuple[Any, ...]:
    crop = of.recipe.augmentation.sampling
    assert isinstance(crop, AreaCrop)
    return crop.area, crop.ratio, crop.log_ratio, crop.swap_sides, set(crop.interpolations)


def strides(of: Of, unit: str) -> tuple[Any, Any]:
    net = of.on_meta()
    first, middle = (net.get_submodule(f"{unit}.{name}") for name in ("conv1", "conv2"))
    assert isinstance(first, nn.Conv2d)
    assert isinstance(middle, nn.Conv2d)
    return first.stride, middle.stride


def round_to(value: float, unit: int) -> int:
    return unit * round(value / unit)


def close(ours: Any, theirs: Any) -> bool:
    """Whether two numbers, or nested sequences of them, are the same up to rounding."""
    if isinstance(theirs, list | tuple) and isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(close, ours, theirs))
    if isinstance(theirs, float) and isinstance(ours, float):
        return math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=1e-12)
    return bool(ours == theirs)
