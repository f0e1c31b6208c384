"""A run and its name: one recipe, one ensemble or one external network, on one data set with one seed."""

import hashlib
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pipeline.engine.data import Prepared
from pipeline.tracking.store import EXPERIMENTS
from stages.metrics import benchmark_of
from stages.paper import Paper, Profile
from stages.recipe import Deviation, Ensemble, Recipe, digest
from stages.tasks.task import Net


@dataclass(frozen=True)
class RunContext:
    """What all runs of a paper in one command share.

    Attributes:
        paper: the paper whose runs they are.
        profile: the scale.
        data: the data sets, by the role that recipes refer to them by.
        seed: decides initial weights, order, augmentation and dropout.
    """

    paper: Paper
    profile: Profile
    data: Mapping[str, Prepared]
    seed: int

    @property
    def experiment(self) -> str:
        """The experiment in the tracking store."""
        return f"{EXPERIMENTS}{self.paper.year}"


class AnyRun(Protocol):
    """What has a folder in the workspace and a run in the tracking store."""

    @property
    def context(self) -> RunContext:
        """What it shares with other runs."""

    @property
    def recipe_name(self) -> str:
        """The name in the paper's file, or the network's own."""

    @property
    def data(self) -> Prepared:
        """The data set that it trains and tests on."""

    @property
    def name(self) -> str:
        """Its folder and its key in the tracking store."""

    @property
    def tags(self) -> dict[str, str]:
        """The tags that must accompany its figures."""

    @property
    def resolved(self) -> Mapping[str, object]:
        """What defines it, as plain data."""


@dataclass(frozen=True)
class Run:
    """One training."""

    context: RunContext
    recipe_name: str
    recipe: Recipe

    @property
    def data(self) -> Prepared:
        """The data set that it trains and tests on."""
        return self.context.data[self.recipe.data]

    @property
    def name(self) -> str:
        """Its folder and its key in the tracking store."""
        ancestor_data = (self.context.data[recipe.data] for recipe in self.recipe.ancestors)
        ancestor_digests = [data.info.digest for data in ancestor_data]
        return _name(self.context, self.data, self.recipe.id, ancestor_digests)

    @property
    def tags(self) -> dict[str, str]:
        """The tags that must accompany its figures."""
        recipe = self.recipe
        return _tags(self, recipe.id, recipe.data, [recipe.model], recipe.deviations)

    @property
    def resolved(self) -> Mapping[str, object]:
        """What defines it, as plain data."""
        return self.recipe.resolved()

    @property
    def protocols(self) -> tuple[str, ...]:
        """How it is tested."""
        return self.recipe.protocols

    @property
    def members(self) -> "tuple[Run, ...]":
        """Itself; an ensemble has several."""
        return (self,)

    @property
    def parents(self) -> "tuple[Run, ...]":
        """The trainings whose weights this one starts from."""
        return tuple(
            Run(self.context, recipe_name(self.context.paper, self.context.profile, recipe), recipe)
            for recipe in (start.recipe for start in self.recipe.starts)
        )


@dataclass(frozen=True)
class EnsembleRun:
    """Several trainings, tested together as one."""

    context: RunContext
    recipe_name: str
    ensemble: Ensemble

    @property
    def data(self) -> Prepared:
        """The data set that it is tested on."""
        return self.context.data[self.ensemble.data]

    @property
    def protocols(self) -> tuple[str, ...]:
        """How it and its members are tested."""
        return self.ensemble.protocols

    @property
    def members(self) -> tuple[Run, ...]:
        """Its trainings, in the ensemble's order."""
        paper, profile = self.context.paper, self.context.profile
        return tuple(
            Run(
                replace(self.context, seed=self.context.seed + member.seed),
                recipe_name(paper, profile, member.recipe),
                member.recipe,
            )
            for member in self.ensemble.members
        )

    @property
    def name(self) -> str:
        """Its folder and its key in the tracking store."""
        return _name(self.context, self.data, self.ensemble.id)

    @property
    def resolved(self) -> Mapping[str, object]:
        """What defines it, as plain data."""
        return {"members": [run.recipe.resolved() for run in self.members]}

    @property
    def tags(self) -> dict[str, str]:
        """The tags that must accompany its figures."""
        deviations = [
            *self.ensemble.deviations,
            *(item for run in self.members for item in run.recipe.deviations),
        ]
        models = [run.recipe.model for run in self.members]
        ensemble = self.ensemble
        return _tags(self, ensemble.id, ensemble.data, models, list(dict.fromkeys(deviations)))


