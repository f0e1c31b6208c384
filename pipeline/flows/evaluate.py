"""Test a network that is there already, and record it beside the runs."""

import contextlib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import papers
from pipeline.engine import launchers
from pipeline.engine.data import check, find, made
from pipeline.engine.executor import Laboratory
from pipeline.engine.progress import Progress
from pipeline.engine.runs import Setting
from pipeline.engine.workspace import Workspace
from pipeline.evaluate import Options, foreign_recipe
from pipeline.flows.run import draw, open_tracker, sentence
from stages.dataset import read_info
from stages.execution import Execution
from stages.recipe import Deviation, digest
from stages.tasks.classification.recipe import Classification
from stages.tasks.task import Net


@dataclass(frozen=True)
class Visitor:
    """A trained network that comes as a file.

    Attributes:
        setting: as of a run.
        recipe_name: of the network.
        net: what is tested.
        origin: where the weights are from.
    """

    setting: Setting
    recipe_name: str
    net: Net
    origin: str

    @property
    def name(self) -> str:
        """Its folder and its key in the tracking store."""
        return self.setting.name(self._identity, 0)

    @property
    def tags(self) -> dict[str, str]:
        """See `Setting.tags`."""
        model = self.net.foreign or self.net.recipe.model
        deviations = [Deviation("not trained here", f"weights of {self.origin}")]
        return self.setting.tags(self.recipe_name, self._identity, model, 1, deviations)

    @property
    def resolved(self) -> dict[str, object]:
        """What defines it."""
        return {"weights": self.origin, "recipe": self.net.recipe.resolved()}

    @property
    def _identity(self) -> str:
        return digest([self.origin, self.net.recipe.id])


def test_network(
    options: Options, protocols: tuple[str, ...], scales: tuple[int, ...], *, own: bool
) -> None:
    """Do what a command line of `pipeline.evaluate` asks for.

    Raises:
        PipelineError: see the stages.
    """
    workspace = Workspace.open(options.workspace)
    with Progress() as progress, contextlib.ExitStack() as stack:
        check(options.data)
        name, net, paper = _own(options, scales) if own else _foreign(options, protocols, scales)
        tracker = open_tracker(workspace, options.tracking_uri)
        dataset = made(find(options.data, workspace, progress), workspace, progress)
        setting = Setting(
            papers.find(None, paper), options.profile, dataset, read_info(dataset), seed=0
        )
        inline = options.launcher == "inline"
        launcher = launchers.inline() if inline else launchers.on_ray(options.workers)
        laboratory = Laboratory(
            workspace, tracker, progress, launchers.Lazy(launcher, stack), Execution()
        )
        visitor = Visitor(setting, name, net, _origin(options))
        evaluations = laboratory.test(visitor, [net], protocols)
        draw(workspace, tracker, progress)
        for evaluation in evaluations:
            progress.line("result", sentence(visitor, evaluation))


def _own(options: Options, scales: tuple[int, ...]) -> tuple[str, Net, str]:
    paper, _, recipe_name = options.model.partition(":")
    name, recipe = papers.find(None, paper).recipe(options.profile, recipe_name or None)
    assert isinstance(recipe, Classification)
    if scales:
        recipe = replace(recipe, test_scales=scales)
    return name, Net(recipe, options.weights), paper


def _foreign(
    options: Options, protocols: tuple[str, ...], scales: tuple[int, ...]
) -> tuple[str, Net, str]:
    from stages.tasks.classification.pretrained import expected_crop

    assert options.paper is not None
    crop = options.crop or expected_crop(options.model, options.weights, options.download)
    recipe = foreign_recipe(options.model, crop, options.resize, scales, protocols)
    return options.model, Net(recipe, options.weights, foreign=options.model), options.paper


def _origin(options: Options) -> str:
    """Name of the network, with a hash of its file where it has one."""
    if options.weights is None:
        return options.model
    return f"{options.model} from {options.weights.name}, sha256 {_sha256(options.weights)[:16]}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
