"""A sweep: the runs of all arms of some claims, at the same time, and the verdicts."""

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import replace

from pipeline.ablate import ArmRuns, Options
from pipeline.engine import launchers
from pipeline.engine.data import check, find, made
from pipeline.engine.executor import Laboratory
from pipeline.engine.plan import START_SECONDS
from pipeline.engine.progress import Progress, duration
from pipeline.engine.runs import Run, Setting, named
from pipeline.engine.workspace import Workspace
from pipeline.flows.run import draw, open_tracker
from stages.claim import Claim
from stages.dataset import read_info
from stages.devices import default_device
from stages.errors import PipelineError
from stages.ledger.arms import scaled_rates
from stages.load.loader import steps_per_epoch
from stages.report.tables import lines
from stages.tasks.classification.recipe import Classification
from stages.training.cost import probe


def sweep(claims: Sequence[Claim], arms: Sequence[ArmRuns], options: Options) -> None:
    """Do what a command line of `pipeline.ablate` asks for.

    Raises:
        PipelineError: see the stages; after all other trials have ended.
    """
    workspace = Workspace.open(options.workspace)
    with Progress() as progress, contextlib.ExitStack() as stack:
        check(options.data)
        tracker = None if options.plan else open_tracker(workspace, options.tracking_uri)
        found = find(options.data, workspace, progress)
        for claim in claims:
            progress.line("plan", f"{claim.id}: {claim.statement} ({claim.source})")
        _say_plan(arms, found.counts["train"], found.classes, options, progress)
        if tracker is None:
            return
        dataset = made(found, workspace, progress)
        inline = options.launcher == "inline"
        launcher = (
            launchers.inline()
            if inline
            else launchers.on_ray(options.workers, options.trials_per_gpu)
        )
        laboratory = Laboratory(
            workspace, tracker, progress, launchers.Lazy(launcher, stack), options.execution
        )
        info = read_info(dataset)

        def run(arm: ArmRuns, recipe: Classification, seed: int) -> Run:
            setting = Setting(arm.paper, options.profile, dataset, info, seed)
            return Run(setting, _name(setting, arm), recipe)

        recipes = {arm.recipe.id: arm.recipe for arm in arms}
        if options.search:
            for arm in arms:
                factor = laboratory.best_rate(
                    run(arm, arm.recipe, 0),
                    functools.partial(scaled_rates, arm.recipe),
                    arm.searched_by,
                )
                recipes[arm.recipe.id] = scaled_rates(arm.recipe, factor)
        runs, protocols = [], []
        # Seeds outermost: a sweep that is stopped has whole pairs.
        for seed in range(max(arm.seeds for arm in arms)):
            for arm in arms:
                if seed < arm.seeds:
                    runs.append(run(arm, recipes[arm.recipe.id], seed))
                    protocols.append(arm.protocols)
        failed = laboratory.sweep(runs, protocols)
        ledger = draw(workspace, tracker, progress)
        keys = {claim.key for claim in claims}
        asked = tuple(e for e in ledger.entries if e.claim.key in keys)
        for line in lines(replace(ledger, entries=asked)):
            progress.line("verdict", line)
    if failed:
        raise PipelineError(
            f"{len(failed)} of {len(runs)} trials did not end; the first: {next(iter(failed.values()))}",
            "the same command tries them again and skips the others",
        )


def _name(setting: Setting, arm: ArmRuns) -> str:
    """The paper's own name of a recipe, else the arm's."""
    own = named(setting, arm.recipe)
    return arm.name if own == arm.recipe.model else own


def _say_plan(
    arms: Sequence[ArmRuns], images: int, classes: int, options: Options, progress: Progress
) -> None:
    seconds = 0.0
    for arm in arms:
        recipe = arm.recipe
        cost = probe(recipe, classes, default_device(), options.execution)
        steps = recipe.epochs * steps_per_epoch(images, recipe.batch_size, recipe.drop_last)
        one = steps * recipe.batch_size * cost.seconds
        seconds += one * arm.seeds
        progress.line(
            "plan",
            f"{arm.name}: {arm.seeds} runs of {steps:,} steps, about {duration(one)} each on "
            f"{cost.device}; tested with {' and '.join(arm.protocols)}",
        )
    total = seconds + START_SECONDS[options.launcher]
    runs = sum(arm.seeds for arm in arms)
    progress.line(
        "plan",
        f"{runs} runs, about {duration(total)} one after the other on this machine; runs that exist "
        f"already are reused, and on Ray as many run at a time as there is room for",
    )
