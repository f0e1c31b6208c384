"""How a training crop is made, as data; `stages.load.augment` carries it out."""

from dataclasses import dataclass, field
from typing import Literal

ColourNoise = Literal["none", "standard_deviation", "variance"]
Interpolation = Literal["bilinear", "cubic", "area", "nearest"]


@dataclass(frozen=True)
class CentreSquare:
    """Crops lie anywhere in the centre square (Krizhevsky 2012, section 4.1)."""

    kind: Literal["centre_square"] = "centre_square"


@dataclass(frozen=True)
class FixedCrops:
    """Crops are the corners and the centre of the centre square (Zeiler and Fergus 2013, section 3)."""

    kind: Literal["fixed_crops"] = "fixed_crops"


@dataclass(frozen=True)
class PaddedSquare:
    """Crops lie anywhere in the centre square with a border of zeros (He 2015, section 4.2).

    The border is added after the mean was subtracted, pixel by pixel of the square: so it is zero where the
    network sees it, and the mean image moves with the crop.

    Attributes:
        border: pixels on each side.
    """

    border: int
    kind: Literal["padded_square"] = "padded_square"


@dataclass(frozen=True)
class ScaleJitter:
    """Crops lie anywhere in the whole image, whose short side is drawn for each use.

    Simonyan and Zisserman 2014, section 3.1; He 2015, section 3.4.

    Attributes:
        low, high: bounds of the short side in pixels, both included; equal for one fixed scale.
    """

    low: int
    high: int
    kind: Literal["scale_jitter"] = "scale_jitter"


@dataclass(frozen=True)
class AreaCrop:
    """Crops have a random share of the image's area and a random shape, and are resized to the crop.

    Szegedy 2014, section 6.

    Attributes:
        area: bounds of the share.
        ratio: bounds of width / height.
        log_ratio: draw the ratio's logarithm uniformly (torchvision), not the ratio (the paper).
        swap_sides: swap width and height in half of the draws (fb.resnet.torch).
        fallback: the crop when ten tries do not fit into the image: the ``largest`` of a shape within the
            bounds (torchvision), or the ``centre`` crop of the image whose short side has the crop's
            length (fb.resnet.torch).
        interpolations: one is drawn for each use.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    log_ratio: bool = False
    swap_sides: bool = field(default=False, metadata={"since": 2})
    fallback: Literal["largest", "centre"] = field(default="largest", metadata={"since": 2})
    interpolations: tuple[Interpolation, ...] = ("bilinear",)
    kind: Literal["area_crop"] = "area_crop"


Sampling = CentreSquare | FixedCrops | PaddedSquare | ScaleJitter | AreaCrop


@dataclass(frozen=True)
class Augmentation:
    """How a training crop is made. Lengths in pixels, intensities on the 0-255 scale.

    Attributes:
        resize: length of the short side; the centre square of that size is the training image of
            `CentreSquare`, `FixedCrops` and `PaddedSquare`, and what is tested with a centre crop or ten
            crops. `PaddedSquare` needs it to be `crop`.
        crop: side of what the network sees.
        sampling: where the crop is taken from.
        mean: what is subtracted: the mean image's central crop, one mean a channel, or ``half`` of the
            range, 127.5 (the Inceptions).
        unit_variance: divide by each channel's standard deviation in the data set.
        divisor: divide each channel by this, red, green and blue on the 0-255 scale, whatever the data set;
            None for no such constant.
        flip: mirror half of the crops.
        random_crop: draw the crop's place; else always the centre.
        distortion: change contrast, brightness and colour saturation, in random order, each by a
            factor uniform in 1 - `distortion` to 1 + `distortion`; 0 for none. Before the noise.
        clip: clip intensities to 0-255 after each change of the distortion, as on images of bytes
            (Howard 2013); else they stay as they are (fb.resnet.torch).
        colour_noise: shift along the principal components of RGB, scaled by each component's
            ``standard_deviation`` (the authors' code) or ``variance`` (the paper's formula, for
            which intensities are taken on the 0-1 scale); Krizhevsky 2012, section 4.1.
        colour_sigma: standard deviation of the random factor of `colour_noise`.
        colour_divisor: the image is divided by this while colour noise is on (authors' code: 1.1).
        colour_until: epoch from which colour noise (and its divisor) is off; None for never.
    """

    resize: int
    crop: int
    sampling: Sampling = CentreSquare()
    mean: Literal["image", "channel", "half"] = "image"
    unit_variance: bool = False
    divisor: tuple[float, float, float] | None = field(default=None, metadata={"since": 2})
    flip: bool = True
    random_crop: bool = True
    distortion: float = 0.0
    clip: bool = field(default=True, metadata={"since": 2})
    colour_noise: ColourNoise = "none"
    colour_sigma: float = 0.1
    colour_divisor: float = 1.0
    colour_until: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.sampling, PaddedSquare) and self.resize != self.crop:
            raise ValueError("a padded square is as large as the crop")
        if self.unit_variance and self.divisor is not None:
            raise ValueError("unit_variance and divisor exclude each other")
