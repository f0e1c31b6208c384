"""The image that pretrained weights expect."""

from dataclasses import dataclass

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """The input of a network: ``(pixel - mean_rgb) / std_rgb`` of a square crop, pixels in 0-255.

    Attributes:
        input_size: side of the crop in pixels.
        mean_rgb: the mean of each channel, on the 0-255 scale.
        std_rgb: the standard deviation of each channel, on the same scale; 1 where only the mean is
            subtracted.
    """

    input_size: int
    mean_rgb: RGB
    std_rgb: RGB = (1.0, 1.0, 1.0)
