"""The decoded images of a split, which a task cuts its crops and views from."""

import functools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stages.augmentation import AreaCrop, Augmentation, ScaleJitter
from stages.load.decode import centre_square, decode, decode_jpeg, decode_on
from stages.load.samples import Samples

# A data set that is this small when decoded (bytes) is decoded once and kept.
KEEP_DECODED = 1 << 30
# This many images, evenly spread, are decoded to judge the size of all.
_PROBED = 16


class Images:
    """The decoded images of a split, uint8 (3, height, width); decoded once where they fit in memory.

    Args:
        samples: the encoded images.
        square: side of the centre squares to reduce them to; None for whole images.
        at_least: the longest short side at which they are needed, where larger ones may be decoded at a
            fraction of their size; None to decode all pixels.
        device: decode, keep and crop them there; by default on the CPU.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        square: int | None = None,
        at_least: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.samples, self.device = samples, device
        self._square, self._at_least = square, at_least
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
                return cls(samples, at_least=high, device=device)
            case AreaCrop():
                return cls(samples, device=device)
        return cls(samples, square=recipe.resize, at_least=recipe.resize, device=device)

    @classmethod
    def to_view(cls, samples: Samples, square: int | None) -> "Images":
        """What a test takes its views from: all pixels, and never those of a GPU's own decoder."""
        return cls(samples, square=square)

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
