"""Memory in which loader processes hand over their batches, used again and again.

A DataLoader takes new shared memory for every batch, and the system clears and maps its pages one by one:
for pictures of 224 pixels that takes as long as cutting them out.
"""

import itertools
import weakref
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

_open: "weakref.WeakValueDictionary[int, Buffers]" = weakref.WeakValueDictionary()
_numbers = itertools.count()


class Buffers:
    """Some buffers for each of some loader processes, made before these are forked.

    A buffer belongs to one process, which alone marks it as taken; the process that gets the batch alone
    marks it as free, when nothing refers to the batch any more. So no lock is needed.

    Args:
        processes: how many.
        each: buffers of each of them.
        size: bytes of a buffer.
    """

    def __init__(self, processes: int, each: int, size: int) -> None:
        self._memory = torch.empty(processes * each, size, dtype=torch.uint8).share_memory_()
        self._taken = torch.zeros(processes * each, dtype=torch.bool).share_memory_().numpy()
        self._each = each
        self._number = next(_numbers)
        _open[self._number] = self

    def take(self, shape: tuple[int, ...]) -> "tuple[Handed, Tensor] | None":
        """A uint8 tensor in a buffer of this loader process, and what to send; None where none is free."""
        worker = get_worker_info()
        assert worker is not None
        own = range(worker.id * self._each, (worker.id + 1) * self._each)
        index = next((index for index in own if not self._taken[index]), None)
        if index is None:
            return None
        self._taken[index] = True
        handed = Handed(self._number, index, shape)
        return handed, self.view(handed)

    def view(self, handed: "Handed") -> Tensor:
        """The part of a buffer that is handed over."""
        return self._memory[handed.index, : prod(handed.shape)].view(handed.shape)

    def free(self, index: int) -> None:
        """Mark a buffer as free."""
        self._taken[index] = False


@dataclass(frozen=True)
class Handed:
    """Where a tensor lies; what a loader process sends instead of it."""

    buffers: int
    index: int
    shape: tuple[int, ...]

    def tensor(self) -> Tensor:
        """The tensor. Its buffer is free when the last view of it is gone."""
        buffers = _open[self.buffers]
        array = buffers.view(self).numpy()
        weakref.finalize(array, buffers.free, self.index)
        return torch.from_numpy(array)

    def pin_memory(self, device: str | None = None) -> Tensor:
        """A copy in pinned memory: what DataLoader asks for where there is a GPU."""
        return self.tensor().pin_memory()
