"""A classifier's batches: crops with their labels to train on, views with their labels to test on."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

from stages.augmentation import Augmentation
from stages.load.augment.crops import place_in_padded, training_crop
from stages.load.augment.draws import Draws
from stages.load.buffers import Buffers, Handed
from stages.load.images import Images
from stages.load.loader import PREFETCHED, load, useful_processes, visits
from stages.load.read_ahead import ReadAhead
from stages.parallel import ALONE, Part
from stages.tasks.classification.protocols import Views


class Batch(NamedTuple):
    """One worker's part of a global batch.

    Attributes:
        images: uint8, (n, 3, crop, crop).
        labels: int64, (n,).
        indices: int64, (n,): places in the split's manifest.
        places: int64, (n, 3): of `place_in_padded`.
        colour: float32, (n, 3): factors of the colour noise.
        distortion: float32, (n, 6): of `Draw.distortion`; zeros where the recipe has none.
        global_size: images in the global batch.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    places: Tensor
    colour: Tensor
    distortion: Tensor
    global_size: int

    @property
    def size(self) -> int:
        """Images in this part."""
        return len(self.labels)

    def piece(self, start: int, count: int) -> "Batch":
        """At most ``count`` of the images, from the one at ``start`` on."""
        piece = slice(start, start + count)
        return self._replace(
            images=self.images[piece],
            labels=self.labels[piece],
            indices=self.indices[piece],
            places=self.places[piece],
            colour=self.colour[piece],
            distortion=self.distortion[piece],
        )

    def stand_in(self) -> "Batch":
        """One black image of the first class, for a part that has none."""
        return Batch(
            self.images.new_zeros(1, *self.images.shape[1:]),
            self.labels.new_zeros(1),
            self.indices.new_zeros(1),
            self.places.new_zeros(1, 3),
            self.colour.new_zeros(1, 3),
            self.distortion.new_zeros(1, 6),
            self.global_size,
        )

    def to(self, device: torch.device) -> "Batch":
        """Start the copy to a device."""
        return self._replace(
            images=self.images.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            places=self.places.to(device, non_blocking=True),
            colour=self.colour.to(device, non_blocking=True),
            distortion=self.distortion.to(device, non_blocking=True),
        )


class ViewBatch(NamedTuple):
    """One worker's images of a test, as a protocol shows them.

    Attributes:
        views: uint8, (n, views, 3, height, width), one tensor for each that `Views` gives of an image.
        labels: int64, (n,).
        indices: int64, (n,): places in the split's manifest.
    """

    views: list[Tensor]
    labels: Tensor
    indices: Tensor


