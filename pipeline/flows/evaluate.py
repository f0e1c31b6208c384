"""Test a network that is already trained, and record it with the runs."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.engine.command_line import Where
from pipeline.engine.runs import PretrainedRun, RunContext
from pipeline.engine.workbench import Workbench
from pipeline.flows.report import draw, sentence
from stages.errors import PipelineError
from stages.paper import Paper, Profile
from stages.recipe import Ensemble, Recipe
from stages.tasks.classification.recipe import Classification, PretrainedClassifier, Shown
from stages.tasks.task import Net

# The papers' own 224-pixel networks cut their crops from squares of 256 pixels.
_RESIZE_TO_CROP = 256 / 224


def evaluate_own(
    where: Where,
    paper: Paper,
    recipe: str | None,
    weights: Path,
    *,
    profile: Profile,
    protocols: Sequence[str],
    scales: tuple[int, ...] = (),
) -> None:
    """Test a network of a paper's recipe, whose weights are in a file.

    Args:
        where: where the command works.
        paper: has the recipe.
        recipe: its name; None for the headline's.
        weights: the file.
        profile: the scale it was trained at.
        protocols: how it is tested.
        scales: short sides of whole images, in place of the recipe's.

    Raises:
        PipelineError: the recipe is an ensemble's, or has no scales to choose; and see the stages.
    """
    name, chosen = paper.recipe(profile, recipe)
    if isinstance(chosen, Ensemble):
        raise PipelineError(
            f"{paper.name}:{name} is an ensemble, but a file has the weights of one network",
            f"name one of its networks: {', '.join(_single(paper, profile))}",
        )
    if scales:
        if not isinstance(chosen, Classification):
            raise PipelineError(f"{paper.name}:{name} has no scales to choose", "omit --scales")
        chosen = replace(chosen, test_scales=scales)
    model = f"{paper.name}:{recipe}" if recipe else paper.name
    with Workbench(where) as bench:
        bench.check_data([chosen.data])
        context = _context(bench, paper, profile, chosen.data)
        _test(
            bench,
            PretrainedRun(context, name, Net(chosen, weights), _described(model, weights)),
            protocols,
        )


def evaluate_pretrained(
    where: Where,
    paper: Paper,
    name: str,
    weights: Path | None,
    *,
    profile: Profile,
    protocols: Sequence[str],
    crop: int | None = None,
    resize: int | None = None,
    scales: tuple[int, ...] = (),
    download: bool = False,
) -> None:
    """Test an external pretrained network.

    Args:
        where: where the command works.
        paper: whose row of the timeline it belongs to.
        name: see `models.pretrained.libraries`.
        weights: the file; None for the library's own cache.
        profile: the scale that it counts for.
        protocols: how it is tested.
        crop: side of the crops; None for the network's own.
        resize: side of the centre square; None for 256/224 of the crop.
        scales: short sides of whole images.
        download: whether the library may download weights that are not in its cache.

    Raises:
        PipelineError: see the stages.
    """
    from stages.tasks.classification.pretrained import expected_crop

    with Workbench(where) as bench:
        bench.check_data([PretrainedClassifier.data])
        crop = crop or expected_crop(name, weights, download)
        shown = Shown(crop, resize or round(crop * _RESIZE_TO_CROP), scales)
        net = Net(PretrainedClassifier(name, shown), weights)
        context = _context(bench, paper, profile, PretrainedClassifier.data)
        _test(bench, PretrainedRun(context, name, net, _described(name, weights)), protocols)


def _context(bench: Workbench, paper: Paper, profile: Profile, role: str) -> RunContext:
    _ = bench.tracker  # refuses an unreachable store before any work starts
    return RunContext(paper, profile, bench.prepared([role]), seed=0)


def _test(bench: Workbench, run: PretrainedRun, protocols: Sequence[str]) -> None:
    evaluations = bench.executor.test(run, [run.net], protocols)
    draw(bench.workspace, bench.tracker, bench.progress)
    for evaluation in evaluations:
        bench.progress.line("result", sentence(run, evaluation))


def _single(paper: Paper, profile: Profile) -> list[str]:
    return [name for name, one in paper.recipes[profile].items() if isinstance(one, Recipe)]


def _described(model: str, weights: Path | None) -> str:
    """Name of the network, with a hash of its weights file if there is one."""
    if weights is None:
        return model
    return f"{model} from {weights.name}, sha256 {_sha256(weights)[:16]}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
