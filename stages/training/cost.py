"""What a training costs, from a few real steps of its network or from a device's data sheet."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.devices import peak
from stages.execution import Execution
from stages.job import Cost
from stages.recipe import Optimiser
from stages.training import optim

WARM_UP, TIMED = 1, 3

# A measured step on a CPU is no larger than this, in multiply-adds of the forward pass.
_CPU_STEP = 20e9

# The share of a device's peak that convolutional networks reach in training, a rough figure.
REACHED = 0.2


@dataclass(frozen=True)
class Workload:
    """A training, as far as it decides the cost.

    Attributes:
        model: the network; on the meta device, for a data sheet.
        optimiser: which of its parameters learn how fast.
        epochs: of the whole training.
        steps: of the whole training.
        batch_size: items per step, over all workers together.
        at_once: items that a worker computes at once; None for all of its part of a batch.
        multiply_adds: of one item's forward pass.
        inputs: makes random inputs of the given number of items on a device.
        loss: what is minimised, from the network's outputs.
    """

    model: nn.Module
    optimiser: Optimiser
    epochs: int
    steps: int
    batch_size: int
    at_once: int | None
    multiply_adds: int
    inputs: Callable[[int, torch.device], Tensor]
    loss: Callable[[Any], Tensor]


def measure(work: Workload, device: torch.device, execution: Execution) -> Cost:
    """Take a few of the optimiser's steps on random inputs.

    On a CPU, and where fewer are computed at once, with fewer items than the whole batch.
    """
    items = min(work.batch_size, work.at_once or work.batch_size)
    if device.type == "cpu":
        items = min(items, max(2, int(_CPU_STEP / work.multiply_adds)))
    model = work.model.to(device).train()
    if execution.channels_last:
        model.to(memory_format=torch.channels_last)
    optimiser = optim.build(model, work.optimiser)
    optim.set_rates(optimiser, 0, epochs=work.epochs)
    inputs = work.inputs(items, device)
    activations = _KeptActivations()
    started = 0.0
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            started = _now(device)
        bf16 = execution.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16), activations:
            outputs = model(inputs)
        work.loss(outputs).backward()
        optimiser.step()
        optimiser.zero_grad()
    seconds = (_now(device) - started) / TIMED / items
    if device.type == "cuda":
        torch.cuda.empty_cache()  # a worker may be about to use the same GPU
    return _cost(work, seconds, activations.bytes(model) // items, str(device), measured=True)


def from_data_sheet(work: Workload, device: str) -> Cost:
    """What a training costs on a known device, from its data sheet alone.

    A forward pass is two operations per multiply-add, a backward pass twice that.

    Raises:
        PipelineError: the device is not known.
    """
    seconds = 3 * 2 * work.multiply_adds / (REACHED * peak(device))
    items = 2
    activations = _KeptActivations()
    model = work.model.train()
    with activations:
        model(work.inputs(items, torch.device("meta")))
    return _cost(work, seconds, activations.bytes(model) // items, device, measured=False)


def _cost(
    work: Workload, seconds: float, activation_bytes: int, device: str, *, measured: bool
) -> Cost:
    return Cost(
        steps=work.steps,
        batch_size=work.batch_size,
        seconds=seconds,
        parameters=sum(p.numel() for p in work.model.parameters()),
        multiply_adds=work.multiply_adds,
        activation_bytes=activation_bytes,
        device=device,
        measured=measured,
    )


class _KeptActivations(torch.autograd.graph.saved_tensors_hooks):
    """Counts what autograd keeps for the backward pass, each storage once."""

    def __init__(self) -> None:
        self._storages: dict[int, int] = {}
        super().__init__(self._note, lambda tensor: tensor)

    def __enter__(self) -> None:
        self._storages.clear()
        super().__enter__()

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self._storages[storage._cdata] = storage.nbytes()
        return tensor

    def bytes(self, model: nn.Module) -> int:
        """What the last forward pass kept, without the model's own tensors."""
        models_own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
        return sum(size for key, size in self._storages.items() if key not in models_own)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