def training_batches(
    images: Images,
    recipe: Augmentation,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    drop_last: bool = True,
    shuffle_buffer: int | None = None,
    part: Part = ALONE,
    processes: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch from ``first_step`` on, of `steps_per_epoch` in all.

    Args:
        images: of the training split.
        recipe: how crops are made.
        batch_size: images in a global batch.
        seed: of the run.
        epoch: from 0.
        first_step: where to resume, counted within the epoch.
        drop_last: see `Classification`.
        shuffle_buffer: see `Classification`.
        part: which slice of each global batch.
        processes: loader processes; 0 loads in this one, as does a split that is kept decoded.

    Raises:
        PipelineError: the images can be read in long stretches only, and the order has none.
    """
    batches = visits(
        images,
        batch_size=batch_size,
        seed=seed,
        epoch=epoch,
        first_step=first_step,
        drop_last=drop_last,
        shuffle_buffer=shuffle_buffer,
    )
    draws = Draws(seed, epoch, len(images))
    buffers = None
    if processes := useful_processes(images, processes):
        largest = -(-batch_size // part.world)
        # One more than wait to be taken and one in use.
        buffers = Buffers(processes, PREFETCHED + 2, largest * 3 * recipe.crop**2)
    make = _TrainingBatches(images, batches, part, recipe, draws, buffers)
    return map(_Sent.received, load(make, len(batches), images, processes))


class _Sent(NamedTuple):
    """A batch on its way out of a loader process.

    Only memory that is used again comes as it is: each tensor costs a file of its own, an array nothing.
    """

    images: Tensor | Handed  # (n, crop, crop, 3)
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    places: NDArray[np.int64]
    colour: NDArray[np.float32]
    distortion: NDArray[np.float32]
    global_size: int

    def received(self) -> Batch:
        images = self.images.tensor() if isinstance(self.images, Handed) else self.images
        return Batch(
            images.movedim(-1, -3),
            torch.from_numpy(self.labels),
            torch.from_numpy(self.indices),
            torch.from_numpy(self.places),
            torch.from_numpy(self.colour),
            torch.from_numpy(self.distortion),
            self.global_size,
        )


class _TrainingBatches:
    """Makes batch k of an epoch when asked for it."""

    def __init__(
        self,
        images: Images,
        batches: Sequence[NDArray[np.int64]],
        part: Part,
        recipe: Augmentation,
        draws: Draws,
        buffers: Buffers | None,
    ) -> None:
        self._images, self._batches = images, batches
        self._part, self._recipe, self._draws, self._buffers = part, recipe, draws, buffers
        remote = images.samples.remote and not images.kept
        self._ahead = ReadAhead(images.samples, batches) if remote and batches else None

    def __call__(self, k: int) -> _Sent:
        if self._ahead is not None:
            self._ahead.at(k)
        indices = self._part.slice_of(self._batches[k])
        draws = [self._draws[i] for i in indices]
        # Pixels keep their channels side by side: copying them is then copying rows.
        shape = (len(indices), self._recipe.crop, self._recipe.crop, 3)
        held = self._buffers.take(shape) if self._buffers else None
        handed, crops = held or (
            None,
            torch.empty(shape, dtype=torch.uint8, device=self._images.device),
        )
        images = self._images.take(indices.tolist())
        for into, image, draw in zip(crops, images, draws, strict=True):
            into.copy_(training_crop(image, self._recipe, draw).movedim(0, -1))
        amount = self._recipe.distortion
        places = [place_in_padded(self._recipe, draw) for draw in draws]
        distortions = [draw.distortion(amount) for draw in draws] if amount else []
        return _Sent(
            handed or crops,
            self._images.samples.labels[indices],
            indices,
            np.array(places, np.int64).reshape(-1, 3),
            np.array([d.colour for d in draws], np.float32).reshape(-1, 3),
            np.array(distortions, np.float32).reshape(-1, 6),
            len(self._batches[k]),
        )


def evaluation_batches(
    images: Images, views: Views, *, at_once: int, part: Part = ALONE, processes: int = 0
) -> Iterator[ViewBatch]:
    """This worker's part of a split, each image exactly once over all workers.

    Args:
        images: of the split, as `Views.images` gives them.
        views: what is shown of each.
        at_once: views in a batch, mirror images included; at least one image's.
        part: which slice of the split.
        processes: loader processes, as in `training_batches`.
    """
    mine = part.slice_of(np.arange(len(images)))
    size = max(1, at_once // views.count) if views.same_size else 1
    batches = [mine[start : start + size] for start in range(0, len(mine), size)]
    return load(_ViewBatches(images, batches, views), len(batches), images, processes)


class _ViewBatches:
    """Makes batch k of a test when asked for it."""

    def __init__(self, images: Images, batches: Sequence[NDArray[np.int64]], views: Views) -> None:
        self._images, self._batches, self._views = images, batches, views

    def __call__(self, k: int) -> ViewBatch:
        indices = self._batches[k]
        shown = [list(self._views(self._images[i])) for i in indices]
        return ViewBatch(
            [_stack(same) for same in zip(*shown, strict=True)],
            torch.from_numpy(self._images.samples.labels[indices]),
            torch.from_numpy(indices),
        )


def _stack(images: Sequence[Tensor]) -> Tensor:
    """Stack along a new first axis, in a loader process straight into memory shared with the trainer.

    Pixels keep their channels side by side: copying them is then copying rows.
    """
    stacked: Tensor = default_collate([image.movedim(-3, -1) for image in images])
    return stacked.movedim(-1, -3)