@dataclass(frozen=True)
class PretrainedRun:
    """A trained network given by its weights, tested here.

    Attributes:
        context: what it shares with other runs; the paper is the one whose row of the timeline it belongs to.
        recipe_name: the name of the network.
        net: what is tested.
        weights: where the weights come from.
    """

    context: RunContext
    recipe_name: str
    net: Net
    weights: str

    @property
    def data(self) -> Prepared:
        """The data set that it is tested on."""
        return self.context.data[self.net.origin.data]

    @property
    def name(self) -> str:
        """Its folder and its key in the tracking store."""
        return _name(self.context, self.data, self._identity)

    @property
    def tags(self) -> dict[str, str]:
        """The tags that must accompany its figures."""
        origin = self.net.origin
        deviations = [Deviation("not trained here", f"weights of {self.weights}")]
        return _tags(self, self._identity, origin.data, [origin.model], deviations)

    @property
    def resolved(self) -> Mapping[str, object]:
        """What defines it, as plain data."""
        return {"weights": self.weights, "recipe": self.net.origin.resolved()}

    @property
    def _identity(self) -> str:
        return digest([self.weights, self.net.origin.id])


def run_of(context: RunContext, name: str, recipe: Recipe | Ensemble) -> Run | EnsembleRun:
    """What a recipe's name in a paper stands for."""
    if isinstance(recipe, Ensemble):
        return EnsembleRun(context, name, recipe)
    return Run(context, name, recipe)


def recipe_name(paper: Paper, profile: Profile, recipe: Recipe) -> str:
    """The name that the paper's file gives to a recipe; otherwise the name of its network."""
    for name, other in paper.recipes[profile].items():
        if isinstance(other, Recipe) and other.id == recipe.id:
            return name
    return recipe.model


def _name(
    context: RunContext, data: Prepared, identity: str, ancestor_digests: Sequence[str] = ()
) -> str:
    """A readable name, unique to what defines the run.

    Args:
        context: what it shares with other runs.
        data: what it trains and tests on.
        identity: of its recipe.
        ancestor_digests: digests of the data that its parent runs were trained on; a parent trained on the
            same data adds nothing.
    """
    others = [other for other in ancestor_digests if other != data.info.digest]
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", data.info.name)
    unique = digest([identity, data.info.digest, context.seed, *others])
    return f"{context.paper.name}-{context.profile}-{words}-seed{context.seed}-{unique}"


def _tags(
    run: AnyRun, identity: str, role: str, models: Sequence[str], deviations: Sequence[Deviation]
) -> dict[str, str]:
    context, info = run.context, run.data.info
    return {
        "paper": context.paper.name,
        "year": str(context.paper.year),
        "model": " + ".join(models),
        "nets": str(len(models)),
        "profile": context.profile,
        "recipe_name": run.recipe_name,
        "recipe": identity,
        "dataset": info.name,
        "dataset_digest": info.digest,
        "benchmark": benchmark_of(role, [item.synset for item in info.classes]),
        "num_classes": str(len(info.classes)),
        "seed": str(context.seed),
        "code": code_version(),
        "deviations": "\n".join(f"{item.what}: {item.why}" for item in deviations),
    }


def code_version() -> str:
    """The git revision of this checkout, with ``-dirty`` if files differ.

    Where git is not available, as in a submitted job, it is a hash of the source files.
    """
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        return described.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        root = Path(__file__).parents[2]
        hashed = hashlib.sha256()
        for folder in ("models", "stages", "cluster", "pipeline"):
            for path in sorted((root / folder).rglob("*.py")):
                hashed.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
        return f"tree-{hashed.hexdigest()[:12]}"
