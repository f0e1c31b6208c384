"""What a training costs, from a few real steps of its network or from a device's data sheet."""

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from models.describe import layer_table
from stages.devices import peak
from stages.execution import Execution
from stages.tasks.classification.recipe import Classification
from stages.training import optim

WARM_UP, TIMED = 1, 3

# A probe's step on a CPU is no larger than this, in multiply-adds of the forward pass.
_CPU_STEP = 20e9

# The share of a device's peak that convolutional networks reach in training, a rough figure.
REACHED = 0.2


def probe(recipe: Classification, classes: int, device: torch.device, execution: Execution) -> Cost:
    """Take a few of the optimiser's steps on random images of the recipe's size.

    On a CPU, and where a micro-batch is set, with fewer images than the recipe's batch.
    """
    side = recipe.augmentation.crop
    model = models.create(recipe.model, num_classes=classes, **recipe.knobs)
    macs = layer_table(model, side).multiply_adds
    images = min(recipe.batch_size, execution.micro_batch or recipe.batch_size)
    if device.type == "cpu":
        images = min(images, max(2, int(_CPU_STEP / macs)))
    model.to(device).train()
    if execution.channels_last:
        model.to(memory_format=torch.channels_last)
    optimiser = optim.build(model, recipe.optimiser)
    optim.set_rates(optimiser, 0, epochs=recipe.epochs)
    inputs = torch.randn(images, 3, side, side, device=device)
    labels = torch.randint(classes, (images,), device=device)
    kept = _Kept()
    started = 0.0
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            started = _now(device)
        bf16 = execution.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16), kept:
            outputs = model(inputs)
        heads = outputs if isinstance(outputs, tuple) else (outputs,)
        torch.stack([F.cross_entropy(scores, labels) for scores in heads]).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    seconds = (_now(device) - started) / TIMED / images
    if device.type == "cuda":
        torch.cuda.empty_cache()  # a worker may be about to use the same GPU
    return Cost(
        seconds, _parameters(model), macs, kept.bytes(model) // images, str(device), measured=True
    )


def reckon(recipe: Classification, classes: int, device: str) -> Cost:
    """What a training costs on a known device, from its data sheet alone.

    A forward pass is two operations a multiply-add, a backward pass twice that.

    Raises:
        PipelineError: the device is not known.
    """
    flops = REACHED * peak(device)
    images = 2
    side = recipe.augmentation.crop
    kept = _Kept()
    model = models.create_on_meta(recipe.model, classes, **recipe.knobs).train()
    macs = layer_table(model, side).multiply_adds
    with kept:
        model(torch.empty(images, 3, side, side, device="meta"))
    return Cost(
        3 * 2 * macs / flops,
        _parameters(model),
        macs,
        kept.bytes(model) // images,
        device,
        measured=False,
    )


class _Kept(torch.autograd.graph.saved_tensors_hooks):
    """Counts what autograd keeps for the backward pass, each storage once."""

    def __init__(self) -> None:
        self._storages: dict[int, int] = {}
        super().__init__(self._note, lambda kept: kept)

    def __enter__(self) -> None:
        self._storages.clear()
        super().__enter__()

    def _note(self, kept: Tensor) -> Tensor:
        storage = kept.untyped_storage()
        self._storages[storage._cdata] = storage.nbytes()
        return kept

    def bytes(self, model: nn.Module) -> int:
        """Of the last forward pass, without the model's own tensors."""
        own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
        return sum(size for key, size in self._storages.items() if key not in own)


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
