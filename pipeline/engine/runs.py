"""A run and its name: one recipe, or one ensemble, on one data set with one seed."""

import hashlib
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.tracking.store import EXPERIMENTS
from stages.dataset import DatasetInfo
from stages.paper import Paper, Profile
from stages.recipe import Deviation, Ensemble, Recipe, digest


@dataclass(frozen=True)
class Setting:
    """What all runs of a command share.

    Attributes:
        dataset: the data set's folder; `info` describes it.
        seed: of initial weights, order, augmentation and dropout.
    """

    paper: Paper
    profile: Profile
    dataset: Path
    info: DatasetInfo
    seed: int

    @property
    def experiment(self) -> str:
        """Its experiment in the tracking store."""
        return f"{EXPERIMENTS}{self.paper.year}"

    def name(self, identity: str, seed: int) -> str:
        """A readable name, unique to what defines the run."""
        data = re.sub(r"[^A-Za-z0-9._-]+", "-", self.info.name)
        unique = digest([identity, self.info.digest, seed])
        return f"{self.paper.name}-{self.profile}-{data}-seed{seed}-{unique}"

    def tags(
        self, recipe: str, recipe_id: str, model: str, nets: int, deviations: Sequence[Deviation]
    ) -> dict[str, str]:
        """What a figure of a run must not travel without."""
        return {
            "paper": self.paper.name,
            "year": str(self.paper.year),
            "model": model,
            "nets": str(nets),
            "profile": self.profile,
            "recipe_name": recipe,
            "recipe": recipe_id,
            "dataset": self.info.name,
            "dataset_digest": self.info.digest,
            "num_classes": str(len(self.info.classes)),
            "seed": str(self.seed),
            "code": code_version(),
            "deviations": "\n".join(f"{item.what}: {item.why}" for item in deviations),
        }


@dataclass(frozen=True)
class Run:
    """One training."""

    setting: Setting
    recipe_name: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """Its folder and its key in the tracking store."""
        return self.setting.name(self.recipe.id, self.setting.seed)

    @property
    def tags(self) -> dict[str, str]:
        """See `Setting.tags`."""
        recipe = self.recipe
        return self.setting.tags(self.recipe_name, recipe.id, recipe.model, 1, recipe.deviations)

    @property
    def resolved(self) -> dict[str, object]:
        """What defines it, as plain data."""
        return self.recipe.resolved()

    @property
    def protocols(self) -> tuple[str, ...]:
        """What it is tested with."""
        return self.recipe.protocols

    @property
    def members(self) -> "tuple[Run, ...]":
        """Itself, as an ensemble has several."""
        return (self,)

    @property
    def parent(self) -> "Run | None":
        """The training whose weights this one starts from."""
        if self.recipe.start is None:
            return None
        recipe = self.recipe.start.recipe
        return Run(self.setting, named(self.setting, recipe), recipe)


@dataclass(frozen=True)
class Fusion:
    """An ensemble of trainings, tested as one."""

    setting: Setting
    recipe_name: str
    ensemble: Ensemble

    @property
    def protocols(self) -> tuple[str, ...]:
        """What it and its members are tested with."""
        return self.ensemble.protocols

    @property
    def members(self) -> tuple[Run, ...]:
        """Its trainings, in the ensemble's order."""
        return tuple(
            Run(
                replace(self.setting, seed=self.setting.seed + member.seed),
                named(self.setting, member.recipe),
                member.recipe,
            )
            for member in self.ensemble.members
        )

    @property
    def name(self) -> str:
        """Its folder and its key in the tracking store."""
        return self.setting.name(self.ensemble.id, self.setting.seed)

    @property
    def resolved(self) -> dict[str, object]:
        """What defines it, as plain data."""
        return {"members": [run.recipe.resolved() for run in self.members]}

    @property
    def tags(self) -> dict[str, str]:
        """See `Setting.tags`."""
        models = " + ".join(run.recipe.model for run in self.members)
        deviations = [
            *self.ensemble.deviations,
            *(item for run in self.members for item in run.recipe.deviations),
        ]
        return self.setting.tags(
            self.recipe_name,
            self.ensemble.id,
            models,
            len(self.members),
            list(dict.fromkeys(deviations)),
        )


def run_of(setting: Setting, name: str, recipe: Recipe | Ensemble) -> Run | Fusion:
    """What a recipe's name in a paper stands for."""
    if isinstance(recipe, Ensemble):
        return Fusion(setting, name, recipe)
    return Run(setting, name, recipe)


def named(setting: Setting, recipe: Recipe) -> str:
    """The name that the paper's file gives to a recipe; its network's where it gives none."""
    for name, other in setting.paper.recipes[setting.profile].items():
        if isinstance(other, Recipe) and other.id == recipe.id:
            return name
    return recipe.model


def code_version() -> str:
    """The git revision of this checkout, with ``-dirty`` where files differ.

    Where git is not at hand, as in a submitted job, a hash of the source files.
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
        digest = hashlib.sha256()
        for folder in ("models", "stages", "cluster", "pipeline"):
            for path in sorted((root / folder).rglob("*.py")):
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
        return f"tree-{digest.hexdigest()[:12]}"
