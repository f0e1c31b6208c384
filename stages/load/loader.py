"""From shards to batches, in an order that is a function of (seed, epoch) alone.

Global batch k of an epoch holds the same images at any number of workers; a worker takes its slice.
So a run that stopped at any step goes on with the very next batch, also at another number of workers.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from stages.augmentation import AreaCrop, Augmentation, ScaleJitter
from stages.errors import PipelineError
from stages.load import order
from stages.load.augment.crops import training_crop
from stages.load.augment.draws import Draws
from stages.load.buffers import Buffers, Handed
from stages.load.decode import centre_square, decode, decode_jpeg, decode_on
from stages.load.read_ahead import ReadAhead
from stages.load.samples import Samples
from stages.parallel import ALONE, Part, in_threads
from stages.tasks.classification.protocols import Views

T = TypeVar("T")

# A data set that is this small when decoded (bytes) is decoded once and kept.
KEEP_DECODED = 1 << 30
# So many images, evenly spread, are decoded to judge the size of all.
_PROBED = 16
# Batches that each loader process makes ahead.
_PREFETCHED = 4


class Images:
    """The decoded images of a split, uint8 (3, height, width); decoded once where they fit in memory.

    Args:
        samples: the encoded images.
        square: side of the centre squares to reduce them to; None for whole images.
        short_side: the longest short side at which whole images are needed, where that is known;
            larger ones may be decoded at a fraction of their size.
        device: decode, keep and crop them there; by default on the CPU.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        square: int | None = None,
        short_side: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.samples, self.device = samples, device
        self._square = square
        self._at_least = square or short_side
        # Those that are decoded whole, which the manifest tells without a look at their headers.
        self._whole = samples.plain_jpegs & (
            self._at_least is None or samples.short_sides < 2 * self._at_least
        )
        self._cache: dict[int, Tensor] = {}

    @classmethod
    def to_train(
        cls, samples: Samples, recipe: Augmentation, device: torch.device | None = None
    ) -> "Images":
        """What `training_crop` takes crops from."""
        match recipe.sampling:
            case ScaleJitter(high=high):
                return cls(samples, short_side=high, device=device)
            case AreaCrop():
                return cls(samples, device=device)
        return cls(samples, square=recipe.resize, device=device)

    @classmethod
    def to_view(cls, samples: Samples, views: Views) -> "Images":
        """What `Views` are taken from."""
        return cls(samples, square=views.square, short_side=max(views.scales, default=None))

    @functools.cached_property
    def kept(self) -> bool:
        """Whether every image stays in memory once it was decoded."""
        probed = range(0, len(self), max(1, len(self) // _PROBED))
        decoded = sum(image.numel() for image in self._decoded(probed)) / max(1, len(probed))
        return decoded * len(self) <= KEEP_DECODED

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Tensor:
        return next(self.take([index]))

    def take(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Some of the images, none twice, one after another; a device decodes them all at once."""
        decoded = self._decoded([i for i in indices if i not in self._cache])
        for index in indices:
            if index in self._cache:
                yield self._cache[index]
                continue
            image = next(decoded)
            if self.kept:
                self._cache[index] = image
            yield image

    def _decoded(self, indices: Sequence[int]) -> Iterator[Tensor]:
        images: Iterator[Tensor] = map(self._decode, indices)
        if self.device is not None:
            encoded = [(self.samples.read(i), self.samples.keys[i]) for i in indices]
            plain = self.samples.plain_jpegs[list(indices)].tolist()
            images = iter(decode_on(self.device, encoded, plain))
        if self._square is None:
            return images
        return map(functools.partial(centre_square, side=self._square), images)

    def _decode(self, index: int) -> Tensor:
        data, name = self.samples.read(index), self.samples.keys[index]
        return decode_jpeg(data, name) if self._whole[index] else decode(data, name, self._at_least)


class Batch(NamedTuple):
    """One worker's part of a global batch.

    Attributes:
        images: uint8, (n, 3, crop, crop).
        labels: int64, (n,).
        indices: int64, (n,): places in the split's manifest.
        colour: float32, (n, 3): factors of the colour noise.
        distortion: float32, (n, 6): of `Draw.distortion`; zeros where the recipe has none.
        of: images in the global batch.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    colour: Tensor
    distortion: Tensor
    of: int

    def images_from(self, start: int, count: int) -> "Batch":
        """At most ``count`` of the images, from the one at ``start`` on."""
        part = slice(start, start + count)
        return self._replace(
            images=self.images[part],
            labels=self.labels[part],
            indices=self.indices[part],
            colour=self.colour[part],
            distortion=self.distortion[part],
        )

    def stand_in(self) -> "Batch":
        """One black image of the first class, for a part that has none."""
        return Batch(
            self.images.new_zeros(1, *self.images.shape[1:]),
            self.labels.new_zeros(1),
            self.indices.new_zeros(1),
            self.colour.new_zeros(1, 3),
            self.distortion.new_zeros(1, 6),
            self.of,
        )

    def to(self, device: torch.device) -> "Batch":
        """Start the copy to a device."""
        return self._replace(
            images=self.images.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
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


def steps_per_epoch(images: int, batch_size: int, drop_last: bool = True) -> int:
    """Batches in an epoch: all of them full, or the last one smaller where that is needed."""
    return images // batch_size if drop_last else -(-images // batch_size)


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
        first_step: where to go on, counted within the epoch.
        drop_last: see `Recipe`.
        shuffle_buffer: see `Recipe`.
        part: which slice of each global batch.
        processes: loader processes; 0 loads in this one, as does a split that is kept decoded.

    Raises:
        PipelineError: the images can be read in long stretches only, and the order has none.
    """
    if shuffle_buffer is None and not (images.samples.in_any_order or images.kept):
        raise PipelineError(
            "the disk keeps a part of the data set's shards only, and a uniformly random order would "
            "fetch a whole shard for every image",
            "free room for all of them, or set the recipe's shuffle_buffer",
        )
    visits = (
        order.indexed(seed, epoch, len(images))
        if shuffle_buffer is None
        else order.streaming(seed, epoch, images.samples.shard_of, shuffle_buffer)
    )
    steps = steps_per_epoch(len(images), batch_size, drop_last)
    batches = [visits[k * batch_size : (k + 1) * batch_size] for k in range(first_step, steps)]
    draws = Draws(seed, epoch, len(images))
    buffers = None
    if processes and not images.kept and images.device is None:
        most = -(-batch_size // part.world)
        # One more than wait to be taken and one in use.
        buffers = Buffers(processes, _PREFETCHED + 2, most * 3 * recipe.crop**2)
    made = _TrainingBatches(images, batches, part, recipe, draws, buffers)
    return map(_Made.opened, _load(made, processes))


class _Made(NamedTuple):
    """A batch on its way out of a loader process.

    Only memory that is used again comes as it is: each tensor costs a file of its own, an array nothing.
    """

    images: Tensor | Handed  # (n, crop, crop, 3)
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    colour: NDArray[np.float32]
    distortion: NDArray[np.float32]
    of: int

    def opened(self) -> Batch:
        images = self.images.opened() if isinstance(self.images, Handed) else self.images
        return Batch(
            images.movedim(-1, -3),
            torch.from_numpy(self.labels),
            torch.from_numpy(self.indices),
            torch.from_numpy(self.colour),
            torch.from_numpy(self.distortion),
            self.of,
        )


def evaluation_batches(
    images: Images, views: Views, *, at_once: int, part: Part = ALONE, processes: int = 0
) -> Iterator[ViewBatch]:
    """This worker's part of a split, each image exactly once over all workers.

    Args:
        images: of the split, `Images.to_view`.
        views: what is shown of each.
        at_once: views in a batch, mirror images included; at least one image's.
        part: which slice of the split.
        processes: loader processes, as in `training_batches`.
    """
    mine = part.of(np.arange(len(images)))
    size = max(1, at_once // views.count) if views.same_size else 1
    batches = [mine[start : start + size] for start in range(0, len(mine), size)]
    return _load(_ViewBatches(images, batches, views), processes)


class _Batches(TorchDataset[T]):
    """Makes batch k when asked for it, in whichever process asks."""

    def __init__(self, images: Images, batches: Sequence[NDArray[np.int64]]) -> None:
        self.images, self.batches = images, batches

    def __len__(self) -> int:
        return len(self.batches)


class _TrainingBatches(_Batches[_Made]):
    def __init__(
        self,
        images: Images,
        batches: Sequence[NDArray[np.int64]],
        part: Part,
        recipe: Augmentation,
        draws: Draws,
        buffers: Buffers | None,
    ) -> None:
        super().__init__(images, batches)
        self._part, self._recipe, self._draws, self._buffers = part, recipe, draws, buffers
        remote = images.samples.remote and not images.kept
        self._ahead = ReadAhead(images.samples, batches) if remote and batches else None

    def __getitem__(self, k: int) -> _Made:
        if self._ahead is not None:
            self._ahead.at(k)
        indices = self._part.of(self.batches[k])
        draws = [self._draws[i] for i in indices]
        # Pixels keep their channels side by side: copying them is then copying rows.
        shape = (len(indices), self._recipe.crop, self._recipe.crop, 3)
        held = self._buffers.take(shape) if self._buffers else None
        handed, crops = held or (
            None,
            torch.empty(shape, dtype=torch.uint8, device=self.images.device),
        )
        for into, image, draw in zip(crops, self.images.take(indices.tolist()), draws, strict=True):
            into.copy_(training_crop(image, self._recipe, draw).movedim(0, -1))
        amount = self._recipe.distortion
        distortions = [draw.distortion(amount) for draw in draws] if amount else []
        return _Made(
            handed or crops,
            self.images.samples.labels[indices],
            indices,
            np.array([d.colour for d in draws], np.float32).reshape(-1, 3),
            np.array(distortions, np.float32).reshape(-1, 6),
            len(self.batches[k]),
        )


class _ViewBatches(_Batches[ViewBatch]):
    def __init__(self, images: Images, batches: Sequence[NDArray[np.int64]], views: Views) -> None:
        super().__init__(images, batches)
        self._views = views

    def __getitem__(self, k: int) -> ViewBatch:
        indices = self.batches[k]
        shown = [list(self._views(self.images[i])) for i in indices]
        return ViewBatch(
            [_stack(same) for same in zip(*shown, strict=True)],
            torch.from_numpy(self.images.samples.labels[indices]),
            torch.from_numpy(indices),
        )


def _stack(images: Sequence[Tensor]) -> Tensor:
    """Stack along a new first axis, in a loader process straight into memory shared with the trainer.

    Pixels keep their channels side by side: copying them is then copying rows.
    """
    stacked: Tensor = default_collate([image.movedim(-3, -1) for image in images])
    return stacked.movedim(-1, -3)


def _load(batches: _Batches[T], processes: int) -> Iterator[T]:
    if batches.images.device is not None:
        # A thread and not processes: what is in a GPU's memory cannot leave the process that put it there.
        return in_threads(1, batches.__getitem__, range(len(batches)), _PREFETCHED)
    if batches.images.kept:
        processes = 0  # another process would fill a cache of its own and lose it
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            num_workers=processes,
            prefetch_factor=_PREFETCHED if processes else None,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
        )
    )


def _as_it_is(batch: T) -> T:
    return batch
