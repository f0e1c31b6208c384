"""From shards to batches, in an order that is a function of (seed, epoch) alone.

Global batch k of an epoch holds the same images at any number of workers; a worker takes its slice.
So a run that stopped at any step goes on with the very next batch, also at another number of workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from stages.augment import Draws, epoch_order, training_crop
from stages.dataset import Samples
from stages.images import decode_square
from stages.recipe import Augmentation

# A data set that is this small when decoded (bytes) is decoded once and kept.
KEEP_DECODED = 1 << 30


@dataclass(frozen=True)
class Part:
    """A worker's place among all: it takes slice ``rank`` of ``world`` of every batch."""

    rank: int = 0
    world: int = 1

    def of(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """This worker's part; the parts' sizes differ by one at most."""
        return np.array_split(items, self.world)[self.rank]


class Squares:
    """The centre squares of a split, (3, side, side) uint8; decoded once where they fit in memory."""

    def __init__(self, samples: Samples, side: int) -> None:
        self._samples = samples
        self._side = side
        self.labels = torch.from_numpy(samples.labels)
        self.kept = len(samples) * 3 * side * side <= KEEP_DECODED
        self._cache: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index in self._cache:
            return self._cache[index]
        square = decode_square(self._samples.read(index), self._side, self._samples.keys[index])
        if self.kept:
            self._cache[index] = square
        return square


ALONE = Part()


@dataclass(frozen=True)
class Batch:
    """One worker's part of a global batch.

    Attributes:
        images: uint8, (n, 3, side, side): crops in training, whole squares in a test.
        labels: int64, (n,).
        indices: int64, (n,): places in the split's manifest.
        colour: float32, (n, 3): factors of the colour noise; zeros in a test.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    colour: Tensor


def training_batches(
    squares: Squares,
    recipe: Augmentation,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    part: Part = ALONE,
    processes: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch from ``first_step`` on: floor(images / batch_size) of them in all.

    Args:
        squares: the training split.
        recipe: how crops are made.
        batch_size: images in a global batch.
        seed: of the run.
        epoch: from 0.
        first_step: where to go on, counted within the epoch.
        part: which slice of each global batch.
        processes: loader processes; 0 loads in this one, as does a split that is kept decoded.
    """
    order = epoch_order(seed, epoch, len(squares))
    steps = len(squares) // batch_size
    batches = [
        part.of(order[k * batch_size : (k + 1) * batch_size]) for k in range(first_step, steps)
    ]
    draws = Draws.of_epoch(seed, epoch, len(squares))
    return _load(_Batches(squares, batches, recipe, draws), processes)


def evaluation_batches(
    squares: Squares, *, batch_size: int, part: Part = ALONE, processes: int = 0
) -> Iterator[Batch]:
    """This worker's part of a split as whole squares, each image exactly once over all workers."""
    mine = part.of(np.arange(len(squares)))
    batches = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    return _load(_Batches(squares, batches, None, None), processes)


class _Batches(TorchDataset[Batch]):
    """Makes batch k when asked for it, in whichever process asks."""

    def __init__(
        self,
        squares: Squares,
        batches: list[NDArray[np.int64]],
        recipe: Augmentation | None,
        draws: Draws | None,
    ) -> None:
        self._squares = squares
        self._batches = batches
        self._recipe = recipe
        self._draws = draws

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, k: int) -> Batch:
        indices = self._batches[k]
        colour = np.zeros((len(indices), 3), np.float32)
        if self._recipe is None or self._draws is None:
            images = np.stack([self._squares[i] for i in indices])
        else:
            place, mirror = self._draws.place, self._draws.mirror
            images = np.stack(
                [
                    training_crop(self._squares[i], self._recipe, place[i], bool(mirror[i]))
                    for i in indices
                ]
            )
            colour = self._draws.colour[indices]
        return Batch(
            torch.from_numpy(images),
            self._squares.labels[indices],
            torch.from_numpy(indices),
            torch.from_numpy(colour),
        )


def _load(batches: _Batches, processes: int) -> Iterator[Batch]:
    if batches._squares.kept:
        processes = 0  # another process would fill a cache of its own and lose it
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            num_workers=processes,
            prefetch_factor=4 if processes else None,
            pin_memory=torch.cuda.is_available(),
        )
    )
