"""A sweep: the runs of all arms of some claims, at the same time, and the verdicts."""

import functools
from collections.abc import Sequence
from dataclasses import replace

from pipeline.engine.arm_runs import ArmRuns
from pipeline.engine.command_line import Where
from pipeline.engine.plan import Planner
from pipeline.engine.runs import Run, RunContext, recipe_name
from pipeline.engine.search import best_rate
from pipeline.engine.workbench import Workbench
from pipeline.flows.report import draw
from stages.claim import Claim
from stages.errors import PipelineError
from stages.execution import Execution
from stages.ledger.arms import scaled_rates
from stages.paper import Profile
from stages.recipe import Recipe
from stages.report.tables import lines


def sweep(
    claims: Sequence[Claim],
    arms: Sequence[ArmRuns],
    where: Where,
    execution: Execution,
    *,
    profile: Profile,
    trials_per_gpu: int = 1,
    search: bool = False,
    plan: bool = False,
) -> None:
    """Train and test the arms of some claims, record everything, and print the verdicts.

    Args:
        claims: what is tested.
        arms: the runs that decide it.
        where: where the command works.
        execution: how it computes.
        profile: the scale.
        trials_per_gpu: how many trials share a GPU.
        search: whether each arm's own learning rate is searched first.
        plan: whether to print what would be done, and stop.

    Raises:
        PipelineError: see the stages; of a trial, after all others have ended.
    """
    roles = frozenset[str]().union(*(arm.recipe.roles for arm in arms))
    with Workbench(where, execution=execution, trials_per_gpu=trials_per_gpu) as bench:
        progress = bench.progress
        bench.check_data(roles)
        if not plan:
            _ = bench.tracker  # refuses a store that is not there, before anything is begun
        for claim in claims:
            progress.line("plan", f"{claim.id}: {claim.statement} ({claim.source})")
        planner = Planner(where, execution, bench.located)
        steps = planner.print_plan_of_arms(arms, profile, progress)
        if plan:
            return
        data = bench.prepared(roles)
        bench.workspace.check_room(planner.checkpoint_bytes(steps))

        def run(arm: ArmRuns, recipe: Recipe, seed: int) -> Run:
            return Run(RunContext(arm.paper, profile, data, seed), _name(arm, profile), recipe)

        recipes = {arm.recipe.id: arm.recipe for arm in arms}
        if search:
            for arm in arms:
                factor = best_rate(
                    bench.executor,
                    run(arm, arm.recipe, 0),
                    functools.partial(scaled_rates, arm.recipe),
                    arm.searched_by,
                )
                recipes[arm.recipe.id] = scaled_rates(arm.recipe, factor)
        runs, protocols = [], []
        # Seeds outermost: an interrupted sweep has complete pairs.
        for seed in range(max(arm.seeds for arm in arms)):
            for arm in arms:
                if seed < arm.seeds:
                    runs.append(run(arm, recipes[arm.recipe.id], seed))
                    protocols.append(arm.protocols)
        failed = bench.executor.sweep(runs, protocols)
        ledger = draw(bench.workspace, bench.tracker, progress)
        keys = {claim.key for claim in claims}
        asked = tuple(entry for entry in ledger.entries if entry.claim.key in keys)
        for line in lines(replace(ledger, entries=asked)):
            progress.line("verdict", line)
    if failed:
        raise PipelineError(
            f"{len(failed)} of {len(runs)} trials did not finish; the first error: "
            f"{next(iter(failed.values()))}",
            "rerun the same command to try them again; the finished ones are skipped",
        )


def _name(arm: ArmRuns, profile: Profile) -> str:
    """The paper's own name for a recipe, otherwise the arm's."""
    name = recipe_name(arm.paper, profile, arm.recipe)
    return arm.name if name == arm.recipe.model else name
