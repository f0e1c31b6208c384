"""The order in which an epoch visits the training images: a function of (seed, epoch) alone.

It knows nothing of workers, so neither does a run. ``indexed`` permutes all images; ``streaming`` visits
shards whole, for data that is cheap to read only in long stretches.
"""

import numpy as np
from numpy.typing import NDArray

# The stream of random numbers of one seed that orders are drawn from.
_ORDER = 0


def indexed(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    """A uniformly random permutation of ``images`` images."""
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(images)


def streaming(seed: int, epoch: int, shards: NDArray[np.integer], buffer: int) -> NDArray[np.int64]:
    """Whole shards in random order, mixed by a shuffle buffer of bounded size.

    A reader that goes through the shards once, in their drawn order, never holds more than
    ``buffer`` images: what it has read at place p is handed out before it reads place p + buffer.

    Args:
        seed: of the run.
        epoch: from 0.
        shards: (images,), which shard each image lies in.
        buffer: images; at most 1 keeps each shard's own order.

    Returns:
        (images,), a permutation.
    """
    generator = np.random.default_rng([seed, epoch, _ORDER])
    names, shard_of = np.unique(shards, return_inverse=True)
    turn = generator.permutation(len(names))
    sequence = np.argsort(turn[shard_of], kind="stable")
    places = np.arange(len(shards))
    return sequence[np.argsort(places + generator.uniform(0, buffer, len(shards)), kind="stable")]
