"""Fetches a shard of an object store while the one before it is being read."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from stages.load.samples import Samples


class ReadAhead:
    """Knows which shards come next, and has them fetched where there is room for them.

    Args:
        samples: of a split.
        batches: the samples of each batch, in the order in which the batches are made.
    """

    def __init__(self, samples: Samples, batches: Sequence[NDArray[np.int64]]) -> None:
        self._samples = samples
        batch = np.repeat(np.arange(len(batches)), [len(visits) for visits in batches])
        shards = samples.shard_of[np.concatenate(batches)]
        names, first = np.unique(shards, return_index=True)
        _, last = np.unique(shards[::-1], return_index=True)
        order = np.argsort(first)
        self._shards = names[order]
        self._first, last = batch[first[order]], batch[::-1][last[order]]
        in_use = ((self._first <= self._first[:, None]) & (self._first[:, None] <= last)).sum(1)
        coming = np.bincount(self._first)
        # Those of a batch, those of the next that needs others, and one that another process still reads.
        self._room = samples.room_for(int(in_use.max() + coming.max()) + 1)
        self._asked = -1
        self._pool: ThreadPoolExecutor | None = None

    def at(self, batch: int) -> None:
        """Say that a batch is about to be made. Returns at once; a failure is left to the reader."""
        start = int(np.searchsorted(self._first, batch, side="right"))
        if not self._room or start == len(self._shards) or start == self._asked:
            return
        self._asked = start
        if self._pool is None:  # in the process that makes batches, not in the one that forks it
            self._pool = ThreadPoolExecutor(1)
        end = int(np.searchsorted(self._first, self._first[start], side="right"))
        for shard in self._shards[start:end]:
            self._pool.submit(self._samples.fetch, int(shard))
