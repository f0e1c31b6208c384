"""Test a trained network, also one that others trained, by the protocols of the papers.

python -m pipeline.evaluate --model torchvision:resnet50 --protocol ten_crop --data FOLDER --paper resnet
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pipeline import papers
from pipeline.engine import command_line as cli
from stages.augmentation import Augmentation
from stages.errors import PipelineError
from stages.paper import Profile
from stages.recipe import Optimiser
from stages.tasks.classification.recipe import Classification, TestProtocol

# Of the papers' own 224-pixel networks.
_RESIZE_TO_CROP = 256 / 224


@dataclass(frozen=True)
class Options:
    """Test a trained network by the protocols of the papers and record what it makes of the validation
    images. The network is one of a paper's here (alexnet, or resnet:resnet34, with --weights), or foreign:
    torchvision:NAME, timm:NAME, caffe:NAME (with --weights FILE.caffemodel), or my.module:factory."""

    model: str
    """PAPER or PAPER:RECIPE, or torchvision:NAME, timm:NAME, caffe:NAME, MODULE:FACTORY."""
    data: str
    """Folder or URL with ImageNet or a part of it, in any common form."""
    protocol: str = "centre_crop"
    """Protocols, with commas between: centre_crop, ten_crop, dense, dense_multi_scale, multi_crop,
    multi_crop_and_dense, 144_crops."""
    weights: Path | None = None
    """File of weights (default, for torchvision and timm: the library's own cache)."""
    paper: str | None = None
    """Of a foreign network: the paper whose row of the timeline it stands for."""
    profile: Profile = "paper"
    """Of a paper's own recipe: the scale that it was trained at."""
    crop: int | None = None
    """Of a foreign network: side of the crops (default: the network's own)."""
    resize: int | None = None
    """Of a foreign network: side of the centre square (default: 256/224 of the crop)."""
    scales: str = ""
    """Short sides of the protocols that test whole images, with commas between, e.g. 256,384,512."""
    download: bool = False
    """Let torchvision or timm fetch the weights that their cache lacks."""
    workspace: Path | None = None
    """Where everything is kept (default: $PIPELINE_WORKSPACE, else ./workspace)."""
    launcher: Literal["ray", "inline"] = "ray"
    """Test on Ray, or in this process without it."""
    workers: int | None = None
    """Workers on Ray, each with its part of the images (default: one a GPU, or 1)."""
    tracking_uri: str | None = None
    """An MLflow server (default: a database in the workspace)."""
    debug: bool = False
    """Show the stack trace of an error."""


def protocols_of(text: str) -> tuple[TestProtocol, ...]:
    """The protocols that were named.

    Raises:
        PipelineError: there is no such protocol.
    """
    named = tuple(text.split(","))
    for name in named:
        if name not in get_args(TestProtocol):
            raise PipelineError(
                f"there is no protocol {name!r}",
                f"use some of: {', '.join(get_args(TestProtocol))}",
            )
    return named  # type: ignore[return-value]


def scales_of(text: str) -> tuple[int, ...]:
    """The short sides that were named, ascending.

    Raises:
        PipelineError: they are no numbers of pixels.
    """
    try:
        return tuple(sorted(int(side) for side in text.split(",") if side))
    except ValueError:
        raise PipelineError(
            f"--scales {text} are no numbers of pixels", "write e.g. 256,384,512"
        ) from None


def foreign_recipe(
    name: str,
    crop: int,
    resize: int | None,
    scales: tuple[int, ...],
    protocols: tuple[TestProtocol, ...],
) -> Classification:
    """What stands for the recipe of a network that was not trained here: what its tests show it."""
    return Classification(
        model=name,
        augmentation=Augmentation(resize=resize or round(crop * _RESIZE_TO_CROP), crop=crop),
        optimiser=Optimiser(()),
        batch_size=0,
        epochs=0,
        protocols=protocols,
        start_steps=0,
        test_scales=scales,
    )


def _evaluate(options: Options) -> None:
    protocols = protocols_of(options.protocol)
    scales = scales_of(options.scales)
    own = options.model.partition(":")[0] in {paper.name for paper in papers.PAPERS}
    if own and options.weights is None:
        raise PipelineError(
            f"{options.model} needs weights to test", "name the file of a run with --weights"
        )
    if not own and options.paper is None:
        raise PipelineError(
            f"{options.model} is not a paper's here, so its place in the timeline is not known",
            f"name one with --paper: {', '.join(paper.name for paper in papers.PAPERS)}",
        )
    if options.weights is not None and not options.weights.is_file():
        raise PipelineError(
            f"there is no file of weights at {options.weights}", "correct --weights"
        )
    from pipeline.flows.evaluate import test_network

    test_network(options, protocols, scales, own=own)


if __name__ == "__main__":
    cli.main(Options, _evaluate)
