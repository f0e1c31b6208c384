"""What a command would do, before it does it: time, memory, disk space, cost."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.engine.arm_runs import ArmRuns
from pipeline.engine.command_line import Where
from pipeline.engine.data import Located
from pipeline.engine.progress import Progress, duration
from pipeline.engine.runs import recipe_name
from stages.devices import default_device
from stages.errors import PipelineError
from stages.execution import Execution
from stages.job import Cost
from stages.paper import PROFILES, Paper, Profile
from stages.recipe import Ensemble, Member, Recipe
from stages.tasks import task_of

# Seconds to start the launcher on two cores, and then to start, test and record each training.
START_SECONDS = {"ray": 20.0, "inline": 5.0}
TRAINING_SECONDS = {"ray": 25.0, "inline": 5.0}

# 224-pixel crops of originals that one CPU core decodes and augments per second (docs/results).
IMAGES_PER_CORE = 700

# Weights and velocities in float32, for two checkpoints, one being written, and the final weights.
CHECKPOINT_BYTES_PER_PARAMETER = 4 * (3 * 2 + 1)


@dataclass(frozen=True)
class Step:
    """The trainings of one recipe in a plan, which differ in their seeds.

    Attributes:
        paper: the name of the paper whose runs they are.
        name: what distinguishes the recipe from others.
        recipe: what is trained.
        cost: what one training costs on one device.
        workers: how many devices share it.
        runs: how many trainings there are.
    """

    paper: str
    name: str
    recipe: Recipe
    cost: Cost
    workers: int
    runs: int = 1

    @property
    def seconds(self) -> float:
        """How long one training takes."""
        return self.cost.total_seconds / self.workers


@dataclass(frozen=True)
class Wanted:
    """What a command trains for one recipe, or one ensemble.

    Attributes:
        paper: whose runs they are; the same recipe of another paper is another run.
        name: what distinguishes the recipe from others.
        recipe: what is trained, after everything that it starts from.
        profile: the scale.
        seeds: how many runs there are, of successive seeds.
    """

    paper: Paper
    name: str
    recipe: Recipe | Ensemble
    profile: Profile
    seeds: int = 1


def trainings(recipe: Recipe | Ensemble, seeds: int = 1) -> list[tuple[Recipe, int]]:
    """All trainings behind a recipe, in the order in which they run, each once, with their seeds."""
    members = recipe.members if isinstance(recipe, Ensemble) else (Member(recipe),)
    by_id: dict[tuple[str, int], tuple[Recipe, int]] = {}
    for seed in range(seeds):
        for member in members:
            for one in (*member.recipe.ancestors, member.recipe):
                by_id.setdefault((one.id, seed + member.seed), (one, seed + member.seed))
    return list(by_id.values())


class Planner:
    """Makes plans; the cost of each recipe is computed once.

    Args:
        where: where the command computes.
        execution: how it computes.
        located: returns the images for a role.
        device: the name of a device whose data sheet is used; None to measure on this machine.
        price: what a device costs per hour; None to print no cost.
    """

    def __init__(
        self,
        where: Where,
        execution: Execution,
        located: Callable[[str], Located],
        *,
        device: str | None = None,
        price: float | None = None,
    ) -> None:
        self._where, self._execution, self._located = where, execution, located
        self._device, self._price = device, price
        self._costs: dict[str, Cost] = {}

    def steps(self, wanted: Sequence[Wanted]) -> list[Step]:
        """All trainings that a command needs, each once.

        Raises:
            PipelineError: there is no such device.
        """
        seeds_by_recipe: dict[tuple[str, str], tuple[Wanted, Recipe, set[int]]] = {}
        for one in wanted:
            for recipe, seed in trainings(one.recipe, one.seeds):
                key = one.paper.name, recipe.id
                seeds_by_recipe.setdefault(key, (one, recipe, set()))[2].add(seed)
        return [
            Step(
                one.paper.name,
                one.name if recipe is one.recipe else recipe_name(one.paper, one.profile, recipe),
                recipe,
                self._cost(recipe),
                self._where.workers or 1,
                len(seeds),
            )
            for one, recipe, seeds in seeds_by_recipe.values()
        ]

    def total(self, steps: Sequence[Step]) -> float:
        """Seconds for a whole command, one training at a time."""
        launcher = self._where.launcher
        runs = sum(step.runs for step in steps)
        trained = sum(step.runs * step.seconds for step in steps)
        return START_SECONDS[launcher] + runs * TRAINING_SECONDS[launcher] + trained

    def fitting(
        self, papers: Sequence[Paper], recipe: str | None, seconds: float, progress: Progress
    ) -> Profile:
        """The largest profile that fits into a time; prints what it gives up.

        Raises:
            PipelineError: not even the smallest profile fits.
        """
        for profile in reversed(PROFILES):
            wanted = wanted_of(papers, profile, recipe)
            total = self.total(self.steps(wanted))
            if total <= seconds:
                progress.line(
                    "plan", f"profile {profile} fits the budget: it takes about {duration(total)}"
                )
                for one in wanted:
                    for given_up in one.recipe.deviations:
                        progress.line("plan", f"{one.paper.name} gives up: {given_up.what}")
                return profile
            progress.line(
                "plan", f"profile {profile} does not fit: it would take {duration(total)}"
            )
        raise PipelineError(
            f"nothing fits into {duration(seconds)}: profile toy takes {duration(total)}",
            "raise --budget, name fewer papers, or use more or faster devices",
        )

    def checkpoint_bytes(self, steps: Sequence[Step]) -> int:
        """The most disk space that the trainings take: their weights, and the checkpoints of the largest."""
        largest = max(step.cost.parameters for step in steps)
        weight_bytes = sum(4 * step.runs * step.cost.parameters for step in steps)
        return weight_bytes + CHECKPOINT_BYTES_PER_PARAMETER * largest

    def print_plan_of_papers(self, wanted: Sequence[Wanted], progress: Progress) -> list[Step]:
        """Print the plan of some papers' recipes; returns it."""
        steps = self.steps(wanted)
        for one in wanted:
            paper, recipe = one.paper, one.recipe
            progress.line("plan", f"{paper.year} {paper.system}: {paper.title}")
            progress.line("plan", f"the authors' hardware and time: {paper.hardware}")
            for step in steps:
                if step.paper == paper.name:
                    self._print_training(step, one.profile, progress)
            images = self._located(recipe.data).counts["val"]
            progress.line(
                "plan", f"then test with {' and '.join(recipe.protocols)} on {images:,} images"
            )
        progress.line("plan", self._total_in_words(steps))
        self._print_needs(steps, progress)
        return steps

    def print_plan_of_arms(
        self, arms: Sequence[ArmRuns], profile: Profile, progress: Progress
    ) -> list[Step]:
        """Print the plan of some claims' arms, with the trainings that they start from; returns it."""
        wanted = [Wanted(arm.paper, arm.name, arm.recipe, profile, arm.seeds) for arm in arms]
        steps = self.steps(wanted)
        tests = {arm.recipe.id: " and ".join(arm.protocols) for arm in arms}
        for step in steps:
            tested = tests.get(step.recipe.id)
            what = f"tested with {tested}" if tested else "others start from its weights"
            progress.line(
                "plan",
                f"{step.name}: {step.runs} runs of {step.cost.steps:,} steps, about "
                f"{duration(step.seconds)} each on {step.workers} x {step.cost.device}, "
                f"{_bytes(self._memory(step))} of memory on each; {what}",
            )
        progress.line(
            "plan",
            f"{sum(step.runs for step in steps)} runs, about {duration(self.total(steps))} if run one at a "
            f"time on this machine; existing runs are reused, and on Ray as many run in parallel as fit",
        )
        self._print_needs(steps, progress)
        return steps

    def _print_training(self, step: Step, profile: Profile, progress: Progress) -> None:
        recipe, cost = step.recipe, step.cost
        located = self._located(recipe.data)
        times = f", {step.runs} times with different seeds" if step.runs > 1 else ""
        progress.line(
            "plan",
            f"train {recipe.model} ({cost.parameters:,} parameters, profile {profile}) on "
            f"{located.counts['train']:,} images of {located.classes} classes: {recipe.epochs} epochs, "
            f"{cost.steps:,} steps of {cost.batch_size}, "
            f"{_quantity(cost.total_multiply_adds)} multiply-adds in total{times}",
        )
        how = "measured just now" if cost.measured else "a rough estimate from the data sheet"
        progress.line(
            "plan",
            f"  {duration(step.seconds)} at {step.workers / cost.seconds:,.0f} images/s on "
            f"{step.workers} x {cost.device} ({how}, excluding data loading); "
            f"about {_bytes(self._memory(step))} of memory on each",
        )

    def _memory(self, step: Step) -> int:
        """Bytes on each worker's device."""
        all_of_a_worker = math.ceil(step.cost.batch_size / step.workers)
        at_once = step.recipe.at_once(self._execution, step.workers) or all_of_a_worker
        return step.cost.memory(min(all_of_a_worker, at_once))

    def _total_in_words(self, steps: Sequence[Step]) -> str:
        total = self.total(steps)
        training = sum(step.runs * step.seconds for step in steps)
        words = (
            f"about {duration(total)}: {duration(training)} of training, "
            f"the rest to start, test and record"
        )
        if self._price is not None:
            workers, hours = self._where.workers or 1, total / 3600
            words += (
                f"; cost: {self._price * workers * hours:,.2f} "
                f"({workers} x {hours:.2f} h x {self._price:g} per hour)"
            )
        return words

    def _print_needs(self, steps: Sequence[Step], progress: Progress) -> None:
        fastest = max(step.workers / step.cost.seconds for step in steps)
        cores = math.ceil(fastest / IMAGES_PER_CORE)
        if cores > (os.cpu_count() or 1):
            progress.line(
                "plan",
                f"to keep up, the loaders need about {cores} CPU cores (224-pixel crops of originals)",
            )
        located = [self._located(role) for role in {step.recipe.data for step in steps}]
        to_shard = sum({one.dataset: one.bytes for one in located}.values())
        progress.line(
            "plan",
            f"disk: {_bytes(to_shard)} of shards to write, "
            f"up to {_bytes(self.checkpoint_bytes(steps))} of checkpoints",
        )

    def _cost(self, recipe: Recipe) -> Cost:
        if recipe.id not in self._costs:
            located = self._located(recipe.data)
            self._costs[recipe.id] = task_of(recipe).cost(
                recipe,
                located.counts["train"],
                located.classes,
                self._device or default_device(),
                self._execution,
            )
        return self._costs[recipe.id]


def wanted_of(papers: Sequence[Paper], profile: Profile, recipe: str | None) -> list[Wanted]:
    """The requested recipes of some papers; the headlines' if none is named.

    Raises:
        PipelineError: a paper has no recipe with that name at that scale.
    """
    return [Wanted(paper, *paper.recipe(profile, recipe), profile) for paper in papers]


def _quantity(value: float) -> str:
    """A large number with its SI prefix."""
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:,.0f} "


def _bytes(value: int) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
