"""The best learning rate of an arm: searched once, and kept."""

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

# What learning rates are multiplied with, and the seed of the trainings.
RATE_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
SEARCH_SEED = 1_000_000


def best_rate(executor: Executor, run: Run, arm: Callable[[float], Recipe], metric: str) -> float:
    """The factor on an arm's learning rates that gives the best figure.

    Args:
        executor: trains what the arm starts from, and has the workspace and the tracker.
        run: the arm's run as it stands. The search has a seed of its own, which no verdict uses.
        arm: gives the arm's recipe at a factor.
        metric: the name of the figure that should be good.

    Raises:
        PipelineError: the arm trains at no factor.
    """
    folder = executor.workspace.search(run.name)
    kept = folder / f"{metric}.json"
    with executor.workspace.lock(f"search-{run.name}"):
        if not kept.is_file():
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
            write_atomically(kept, json.dumps(figures, indent=1) + "\n")
            for job in jobs:
                shutil.rmtree(job.folder.root, ignore_errors=True)
    figures = json.loads(kept.read_text())
    kind = METRICS[metric]
    best = min(figures, key=lambda factor: kind.sign * figures[factor])
    if not math.isfinite(figures[best]):
        kept.unlink()
        raise PipelineError(
            f"{run.recipe_name} does not train at any of its rates times {', '.join(figures)}",
            "leave it out of --claims, or search by hand",
        )
    context = run.context
    executor.tracker.searched(
        context.experiment, run.name, run.tags, arm(float(best)).id, metric, figures
    )
    said = ", ".join(f"x{factor}: {figure:.1f} {kind.unit}" for factor, figure in figures.items())
    executor.progress.line("search", f"{run.recipe_name}: rates x{best} ({said})")
    return float(best)
