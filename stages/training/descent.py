"""One network going down one loss: its rates, micro-batches, workers and running average."""

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from models.weights import load_network
from stages.execution import Execution
from stages.job import TrainingStopped
from stages.parallel import Part
from stages.recipe import Optimiser
from stages.training import optim

B = TypeVar("B", bound="Sliceable")
# Inputs to outputs, computed as the execution says.
Forward = Callable[[Tensor], Any]


class Sliceable(Protocol):
    """One worker's part of a global batch, which can be cut into pieces."""

    @property
    def size(self) -> int:
        """Items in this part."""

    @property
    def global_size(self) -> int:
        """Items in the global batch."""

    def piece(self, start: int, count: int) -> Self:
        """At most ``count`` of the items, from the one at ``start`` on."""

    def stand_in(self) -> Self:
        """One item of whatever content, for a part that has none."""

    def to(self, device: torch.device) -> Self:
        """The same items on a device."""


class Descent:
    """One network going down one loss. A learner whose step has two losses holds two of them.

    Args:
        model: the network, where its device is.
        recipe: which of its parameters learn how fast.
        epochs: of the whole training.
        part: this worker's place among all; all of them construct the same.
        execution: how it is computed.
        at_once: items that this worker computes at once; None for what the execution says.
        average_from: from this epoch on the mean of the weights after each step is kept.

    Attributes:
        model: the network itself, in the memory format of the execution.
        optimiser: its optimiser.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Optimiser,
        *,
        epochs: int,
        part: Part,
        execution: Execution,
        at_once: int | None = None,
        average_from: float | None = None,
    ) -> None:
        self.model = model
        self._recipe, self._epochs = recipe, epochs
        self._part, self._execution, self._average_from = part, execution, average_from
        self._at_once = at_once or execution.micro_batch
        self._device = next(model.parameters()).device
        if execution.channels_last:
            model.to(memory_format=torch.channels_last)
        self.optimiser = optim.build(model, recipe)
        self._averaged = None if average_from is None else AveragedModel(model, use_buffers=False)
        self._plateau = optim.PlateauState()
        self._network: nn.Module = model
        if part.world > 1:
            on_gpu = self._device.type == "cuda"
            self._network = DistributedDataParallel(
                model, device_ids=[self._device] if on_gpu else None
            )
        if execution.compile:
            self._network = torch.compile(self._network)  # type: ignore[assignment]

    @property
    def tested(self) -> nn.Module:
        """The network whose weights count: the averaged one once averaging has begun."""
        if self._averaged is not None and int(self._averaged.n_averaged) > 0:
            averaged: nn.Module = self._averaged.module
            return averaged
        return self.model

    def begin_epoch(self) -> None:
        """Set the network to training, which a test may have ended."""
        self._network.train()

    def step(
        self, batch: B, loss: Callable[[Forward, B], tuple[Tensor, Tensor]], epoch: float
    ) -> tuple[Tensor, float]:
        """One step of the optimiser.

        Args:
            batch: this worker's part of the global batch.
            loss: of the network and a piece of the batch: what is minimised, summed over the piece's
                items; and further sums, float64, which are added up over the pieces.
            epoch: reached so far, fractions included.

        Returns:
            The further sums of this worker's part, and the learning rate.
        """
        rate = optim.set_rates(
            self.optimiser, epoch, epochs=self._epochs, drops=self._plateau.drops
        )
        # Another descent of the same step may have gone through this network.
        self.optimiser.zero_grad(set_to_none=True)
        batch = batch.to(self._device)
        if batch.size == 0:
            # The others wait for this worker's gradients, and few layers know what to do with nothing.
            value, sums = loss(self._forward, batch.stand_in())
            (0 * value).backward()
            sums = torch.zeros_like(sums)
        else:
            sums = self._backward(batch, loss)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self._averaged is not None and epoch >= (self._average_from or 0):
            self._averaged.update_parameters(self.model)
        return sums, rate

    def _backward(self, batch: B, loss: Callable[[Forward, B], tuple[Tensor, Tensor]]) -> Tensor:
        """Sum up the gradients of a batch, micro-batch by micro-batch; returns the further sums."""
        size = self._at_once or batch.size
        total: Tensor | None = None
        for start in range(0, batch.size, size):
            with self._gradients_stay_here(start + size < batch.size):
                value, sums = loss(self._forward, batch.piece(start, size))
                # The workers' gradients are averaged; this makes that the mean over the global batch,
                # also when the workers' parts differ in size.
                (value * (self._part.world / batch.global_size)).backward()
            total = sums if total is None else total + sums
        assert total is not None
        return total

    def _forward(self, inputs: Tensor) -> Any:
        """What the network makes of inputs, computed as the execution says."""
        if self._execution.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        bf16 = self._execution.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bf16):
            return self._network(inputs)

    def _gradients_stay_here(self, stay: bool) -> contextlib.AbstractContextManager[None]:
        """While micro-batches are summed, the workers need not hear of each one."""
        if stay and self._part.world > 1:
            return self._network.no_sync()  # type: ignore[operator]
        return contextlib.nullcontext()

    def validated(self, error: float) -> None:
        """Take note of an epoch's validation error in percent, which a plateau's rate follows."""
        if (schedule := optim.plateau_of(self._recipe)) is not None:
            self._plateau.update(error, schedule)

    def state(self) -> dict[str, Any]:
        """Everything needed to resume."""
        return {
            "plateau": asdict(self._plateau),
            "averaged": self._averaged.state_dict() if self._averaged is not None else {},
            "model": self.model.state_dict(),
            "optimiser": [
                [self.optimiser.state[p] for p in group["params"]]
                for group in self.optimiser.param_groups
            ],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state` returned."""
        self._plateau = optim.PlateauState(**state["plateau"])
        self.model.load_state_dict(state["model"])
        if self._averaged is not None:
            self._averaged.load_state_dict(state["averaged"])
        for group, states in zip(self.optimiser.param_groups, state["optimiser"], strict=True):
            for parameter, values in zip(group["params"], states, strict=True):
                self.optimiser.state[parameter] = {k: v.to(self._device) for k, v in values.items()}


def take_weights(model: nn.Module, path: Path, pattern: str) -> None:
    """Copy the parameters and buffers whose whole name matches from a file of trained weights.

    Raises:
        TrainingStopped: the file cannot be loaded, or what matches does not fit the network.
    """
    try:
        source, _ = load_network(path)
    except (OSError, ValueError) as error:
        raise TrainingStopped(
            f"the weights to start from cannot be loaded: {error}",
            "train the earlier recipe again with --force train",
        ) from error
    current_state = model.state_dict()
    taken = {k: v for k, v in source.state_dict().items() if re.fullmatch(pattern, k)}
    misfits = [
        k for k, v in taken.items() if k not in current_state or current_state[k].shape != v.shape
    ]
    if misfits or not taken:
        raise TrainingStopped(
            f"these of {path} do not fit the network that starts from it: "
            f"{', '.join(misfits) or 'nothing matches ' + pattern}",
            "correct the recipe's start",
        )
    model.load_state_dict(taken, strict=False)
