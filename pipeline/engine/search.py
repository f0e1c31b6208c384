"""The best learning rate of an arm: searched for once, then saved."""

import json
import math
import shutil
from collections.abc import Callable

from pipeline.engine.executor import Executor
from pipeline.engine.runs import Run
from stages.errors import PipelineError
from stages.job import RunFolder, TrainJob
from stages.metrics import METRICS
from stages.recipe import Recipe
from stages.storage import write_atomically

# The factors that learning rates are multiplied by, and the seed of the trainings.
RATE_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
SEARCH_SEED = 1_000_000


def best_rate(executor: Executor, run: Run, arm: Callable[[float], Recipe], metric: str) -> float:
    """The factor on an arm's learning rates that gives the best figure.

    Args:
        executor: trains what the arm starts from, and provides the workspace and the tracker.
        run: the arm's run, unchanged. The search has its own seed, which no verdict uses.
        arm: returns the arm's recipe for a factor.
        metric: the name of the figure to optimise.

    Raises:
        PipelineError: the arm does not train at any factor.
    """
    folder = executor.workspace.search(run.name)
    result_file = folder / f"{metric}.json"
    with executor.workspace.lock(f"search-{run.name}"):
        if not result_file.is_file():
            starts = executor.starts(run)
            jobs = [
                TrainJob(
                    arm(factor),
                    run.data.folder,
                    RunFolder(folder / f"{factor:g}"),
                    SEARCH_SEED,
                    starts=starts,
                    execution=executor.execution,
                )
                for factor in RATE_FACTORS
            ]
            reached = executor.launcher().search(jobs, executor.workspace.scratch, metric)
            figures = dict(zip(map(str, RATE_FACTORS), reached, strict=True))
            write_atomically(result_file, json.dumps(figures, indent=1) + "\n")
            for job in jobs:
                shutil.rmtree(job.folder.root, ignore_errors=True)
    figures = json.loads(result_file.read_text())
    kind = METRICS[metric]
    best = min(figures, key=lambda factor: kind.sign * figures[factor])
    if not math.isfinite(figures[best]):
        result_file.unlink()
        raise PipelineError(
            f"{run.recipe_name} does not train with its learning rates multiplied by any of "
            f"{', '.join(figures)}",
            "leave its claims out of --claims, or search for a rate by hand",
        )
    context = run.context
    executor.tracker.searched(
        context.experiment, run.name, run.tags, arm(float(best)).id, metric, figures
    )
    summary = ", ".join(
        f"x{factor}: {figure:.1f} {kind.unit}" for factor, figure in figures.items()
    )
    executor.progress.line("search", f"{run.recipe_name}: rates x{best} ({summary})")
    return float(best)
