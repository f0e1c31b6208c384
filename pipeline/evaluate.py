"""Test a trained network, also one that others trained, by the protocols of the papers.

python -m pipeline.evaluate --model torchvision:resnet50 --protocol ten_crop --data FOLDER --paper resnet
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from pipeline import papers
from pipeline.engine.command_line import Where, main
from stages.errors import PipelineError
from stages.paper import Profile
from stages.recipe import Recipe
from stages.tasks.classification.recipe import PROTOCOL_WORDS

_PROTOCOLS = "Protocols, separated by commas: " + "; ".join(
    f"{name} ({words})" for name, words in PROTOCOL_WORDS.items()
)


@dataclass(frozen=True)
class Options:
    """Test a trained network by the protocols of the papers and record how well it does on the validation
    images. The network is one of a paper's here (alexnet, or resnet:resnet34, with --weights), or one that
    others trained: torchvision:NAME, timm:NAME, caffe:NAME (with --weights FILE.caffemodel), or
    my.module:factory."""

    model: str
    """PAPER or PAPER:RECIPE, or torchvision:NAME, timm:NAME, caffe:NAME, MODULE:FACTORY."""
    protocol: Annotated[str, arg(help=_PROTOCOLS)] = "centre_crop"
    weights: Path | None = None
    """File of weights (default, for torchvision and timm: the library's own cache)."""
    paper: str | None = None
    """For a network that others trained: the paper whose row of the timeline it belongs to."""
    profile: Profile = "paper"
    """For a paper's own recipe: the scale that it was trained at."""
    crop: int | None = None
    """For a network that others trained: side of the crops (default: the network's own)."""
    resize: int | None = None
    """For a network that others trained: side of the centre square (default: 256/224 of the crop)."""
    scales: str = ""
    """Short sides for the protocols that test whole images, separated by commas, e.g. 256,384,512."""
    download: bool = False
    """Let torchvision or timm fetch the weights that their cache lacks."""
    where: OmitArgPrefixes[Where] = field(default_factory=Where)


def protocols_of(text: str, known: Collection[str]) -> tuple[str, ...]:
    """The protocols that are named.

    Raises:
        PipelineError: one of them is not known.
    """
    named = tuple(text.split(","))
    for name in named:
        if name not in known:
            raise PipelineError(
                f"there is no protocol {name!r}", f"use some of: {', '.join(known)}"
            )
    return named


def scales_of(text: str) -> tuple[int, ...]:
    """The short sides that are named, ascending.

    Raises:
        PipelineError: they are not numbers of pixels.
    """
    try:
        return tuple(sorted(int(side) for side in text.split(",") if side))
    except ValueError:
        raise PipelineError(
            f"--scales {text} is not a list of pixels", "write e.g. 256,384,512"
        ) from None


def _evaluate(options: Options) -> None:
    scales = scales_of(options.scales)
    name, _, recipe = options.model.partition(":")
    own = name in {paper.name for paper in papers.PAPERS}
    if own and options.weights is None:
        raise PipelineError(
            f"{options.model} needs weights to test", "name the file of a run with --weights"
        )
    if own and (options.crop or options.resize):
        raise PipelineError(
            f"{options.model} has its recipe's crops",
            "leave --crop and --resize out; they are for networks of others",
        )
    if not own and options.paper is None:
        raise PipelineError(
            f"{options.model} is not one of the papers' networks, so its place in the timeline is not known",
            f"name one with --paper: {', '.join(paper.name for paper in papers.PAPERS)}",
        )
    if options.weights is not None and not options.weights.is_file():
        raise PipelineError(f"there is no weights file at {options.weights}", "correct --weights")
    if not options.where.data:
        raise PipelineError(
            "no images are named to test on", "add --data FOLDER, or --data embedded"
        )
    options.where.check(papers.ROLES)
    paper = papers.find(None, name if own else options.paper)
    chosen = paper.recipe(options.profile, recipe or None)[1] if own else None
    known = chosen.known_protocols if isinstance(chosen, Recipe) else PROTOCOL_WORDS
    protocols = protocols_of(options.protocol, known)
    # Here and not above: --help and bad input need no torch.
    from pipeline.flows import evaluate

    if own:
        assert options.weights is not None
        evaluate.evaluate_own(
            options.where,
            paper,
            recipe or None,
            options.weights,
            profile=options.profile,
            protocols=protocols,
            scales=scales,
        )
    else:
        evaluate.evaluate_pretrained(
            options.where,
            paper,
            options.model,
            options.weights,
            profile=options.profile,
            protocols=protocols,
            crop=options.crop,
            resize=options.resize,
            scales=scales,
            download=options.download,
        )


if __name__ == "__main__":
    main(Options, _evaluate)
