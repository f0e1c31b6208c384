"""The views of an image that a test protocol shows the network, and how much each counts."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.load.decode import resize, resize_short_side
from stages.tasks.classification.recipe import Shown

# Simonyan and Zisserman 2014, section 3.2: a regular grid of 5 x 5 crops a scale.
_GRID = 5


@dataclass(frozen=True)
class Views:
    """What one protocol shows of an image; calling it with an image gives the views.

    Every view but that of ``centre_crop`` is shown together with its mirror image. The device makes that:
    counts are after mirroring, what a call gives is before.

    - ``centre_crop``: one crop from the middle of the centre square.
    - ``ten_crop``: the four corners and the centre of the centre square (Krizhevsky 2012, section 4.1).
    - ``dense``: the whole image at one scale, the scores averaged over the map, 2 views (Simonyan and
      Zisserman 2014, section 3.2). ``dense_multi_scale``: at every scale (also He 2015, section 3.4;
      mirror images are not mentioned there, but in the work it refers to).
    - ``multi_crop``: a grid of 5 x 5 crops at every scale, 50 a scale (the same).
      ``multi_crop_and_dense``: the mean of ``multi_crop`` and ``dense_multi_scale``.
    - ``144_crops``: at each of four scales three squares (left, centre, right; or top, centre, bottom),
      of each the corners, the centre and the whole square resized (Szegedy 2014, section 7).

    Attributes:
        protocol: which views.
        crop: side of a crop.
        resize: side of the centre square.
        scales: short sides of the whole image, ascending; ``dense`` uses the middle one.
    """

    protocol: str
    crop: int
    resize: int
    scales: tuple[int, ...] = ()

    @classmethod
    def of(cls, shown: Shown, protocol: str) -> "Views":
        """The views of a test.

        Raises:
            ValueError: the protocol tests whole images and no scales are named for it.
        """
        views = cls(protocol, shown.crop, shown.resize, shown.scales)
        if views.square is None and not views.scales:
            raise ValueError(f"protocol {protocol} needs the recipe's test_scales")
        return views

    @property
    def square(self) -> int | None:
        """Side of the centre square that the views are cut from; None where the image is whole."""
        return self.resize if self.protocol in ("centre_crop", "ten_crop") else None

    @property
    def mirrored(self) -> bool:
        """Whether mirror images are views, too."""
        return self.protocol != "centre_crop"

    @property
    def same_size(self) -> bool:
        """Whether all views are crops, so that those of several images fit into one batch."""
        return "dense" not in self.protocol

    @property
    def count(self) -> int:
        """Views of an image, mirror images included."""
        scales = len(self.scales)
        match self.protocol:
            case "centre_crop":
                return 1
            case "ten_crop":
                return 10
            case "dense":
                return 2
            case "dense_multi_scale":
                return 2 * scales
            case "multi_crop":
                return 2 * _GRID**2 * scales
            case "multi_crop_and_dense":
                return 2 * _GRID**2 * scales + 2 * scales
            case "144_crops":
                return 2 * 3 * 6 * scales

    @property
    def weights(self) -> tuple[float, ...]:
        """What one view counts in the mean over all, for each tensor that a call gives."""
        scales = len(self.scales)
        if self.protocol == "multi_crop_and_dense":
            return (0.5 / (2 * scales), 0.5 / (2 * _GRID**2 * scales)) * scales
        tensors = scales if self.protocol == "dense_multi_scale" else 1
        return (1 / self.count,) * tensors

    def __call__(self, image: Tensor) -> Iterator[Tensor]:
        """The views of an image, before mirroring.

        Args:
            image: uint8, (3, height, width): the centre square where `square` is not None.

        Yields:
            uint8, (n, 3, side, side) crops or (1, 3, height, width) whole images.
        """
        match self.protocol:
            case "centre_crop":
                yield _five(image, self.crop)[:1]
            case "ten_crop":
                yield _five(image, self.crop)
            case "dense":
                yield resize_short_side(image, self.scales[len(self.scales) // 2])[None]
            case "dense_multi_scale":
                for side in self.scales:
                    yield resize_short_side(image, side)[None]
            case "multi_crop":
                yield torch.cat(
                    [_grid(resize_short_side(image, s), self.crop) for s in self.scales]
                )
            case "multi_crop_and_dense":
                for side in self.scales:
                    whole = resize_short_side(image, side)
                    yield whole[None]
                    yield _grid(whole, self.crop)
            case "144_crops":
                yield torch.cat(
                    [
                        view
                        for side in self.scales
                        for square in _squares(resize_short_side(image, side))
                        for view in (
                            _five(square, self.crop),
                            resize(square, (self.crop, self.crop))[None],
                        )
                    ]
                )


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
