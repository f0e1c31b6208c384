"""The views of an image that a test protocol shows the network, and how much each counts.

A protocol is a row of `PROTOCOLS`. Its name and a few words for people stand in
`stages.tasks.classification.recipe`, which imports no torch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.errors import PipelineError
from stages.load.decode import resize, resize_short_side
from stages.load.images import Images
from stages.load.samples import Samples
from stages.tasks.classification.recipe import Shown

# Simonyan and Zisserman 2014, section 3.2: a regular grid of 5 x 5 crops per scale.
_GRID = 5


class Scaled:
    """An image from which views are cut, and its resized versions, each made once."""

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self._resized: dict[int, Tensor] = {}

    def at(self, short_side: int) -> Tensor:
        """The whole image with a short side of the given number of pixels."""
        if short_side not in self._resized:
            self._resized[short_side] = resize_short_side(self.image, short_side)
        return self._resized[short_side]


@dataclass(frozen=True)
class ViewTensor:
    """Some views of an image, which are shown together as one tensor.

    Attributes:
        views: how many, before mirroring.
        cut: makes them of an image: uint8, (views, 3, height, width).
        whole: it is the whole image, of whatever shape, and no crop: the network's scores at all places
            are averaged.
    """

    views: int
    cut: Callable[[Scaled], Tensor]
    whole: bool = False


@dataclass(frozen=True)
class ViewProtocol:
    """What a protocol shows of an image.

    Attributes:
        cut_from: views are cut from the centre ``square``, from the whole ``image`` whose short side has the
            square's length, or from the whole image at each of the ``scales`` of `Shown`.
        mirrored: every view is shown together with its mirror image. The device makes that.
        tensors: the views.
        of_scores: the mean over the views is that of scores, with a softmax at the end, not of probabilities.
    """

    cut_from: Literal["square", "image", "scales"]
    mirrored: bool
    tensors: Callable[[Shown], Sequence[ViewTensor]]
    of_scores: bool = False


def _centre_crop(shown: Shown) -> Sequence[ViewTensor]:
    return [ViewTensor(1, lambda image: _five(image.image, shown.crop)[:1])]


def _ten_crop(shown: Shown) -> Sequence[ViewTensor]:
    """Krizhevsky 2012, section 4.1."""
    return [ViewTensor(5, lambda image: _five(image.image, shown.crop))]


def _ten_crop_rectangle(shown: Shown) -> Sequence[ViewTensor]:
    """README.md of KaimingHe/deep-residual-networks; fb.resnet.torch, datasets/transforms.lua."""
    return [ViewTensor(5, lambda image: _five(image.at(shown.resize), shown.crop))]


def _dense(shown: Shown) -> Sequence[ViewTensor]:
    """Simonyan and Zisserman 2014, section 3.2."""
    return [_whole(shown.scales[len(shown.scales) // 2])]


def _dense_multi_scale(shown: Shown) -> Sequence[ViewTensor]:
    """The same, and He 2015, section 3.4 (mirror images are not mentioned there, but in its reference)."""
    return [_whole(side) for side in shown.scales]


def _multi_crop(shown: Shown) -> Sequence[ViewTensor]:
    """Simonyan and Zisserman 2014, section 3.2: 50 crops per scale, mirror images included."""

    def cut(image: Scaled) -> Tensor:
        return torch.cat([_grid(image.at(side), shown.crop) for side in shown.scales])

    return [ViewTensor(_GRID**2 * len(shown.scales), cut)]


def _multi_crop_and_dense(shown: Shown) -> Sequence[ViewTensor]:
    """The same section's mean of both."""

    def grid(side: int) -> ViewTensor:
        return ViewTensor(_GRID**2, lambda image: _grid(image.at(side), shown.crop))

    return [tensor for side in shown.scales for tensor in (_whole(side), grid(side))]


def _144_crops(shown: Shown) -> Sequence[ViewTensor]:
    """Szegedy 2014, section 7: at each of four scales three squares (left, centre, right; or top, centre,
    bottom), of each the corners, the centre and the whole square resized."""

    def six(square: Tensor) -> Tensor:
        resized = resize(square, (shown.crop, shown.crop))
        return torch.cat([_five(square, shown.crop), resized[None]])

    def cut(image: Scaled) -> Tensor:
        return torch.cat(
            [six(square) for side in shown.scales for square in _squares(image.at(side))]
        )

    return [ViewTensor(3 * 6 * len(shown.scales), cut)]


