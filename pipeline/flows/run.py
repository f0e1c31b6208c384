"""The main job: from a source of images to a measured error in the timeline, stage by stage.

Each stage leaves finished files in the workspace under a name made from what defines them. So a rerun finds
them, and an interrupted command resumes where it stopped.
"""

from collections.abc import Sequence

from pipeline.engine.command_line import Stage, Where
from pipeline.engine.executor import Executor
from pipeline.engine.plan import Planner, wanted_of
from pipeline.engine.runs import EnsembleRun, Run, RunContext, run_of
from pipeline.engine.workbench import Workbench
from pipeline.flows.report import draw, print_where, sentence
from stages.errors import PipelineError
from stages.execution import Execution
from stages.measurement import Evaluation
from stages.paper import Paper, Profile


def reproduce(
    papers: Sequence[Paper],
    where: Where,
    execution: Execution,
    *,
    profile: Profile,
    recipe: str | None = None,
    seed: int = 0,
    redo: Stage | None = None,
    plan: bool = False,
    budget: float | None = None,
    device: str | None = None,
    price: float | None = None,
) -> None:
    """Train and test some papers' recipes, record everything, and draw the timeline.

    Args:
        papers: whose recipes.
        where: where the command works.
        execution: how it computes.
        profile: the scale.
        recipe: the name of a recipe; None for the headline's.
        seed: decides initial weights, order, augmentation and dropout.
        redo: a finished stage to redo.
        plan: whether to print what would be done, and stop.
        budget: seconds to spend, which determine the profile; None to keep it.
        device: see `Planner`.
        price: see `Planner`.

    Raises:
        PipelineError: see the stages; with several papers, after all were tried.
    """
    with Workbench(where, execution=execution, redo=None if plan else redo) as bench:
        workspace, progress = bench.workspace, bench.progress
        planner = Planner(where, execution, bench.located, device=device, price=price)
        bench.check_data(frozenset[str]().union(*(paper.roles for paper in papers)))
        if not plan:
            _ = bench.tracker  # refuses an unreachable store before any work starts
        if budget is not None:
            profile = planner.fitting(papers, recipe, budget, progress)
        wanted = wanted_of(papers, profile, recipe)
        steps = planner.print_plan_of_papers(wanted, progress)
        if plan:
            return
        data = bench.prepared(frozenset[str]().union(*(one.recipe.roles for one in wanted)))
        workspace.check_room(planner.checkpoint_bytes(steps))
        runs = [
            run_of(RunContext(one.paper, profile, data, seed), one.name, one.recipe)
            for one in wanted
        ]
        errors_by_run = {}
        if len(runs) > 1 and profile == "toy" and where.workers is None and redo is None:
            errors_by_run = _train_in_parallel(runs, bench.executor)
        results: list[tuple[Run | EnsembleRun, Evaluation]] = []
        failed = []
        for run in runs:
            errors = [errors_by_run[m.name] for m in run.members if m.name in errors_by_run]
            try:
                if not errors:
                    results += [(run, evaluation) for evaluation in bench.executor.run(run)]
            except PipelineError as error:
                if len(runs) == 1:
                    raise
                errors = [str(error)]
            if errors:
                failed.append(run.context.paper.name)
                progress.line("error", f"{failed[-1]}: {errors[0]}")
        draw(workspace, bench.tracker, progress)
        for run, evaluation in results:
            progress.line("result", sentence(run, evaluation))
        print_where(workspace, bench.tracker, runs[-1].context.experiment, progress)
    if failed:
        raise PipelineError(
            f"{len(failed)} of {len(runs)} papers did not finish: {', '.join(failed)}",
            "the lines above say why; rerun the same command to resume them; the finished ones are skipped",
        )


def _train_in_parallel(runs: Sequence[Run | EnsembleRun], executor: Executor) -> dict[str, str]:
    """Train several papers' recipes as a sweep, which keeps every core busy and reuses its processes.

    Returns:
        What went wrong, by the name of the run.
    """
    wanted: dict[str, tuple[Run, Sequence[str]]] = {}
    for run in runs:
        for member in run.members:
            if not member.parents:
                wanted[member.name] = member, run.protocols
            for parent in member.parents:  # the member itself is trained afterwards
                wanted.setdefault(parent.name, (parent, ()))
    return executor.sweep(*zip(*wanted.values(), strict=True))
