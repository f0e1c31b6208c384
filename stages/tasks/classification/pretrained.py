"""Networks that other people trained, made to answer for the classes of a data set."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.pretrained.libraries import load_pretrained
from models.pretrained.preprocessing import RGB, Preprocessing
from stages.dataset import ImageClass
from stages.errors import PipelineError
from stages.metrics import IMAGENET


class Standardise:
    """uint8 images to a pretrained network's input: (pixel - mean) / deviation, on the 0-255 scale.

    Args:
        mean: of each channel.
        deviation: of each channel.
        device: of the images.
    """

    def __init__(self, mean: RGB, deviation: RGB, device: torch.device) -> None:
        self._mean = torch.tensor(mean, device=device).view(3, 1, 1)
        self._deviation = torch.tensor(deviation, device=device).view(3, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise (..., 3, height, width)."""
        return (images.float() - self._mean) / self._deviation


class ClassSubset(nn.Module):
    """A network whose scores are only those of some of its classes, in a given order.

    Args:
        network: (n, 3, height, width) to scores (n, classes) or maps of them.
        columns: the classes to keep.
    """

    def __init__(self, network: nn.Module, columns: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the kept classes."""
        scores: Tensor = self.network(x)
        return scores.index_select(1, self.get_buffer("columns"))

    def dense(self, x: Tensor) -> Tensor:
        """Scores of whole images, as maps where the network gives maps."""
        scores: Tensor = getattr(self.network, "dense", self.network)(x)
        return scores.index_select(1, self.get_buffer("columns"))


def open_pretrained(
    name: str, weights: Path | None, classes: Sequence[ImageClass], device: torch.device
) -> tuple[nn.Module, Standardise]:
    """A pretrained network for a data set, and what prepares its images.

    Args:
        name: see `models.pretrained.libraries.load_pretrained`.
        weights: a file, or None for the library's own cache.
        classes: of the data set: those of ILSVRC-2012 or some of them, by their WordNet ids.
        device: where to put it.

    Raises:
        PipelineError: there is no such network, its weights are not there, or the data set has other
            classes.
    """
    columns = _columns(classes)
    model, expected = _load(name, weights)
    model = ClassSubset(model, columns).to(device).eval()
    return model, Standardise(expected.mean_rgb, expected.std_rgb, device)


def expected_crop(name: str, weights: Path | None, download: bool) -> int:
    """Side of the crop that a pretrained network was made for; fetches its weights if that is allowed.

    Raises:
        PipelineError: as `open_pretrained`.
    """
    return _load(name, weights, download)[1].input_size


def _load(
    name: str, weights: Path | None, download: bool = False
) -> tuple[nn.Module, Preprocessing]:
    try:
        return load_pretrained(name, weights, num_classes=IMAGENET.classes, download=download)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"{name} cannot be tested: {error}",
            "name a file with --weights, or fetch the library's own with --download",
        ) from error


def _columns(classes: Sequence[ImageClass]) -> Tensor:
    """Places of a data set's classes among the thousand, which public weights have in sorted order."""
    from timm.data import ImageNetInfo  # seconds of import

    places = {
        synset: place for place, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())
    }
    unknown = [item.synset for item in classes if item.synset not in places]
    if unknown:
        raise PipelineError(
            f"{len(unknown)} of the data set's {len(classes)} classes are not ILSVRC-2012's, "
            f"such as {unknown[0]}",
            "test pretrained weights on ImageNet or a part of it",
        )
    return torch.tensor([places[item.synset] for item in classes])
