"""How well the orders of an epoch mix the shards of a data set of ImageNet's size.

    python -m benchmarks.mixing [--images 1281167] [--per-shard 2370] [--batch 256]

Nothing is read: an order is a function of the seed, the epoch and the shards' sizes.
"""

from dataclasses import dataclass

import numpy as np
import tyro

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


def main() -> None:
    options = tyro.cli(Options, description=Options.__doc__)
    shards = np.arange(options.images) // options.per_shard
    orders = {
        f"streaming, buffer {buffer:,}": order.streaming(0, 0, shards, buffer)
        for buffer in options.buffers
    }
    orders["indexed"] = order.indexed(0, 0, options.images)
    print(f"{shards[-1] + 1:,} shards, batches of {options.batch}, seed 0, epoch 0")
    print(
        "| order | shards per batch, median | mixing (see stages.load.order.mixing) |\n| --- | --- | --- |"
    )
    whole = options.images // options.batch * options.batch
    for name, visits in orders.items():
        batches = shards[visits[:whole]].reshape(-1, options.batch)
        distinct = np.median([len(np.unique(batch)) for batch in batches])
        print(f"| {name} | {distinct:.0f} | {order.mixing(visits, shards, options.batch):.2f} |")


if __name__ == "__main__":
    main()
