"""Test a trained network, including an external pretrained network, by the protocols of the papers.

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
    images. The network is one of the papers' own (alexnet, or resnet:resnet34, with --weights), or an
    external pretrained network: torchvision:NAME, timm:NAME, caffe:NAME (with --weights FILE.caffemodel), or
    my.module:factory."""

    model: str
    """PAPER or PAPER:RECIPE, or torchvision:NAME, timm:NAME, caffe:NAME, MODULE:FACTORY."""
    protocol: Annotated[str, arg(help=_PROTOCOLS)] = "centre_crop"
    weights: Path | None = None
    """Weights file (default, for torchvision and timm: the library's own cache)."""
    paper: str | None = None
    """For an external network: the paper whose row of the timeline it belongs to."""
    profile: Profile = "paper"
    """For a paper's own recipe: the scale it was trained at."""
    crop: int | None = None
    """For an external network: side of the crops (default: the network's own)."""
    resize: int | None = None
    """For an external network: side of the centre square (default: 256/224 of the crop)."""
    scales: str = ""
    """Short sides for the protocols that test whole images, separated by commas, e.g. 256,384,512."""
    download: bool = False
    """Let torchvision or timm download weights that are not in their cache."""
    where: OmitArgPrefixes[Where] = field(default_factory=Where)


def protocols_of(text: str, known: Collection[str]) -> tuple[str, ...]:
    """The named protocols.

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
    """The named short sides, ascending.

    Raises:
        PipelineError: they are not numbers of pixels.
    """
    try:
        return tuple(sorted(int(side) for side in text.split(",") if side))
    except ValueError:
        raise PipelineError(
            f"--scales {text} is not a list of sizes in pixels", "write e.g. 256,384,512"
        ) from None


def _evaluate(options: Options) -> None:
    scales = scales_of(options.scales)
    name, _, recipe = options.model.partition(":")
    is_papers_network = name in {paper.name for paper in papers.PAPERS}
    if is_papers_network and options.weights is None:
        raise PipelineError(
            f"{options.model} needs weights to test", "name the file of a run with --weights"
        )
    if is_papers_network and (options.crop or options.resize):
        raise PipelineError(
            f"{options.model} is cropped as its recipe says",
            "omit --crop and --resize; they are for external networks",
        )
    if not is_papers_network and options.paper is None:
        raise PipelineError(
            f"{options.model} is not one of the papers' networks, so it is not known which paper's row of "
            f"the timeline it belongs to",
            f"name one with --paper: {', '.join(paper.name for paper in papers.PAPERS)}",
        )
    if options.weights is not None and not options.weights.is_file():
        raise PipelineError(f"there is no weights file at {options.weights}", "correct --weights")
    if not options.where.data:
        raise PipelineError("no test images given", "add --data FOLDER, or --data embedded")
    options.where.check(papers.ROLES)
    paper = papers.find(None, name if is_papers_network else options.paper)
    chosen = paper.recipe(options.profile, recipe or None)[1] if is_papers_network else None
    known = chosen.known_protocols if isinstance(chosen, Recipe) else PROTOCOL_WORDS
    protocols = protocols_of(options.protocol, known)
    # Here and not above: --help and bad input need no torch.
    from pipeline.flows import evaluate

    if is_papers_network:
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
