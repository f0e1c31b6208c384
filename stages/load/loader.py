"""From the order of an epoch to batches: which images come next, and who makes a batch of them.

The order is a function of (seed, epoch) alone, and global batch k of an epoch holds the same images at any
number of workers; a worker takes its slice. So a run that stopped at any step resumes with the very next
batch, also at another number of workers. What a batch holds is the task's: it writes one function from k to
its batch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from stages.errors import PipelineError
from stages.load import order
from stages.load.images import Images
from stages.parallel import in_threads

T = TypeVar("T")

# Batches that each loader process makes ahead.
PREFETCHED = 4


def steps_per_epoch(images: int, batch_size: int, drop_last: bool = True) -> int:
    """Batches in an epoch: all of them full, or the last one smaller where that is needed."""
    return images // batch_size if drop_last else -(-images // batch_size)


def visits(
    images: Images,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    drop_last: bool = True,
    shuffle_buffer: int | None = None,
) -> Sequence[NDArray[np.int64]]:
    """The images of each global batch of an epoch, from ``first_step`` on.

    Args:
        images: of the training split.
        batch_size: images in a global batch.
        seed: of the run.
        epoch: from 0.
        first_step: where to resume, counted within the epoch.
        drop_last: whether the images that do not fill a batch are left out.
        shuffle_buffer: None for a uniformly random order; else the bound of `order.streaming`.

    Raises:
        PipelineError: the images can be read in long stretches only, and the order has none.
    """
    if shuffle_buffer is None and not (images.samples.in_any_order or images.kept):
        raise PipelineError(
            "only part of the data set's shards fit on the disk, and a uniformly random order would fetch a "
            "whole shard for every image",
            "free enough space for all of them, or set the recipe's shuffle_buffer",
        )
    indices = (
        order.indexed(seed, epoch, len(images))
        if shuffle_buffer is None
        else order.streaming(seed, epoch, images.samples.shard_of, shuffle_buffer)
    )
    steps = steps_per_epoch(len(images), batch_size, drop_last)
    return [indices[k * batch_size : (k + 1) * batch_size] for k in range(first_step, steps)]


def useful_processes(images: Images, processes: int) -> int:
    """How many of the given loader processes `load` uses."""
    # What is in a GPU's memory cannot leave the process that put it there; and another process would
    # fill a cache of its own and lose it.
    return 0 if images.device is not None or images.kept else processes


def load(make: Callable[[int], T], count: int, images: Images, processes: int = 0) -> Iterator[T]:
    """What ``make`` returns for 0 to ``count`` - 1, in this order, made ahead of time where that helps.

    Args:
        make: makes batch k of the images, in whichever process or thread asks for it.
        count: how many batches there are.
        images: what they are made of.
        processes: loader processes; 0 loads in this one, as does a split that is kept decoded.
    """
    if images.device is not None:
        return in_threads(1, make, range(count), PREFETCHED)
    processes = useful_processes(images, processes)
    return iter(
        DataLoader(
            _Batches(make, count),
            batch_size=None,
            num_workers=processes,
            prefetch_factor=PREFETCHED if processes else None,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
        )
    )


class _Batches(TorchDataset[T], Generic[T]):
    """What PyTorch's loader asks for batch k."""

    def __init__(self, make: Callable[[int], T], count: int) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, k: int) -> T:
        return self._make(k)


def _as_it_is(batch: T) -> T:
    return batch
