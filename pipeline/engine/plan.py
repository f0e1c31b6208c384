"""What a command would do, before anything is spent: time, memory, disk, money."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engine.executor import CHECKPOINT_BYTES_PER_PARAMETER
from pipeline.engine.progress import Progress, duration
from pipeline.run import Options
from stages.devices import default_device
from stages.errors import PipelineError
from stages.load.loader import steps_per_epoch
from stages.paper import Paper, Profile
from stages.recipe import Ensemble, Member
from stages.tasks.classification.recipe import Classification
from stages.training.cost import Cost, probe, reckon

# Seconds that starting Ray, and then each training on it with its test and record, take on two cores.
START_SECONDS = {"ray": 20.0, "inline": 5.0}
TRAINING_SECONDS = {"ray": 25.0, "inline": 5.0}

# 224-pixel crops of originals that one CPU core decodes and augments in a second (docs/results).
IMAGES_PER_CORE = 700


@dataclass(frozen=True)
class Step:
    """One training of a plan.

    Attributes:
        name: of the recipe.
        images: in the training split.
        seconds: of the training, loading left out.
    """

    paper: Paper
    name: str
    recipe: Classification
    images: int
    cost: Cost
    workers: int

    @property
    def steps(self) -> int:
        """Of the optimiser."""
        recipe = self.recipe
        return recipe.epochs * steps_per_epoch(self.images, recipe.batch_size, recipe.drop_last)

    @property
    def seconds(self) -> float:
        """Of training: (images of all steps) x (seconds an image) / workers."""
        return self.steps * self.recipe.batch_size * self.cost.seconds / self.workers

    @property
    def multiply_adds(self) -> float:
        """Of the whole training: a backward pass costs two forward ones."""
        return 3 * self.cost.multiply_adds * self.steps * self.recipe.batch_size


def trainings(recipe: Classification | Ensemble) -> list[Classification]:
    """All trainings behind a recipe, in the order in which they run, each once."""
    members = recipe.members if isinstance(recipe, Ensemble) else (Member(recipe),)
    found: dict[tuple[str, int], Classification] = {}
    for member in members:
        for one in (*member.recipe.ancestors, member.recipe):
            found.setdefault((one.id, member.seed), one)
    return list(found.values())


class Planner:
    """Reckons plans; each recipe is probed once.

    Args:
        options: the command line.
        counts: images in each split.
        classes: to tell apart.
        shard_bytes: that sharding will write.
    """

    def __init__(
        self, options: Options, counts: dict[str, int], classes: int, shard_bytes: int
    ) -> None:
        self._options, self._counts = options, counts
        self._classes, self._shard_bytes = classes, shard_bytes
        self._costs: dict[tuple[str, str, int], Cost] = {}

    def steps(self, papers: Sequence[Paper], profile: Profile) -> list[Step]:
        """The trainings of ``papers`` at a scale.

        Raises:
            PipelineError: no such recipe, or no such device.
        """
        found = []
        for paper in papers:
            name, recipe = paper.recipe(profile, self._options.recipe)
            for training in trainings(recipe):
                found.append(
                    Step(
                        paper,
                        name,
                        training,
                        self._counts["train"],
                        self._cost(training),
                        self._options.workers or 1,
                    )
                )
        return found

    def total(self, steps: Sequence[Step]) -> float:
        """Seconds of a whole command."""
        launcher = self._options.launcher
        fixed = START_SECONDS[launcher] + len(steps) * TRAINING_SECONDS[launcher]
        return fixed + sum(step.seconds for step in steps)

    def fitting(self, papers: Sequence[Paper], seconds: float, progress: Progress) -> Profile:
        """The largest profile that takes at most so long; says what is given up by it.

        Raises:
            PipelineError: not even the smallest fits.
        """
        scales: tuple[Profile, ...] = ("paper", "mini", "toy")
        for profile in scales:
            total = self.total(self.steps(papers, profile))
            if total <= seconds:
                progress.line(
                    "plan", f"profile {profile} fits into the budget: about {duration(total)}"
                )
                for paper in papers:
                    _, recipe = paper.recipe(profile, self._options.recipe)
                    for given_up in recipe.deviations:
                        progress.line("plan", f"{paper.name} gives up: {given_up.what}")
                return profile
            progress.line(
                "plan", f"profile {profile} does not fit: it would take {duration(total)}"
            )
        raise PipelineError(
            f"nothing fits into {duration(seconds)}: profile toy takes {duration(total)}",
            "raise --budget, name fewer papers, or use more or faster devices",
        )

    def checkpoint_bytes(self, steps: Sequence[Step]) -> int:
        """Largest room on the disk that the trainings take while they run, and their weights after."""
        largest = max(step.cost.parameters for step in steps)
        kept = sum(4 * step.cost.parameters for step in steps)
        return kept + CHECKPOINT_BYTES_PER_PARAMETER * largest

    def say(self, papers: Sequence[Paper], profile: Profile, progress: Progress) -> list[Step]:
        """Tell the plan; returns it."""
        steps = self.steps(papers, profile)
        for paper in papers:
            progress.line("plan", f"{paper.year} {paper.system}: {paper.title}")
            progress.line("plan", f"the authors' hardware and time: {paper.hardware}")
            _, recipe = paper.recipe(profile, self._options.recipe)
            for step in steps:
                if step.paper is paper:
                    self._say_step(step, profile, progress)
            progress.line(
                "plan",
                f"then test with {' and '.join(recipe.protocols)} on {self._counts['val']:,} images",
            )
        self._say_total(steps, progress)
        return steps

    def _say_step(self, step: Step, profile: Profile, progress: Progress) -> None:
        recipe, cost = step.recipe, step.cost
        progress.line(
            "plan",
            f"train {recipe.model} ({cost.parameters:,} parameters, profile {profile}) on "
            f"{step.images:,} images of {self._classes} classes: {recipe.epochs} epochs, "
            f"{step.steps:,} steps of {recipe.batch_size}, "
            f"{_quantity(step.multiply_adds)} multiply-adds in all",
        )
        at_once = math.ceil(recipe.batch_size / step.workers)
        at_once = min(at_once, self._options.execution.micro_batch or at_once)
        how = "measured now" if cost.measured else "from its data sheet, roughly"
        progress.line(
            "plan",
            f"  {duration(step.seconds)} at {step.workers / cost.seconds:,.0f} images/s on "
            f"{step.workers} x {cost.device} ({how}, loading left out); "
            f"about {_bytes(cost.memory(at_once))} of memory on each",
        )

    def _say_total(self, steps: Sequence[Step], progress: Progress) -> None:
        options = self._options
        total = self.total(steps)
        training = sum(step.seconds for step in steps)
        line = (
            f"about {duration(total)}: {duration(training)} of training, "
            f"the rest to start, test and record"
        )
        workers = options.workers or 1
        if options.price is not None:
            line += f"; {options.price * workers * total / 3600:,.2f} at {options.price:g} an hour and device"
        progress.line("plan", line)
        fastest = max(step.workers / step.cost.seconds for step in steps)
        cores = math.ceil(fastest / IMAGES_PER_CORE)
        if cores > (os.cpu_count() or 1):
            progress.line(
                "plan",
                f"to keep up, the loaders need about {cores} CPU cores (224-pixel crops of originals)",
            )
        progress.line(
            "plan",
            f"disk: {_bytes(self._shard_bytes)} of shards to write, "
            f"up to {_bytes(self.checkpoint_bytes(steps))} of checkpoints",
        )

    def _cost(self, recipe: Classification) -> Cost:
        knobs = str(sorted(recipe.knobs.items()))
        key = (recipe.model, knobs, recipe.augmentation.crop)
        if key not in self._costs:
            device = self._options.device
            self._costs[key] = (
                probe(recipe, self._classes, default_device(), self._options.execution)
                if device is None
                else reckon(recipe, self._classes, device)
            )
        return self._costs[key]


def _quantity(value: float) -> str:
    """A large number with its SI prefix."""
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:,.0f} "


def _bytes(value: int) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
