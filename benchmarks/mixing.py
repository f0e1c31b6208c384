"""How well the orders of an epoch mix the shards of a data set of ImageNet's size.

    python -m benchmarks.mixing [--images 1281167] [--per-shard 2370] [--batch 256]

Nothing is read: an order is a function of the seed, the epoch and the shards' sizes.
"""

from dataclasses import dataclass

import numpy as np
import tyro
from numpy.typing import NDArray

from stages.load import order


@dataclass(frozen=True)
class Options:
    """Show how well the orders of an epoch mix the shards."""

    images: int = 1_281_167
    """Images in the training split; by default ILSVRC-2012's."""
    per_shard: int = 2_370
    """Images per shard; by default those in 256 MiB of ILSVRC-2012."""
    batch: int = 256
    """Images per batch."""
    buffers: tuple[int, ...] = (0, 2_500, 10_000, 50_000)
    """Sizes of the streaming order's buffer, in images."""


def mixing(visits: NDArray[np.integer], groups: NDArray[np.integer], batch_size: int) -> float:
    """How many groups (shards, classes) a batch mixes, in effect.

    The inverse of the chance that two images of one batch are of the same group. A uniformly random
    order gives about the number of groups; an order that mixes nothing gives 1.

    Args:
        visits: (images,), a permutation.
        groups: (images,), of each image.
        batch_size: at least 2 images.
    """
    batches = groups[visits[: len(visits) // batch_size * batch_size]].reshape(-1, batch_size)
    same = sum(
        int((counts * (counts - 1)).sum())
        for counts in (np.unique(batch, return_counts=True)[1] for batch in batches)
    )
    return batches.size * (batch_size - 1) / same if same else float("inf")


def main() -> None:
    options = tyro.cli(Options, description=Options.__doc__)
    shards = np.arange(options.images) // options.per_shard
    orders = {
        f"streaming, buffer {buffer:,}": order.streaming(0, 0, shards, buffer)
        for buffer in options.buffers
    }
    orders["indexed"] = order.indexed(0, 0, options.images)
    print(f"{shards[-1] + 1:,} shards, batches of {options.batch}, seed 0, epoch 0")
    print("| order | shards per batch, median | mixing (see `mixing`) |\n| --- | --- | --- |")
    whole = options.images // options.batch * options.batch
    for name, visits in orders.items():
        batches = shards[visits[:whole]].reshape(-1, options.batch)
        distinct = np.median([len(np.unique(batch)) for batch in batches])
        print(f"| {name} | {distinct:.0f} | {mixing(visits, shards, options.batch):.2f} |")


if __name__ == "__main__":
    main()
