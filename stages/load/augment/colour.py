"""Arithmetic on pixels, on the training device: distortion, colour noise, mean and scale."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.augmentation import Augmentation
from stages.load.samples import Dataset

# Weights of red, green and blue in grey (ITU-R 601), as in Pillow.
_GREY = (0.299, 0.587, 0.114)
# The middle of the range of intensities.
_HALF = 127.5


class Normalise:
    """uint8 images to the network's input: float32 on the 0-255 scale, less the mean, plus colour noise.

    The mean image's central part is subtracted from every crop, whatever the crop's place: so the
    authors' code had it (convdata_jpeg.py). From whole images, which have any size, the mean of that part
    is subtracted.
    """

    def __init__(self, dataset: Dataset, recipe: Augmentation, device: torch.device) -> None:
        self._recipe = recipe
        statistics = dataset.info.statistics
        if recipe.mean == "image":
            mean = torch.from_numpy(dataset.mean_image)[None]
            size = (recipe.resize, recipe.resize)
            mean = F.interpolate(mean, size, mode="bilinear", antialias=True, align_corners=False)
            start = (recipe.resize - recipe.crop) // 2
            self._mean = mean[0, :, start : start + recipe.crop, start : start + recipe.crop].to(
                device
            )
        else:
            means = statistics.mean if recipe.mean == "channel" else (_HALF,) * 3
            self._mean = torch.tensor(means, device=device).view(3, 1, 1)
        values = torch.tensor(statistics.eigenvalues).clamp(min=0)
        # On the 0-255 scale. The variance form takes intensities on the 0-1 scale: x / 255 shifted by
        # variance / 255^2 is x shifted by variance / 255.
        scale = values / 255 if recipe.colour_noise == "variance" else values.sqrt()
        vectors = torch.tensor(statistics.eigenvectors)
        self._components = (recipe.colour_sigma * scale[:, None] * vectors).to(device)
        # The covariance matrix's diagonal.
        deviation = (values[:, None] * vectors.square()).sum(dim=0).sqrt()
        divisor = deviation if recipe.divisor is None else torch.tensor(recipe.divisor)
        divides = recipe.unit_variance or recipe.divisor is not None
        self._divisor = divisor.view(3, 1, 1).to(device) if divides else None
        self._channel_mean = self._mean.mean(dim=(1, 2), keepdim=True)

    def __call__(
        self, images: Tensor, colour: Tensor | None = None, distortion: Tensor | None = None
    ) -> Tensor:
        """Normalise.

        Args:
            images: uint8, (..., 3, height, width).
            colour: standard normal factors (n, 3), or None where there is no noise (tests, late epochs).
            distortion: (n, 6) of `Draw.distortion`, or None.

        Returns:
            float32 of the images' shape, contiguous.
        """
        size = images.shape[-2:]
        mean = self._mean if size == (self._recipe.crop, self._recipe.crop) else self._channel_mean
        x = images
        if distortion is not None:
            x = distort(images.float(), distortion, clip=self._recipe.clip)
        if not x.is_cuda:  # where arithmetic on bytes and floats together is slower than two passes
            x = x.to(torch.float32, memory_format=torch.contiguous_format)
        # As few passes over the pixels as there can be: memory is what normalising waits for.
        into = torch.empty(x.shape, device=x.device) if x.is_cuda else x
        if colour is None and self._divisor is None:
            return torch.sub(x, mean, out=into)
        scale = torch.ones(3, 1, 1, device=x.device)
        if self._divisor is not None:
            scale /= self._divisor
        shift = torch.zeros(3, 1, 1, device=x.device)
        if colour is not None:
            scale /= self._recipe.colour_divisor
            shift = (colour @ self._components)[:, :, None, None]
        if mean.shape[1:] == (1, 1):
            shift = shift - mean
        else:
            x = torch.sub(x, mean, out=into)
        return torch.addcmul(shift * scale, x, scale, out=into)


def grey(images: Tensor) -> Tensor:
    """The grey version of float images (..., 3, height, width), with one channel."""
    weights = images.new_tensor(_GREY).view(3, 1, 1)
    return (images * weights).sum(dim=-3, keepdim=True)


def distort(images: Tensor, distortion: Tensor, *, clip: bool) -> Tensor:
    """Change contrast, brightness and saturation in each image's own order (Howard 2013).

    Each step takes an image away from, or towards, a reference: black (brightness), its own grey version
    (saturation), or the mean of that (contrast); as Pillow's ImageEnhance does, up to its rounding.

    Args:
        images: float32 on the 0-255 scale, (n, 3, height, width).
        distortion: (n, 6): in which order 0 contrast, 1 brightness, 2 saturation come; then the
            three steps' factors.
        clip: clip to 0-255 after each step, as images of bytes are; fb.resnet.torch, which blends floats,
            does not.

    Returns:
        A tensor of the images' shape.
    """
    for step, factor in zip(
        distortion[:, :3].T[..., None, None, None],
        distortion[:, 3:].T[..., None, None, None],
        strict=True,
    ):
        greys = grey(images)
        contrast = greys.mean(dim=(2, 3), keepdim=True).expand_as(greys)
        reference = torch.where(step == 0, contrast, torch.where(step == 2, greys, 0.0))
        images = torch.lerp(reference.expand_as(images), images, factor)
        if clip:
            images.clamp_(0, 255)
    return images