PROTOCOLS: Mapping[str, ViewProtocol] = {
    "centre_crop": ViewProtocol("square", mirrored=False, tensors=_centre_crop),
    "ten_crop": ViewProtocol("square", mirrored=True, tensors=_ten_crop),
    "ten_crop_rectangle": ViewProtocol("image", mirrored=True, tensors=_ten_crop_rectangle),
    "dense": ViewProtocol("scales", mirrored=True, tensors=_dense),
    "dense_multi_scale": ViewProtocol("scales", mirrored=True, tensors=_dense_multi_scale),
    "dense_multi_scale_scores": ViewProtocol(
        "scales", mirrored=True, tensors=_dense_multi_scale, of_scores=True
    ),
    "multi_crop": ViewProtocol("scales", mirrored=True, tensors=_multi_crop),
    "multi_crop_and_dense": ViewProtocol("scales", mirrored=True, tensors=_multi_crop_and_dense),
    "144_crops": ViewProtocol("scales", mirrored=True, tensors=_144_crops),
}


@dataclass(frozen=True)
class Views:
    """What a protocol shows a certain network of an image; calling it with an image gives the views.

    Counts and weights are after mirroring, what a call gives is before.

    Attributes:
        protocol: its name.
        shown: the lengths that the network's tests have.

    Raises:
        PipelineError: there is no such protocol, or it needs scales and there are none.
    """

    protocol: str
    shown: Shown

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise PipelineError(
                f"there is no protocol {self.protocol!r}", f"use one of: {', '.join(PROTOCOLS)}"
            )
        if self._row.cut_from == "scales" and not self.shown.scales:
            raise PipelineError(
                f"protocol {self.protocol} tests whole images, and no scales are given for them",
                "name their short sides: the recipe's test_scales, or --scales 256,384,512",
            )

    @property
    def _row(self) -> ViewProtocol:
        return PROTOCOLS[self.protocol]

    @property
    def _tensors(self) -> Sequence[ViewTensor]:
        return self._row.tensors(self.shown)

    @property
    def mirrored(self) -> bool:
        """Whether mirror images are views, too."""
        return self._row.mirrored

    @property
    def of_scores(self) -> bool:
        """Whether scores are averaged over the views, and not probabilities."""
        return self._row.of_scores

    @property
    def same_size(self) -> bool:
        """Whether all views are crops, so that those of several images fit into one batch."""
        return not any(tensor.whole for tensor in self._tensors)

    @property
    def count(self) -> int:
        """Views of an image."""
        return self._mirrors * sum(tensor.views for tensor in self._tensors)

    @property
    def weights(self) -> tuple[float, ...]:
        """What one view counts in the mean over all, for each tensor that a call gives.

        All views count alike; where a protocol shows crops and whole images, each kind counts one half.
        """
        tensors = self._tensors
        kinds = len({tensor.whole for tensor in tensors})

        def alike(whole: bool) -> int:
            return self._mirrors * sum(tensor.views for tensor in tensors if tensor.whole == whole)

        return tuple(1 / kinds / alike(tensor.whole) for tensor in tensors)

    @property
    def _mirrors(self) -> int:
        return 2 if self.mirrored else 1

    def images(self, samples: Samples) -> Images:
        """The images of a split as the views need them: the centre squares, or whole images."""
        from_square = self._row.cut_from == "square"
        return Images.to_view(samples, square=self.shown.resize if from_square else None)

    def __call__(self, image: Tensor) -> Iterator[Tensor]:
        """The views of an image, before mirroring.

        Args:
            image: uint8, (3, height, width), of `images`.

        Yields:
            uint8, (n, 3, side, side) crops or (1, 3, height, width) whole images.
        """
        scaled = Scaled(image)
        for tensor in self._tensors:
            yield tensor.cut(scaled)


def _whole(short_side: int) -> ViewTensor:
    """The whole image at one scale."""
    return ViewTensor(1, lambda image: image.at(short_side)[None], whole=True)


def _five(image: Tensor, crop: int) -> Tensor:
    """The centre and the four corners, (5, 3, crop, crop)."""
    down, right = image.shape[1] - crop, image.shape[2] - crop
    places = [(down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)]
    return torch.stack([image[:, y : y + crop, x : x + crop] for y, x in places])


def _grid(image: Tensor, crop: int) -> Tensor:
    """A regular grid of crops that reaches every edge, (25, 3, crop, crop)."""
    rows, columns = (
        [round(k * (side - crop) / (_GRID - 1)) for k in range(_GRID)] for side in image.shape[1:]
    )
    return torch.stack([image[:, y : y + crop, x : x + crop] for y in rows for x in columns])


def _squares(image: Tensor) -> list[Tensor]:
    """The squares at both ends and in the middle of an image's longer side."""
    height, width = image.shape[1:]
    side = min(height, width)
    if height > width:
        return [image[:, y : y + side] for y in (0, (height - side) // 2, height - side)]
    return [image[:, :, x : x + side] for x in (0, (width - side) // 2, width - side)]
