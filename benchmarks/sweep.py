"""A sweep against the same trials one after the other, inline, with one CPU each: what Tune costs.

python -m benchmarks.sweep [--trials 8]

The ideal is the inline time divided by the trials that run at the same time. Told are the ratio of the
ideal to the sweep's time from its first trial's start to its last one's end, and to its time with the
start of Ray and of the trials' processes. Everything is at toy scale on the embedded images.
"""

import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from cluster.session import session
from cluster.tune import concurrency, sweep_on_ray
from pipeline.papers.alexnet import TOY_RECIPE
from stages import embedded
from stages.ablate import Trial, run_trial
from stages.journal import Follower
from stages.shard import shard
from stages.sources import open_source
from stages.train import TrainJob


@dataclass(frozen=True)
class Options:
    """Time a sweep."""

    trials: int = 8
    """Of the sweep, each with a seed of its own."""
    epochs: int = 4
    """Of each trial."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}"
    )
    print(f"load {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        embedded.generate(root / "source")
        shard(open_source(root / "source"), root / "dataset")
        with session() as resources:
            at_once = concurrency(1, 1, resources)
            started = time.time()
            sweep_on_ray(_trials(root, "sweep", options), root / "scratch", resources)
            whole = time.time() - started
        torch.set_num_threads(1)
        inline_trials = _trials(root, "inline", options)
        started = time.time()
        for trial in inline_trials:
            run_trial(trial)
        inline = time.time() - started
        first, last = _span(_trials(root, "sweep", options))
    ideal = inline / at_once
    print(f"{options.trials} trials of {options.epochs} epochs, {at_once} at a time")
    print(f"inline, one after the other, one thread: {inline:.1f} s; ideal {ideal:.1f} s")
    print(
        f"sweep, first step to last test: {last - first:.1f} s, {ideal / (last - first):.2f} of ideal"
    )
    print(f"sweep, Tune's start included: {whole:.1f} s, {ideal / whole:.2f} of ideal")


def _trials(root: Path, name: str, options: Options) -> list[Trial]:
    recipe = replace(TOY_RECIPE, epochs=options.epochs)
    return [
        Trial(TrainJob(recipe, root / "dataset", root / name / str(seed), seed), ("ten_crop",))
        for seed in range(options.trials)
    ]


def _span(trials: Sequence[Trial]) -> tuple[float, float]:
    """When the first training began and the last test ended."""
    starts = [next(Follower(trial.job.journal).read())["time"] for trial in trials]
    ends = [(trial.job.results / "ten_crop.json").stat().st_mtime for trial in trials]
    return min(starts), max(ends)


if __name__ == "__main__":
    main()
