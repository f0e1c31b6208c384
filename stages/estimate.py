"""How long a training will take, from a few real steps of its network."""

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import models
from stages import optim
from stages.recipe import Recipe

WARM_UP, TIMED = 2, 3


@dataclass(frozen=True)
class Probe:
    """What a training costs on a device.

    Attributes:
        seconds_per_step: for the recipe's whole batch on one worker, loading left out.
        parameters: of the network.
        device: what it was measured on.
    """

    seconds_per_step: float
    parameters: int
    device: str


def probe(recipe: Recipe, classes: int, device: torch.device) -> Probe:
    """Take a few of the optimiser's steps on random images of the recipe's batch and size."""
    side = recipe.augmentation.crop
    model = models.create(recipe.model, num_classes=classes, **recipe.knobs).to(device).train()
    optimiser = optim.build(model, recipe.optimiser)
    optim.set_rates(optimiser, 0, epochs=recipe.epochs)
    images = torch.randn(recipe.batch_size, 3, side, side, device=device)
    labels = torch.randint(classes, (recipe.batch_size,), device=device)
    started = 0.0
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            started = _now(device)
        outputs = model(images)
        heads = outputs if isinstance(outputs, tuple) else (outputs,)
        torch.stack([F.cross_entropy(scores, labels) for scores in heads]).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    seconds = (_now(device) - started) / TIMED
    if device.type == "cuda":
        torch.cuda.empty_cache()  # a worker may be about to use the same GPU
    return Probe(seconds, sum(p.numel() for p in model.parameters()), str(device))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
