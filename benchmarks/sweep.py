"""A sweep compared with the same trials run inline, one after another, on one CPU each: what Tune costs.

python -m benchmarks.sweep [--trials 8]

The ideal is the inline time divided by the number of trials that run at the same time. The output is the
ratio of the ideal to the sweep's time, from the first trial's start to the last one's end and with the start
of Ray and the trials' processes included; and the same for plain processes, which share caches, memory and
disk as the trials of a sweep do, but without Tune. Half of the inline trials run before the sweep and half
after it, because machines change their speed. Everything is at toy scale on the embedded images.
"""

import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
import tyro

from cluster.session import session
from cluster.tune import concurrency, sweep_on_ray
from pipeline.papers.alexnet.recipes import TOY_RECIPE
from stages import embedded
from stages.job import RunFolder, TrainJob
from stages.journal import Follower
from stages.shard import shard
from stages.sources import open_source
from stages.trial import Trial, run_trial


@dataclass(frozen=True)
class Options:
    """Time a sweep."""

    trials: int = 8
    """Trials in the sweep, each with its own seed."""
    epochs: int = 4
    """Epochs per trial."""


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
        inline_trials = _trials(root, "inline", options)
        half = options.trials // 2
        _run(inline_trials[:half])
        with session() as resources:
            at_once = concurrency(1, 1, resources)
            started = time.time()
            sweep_on_ray(_trials(root, "sweep", options), root / "scratch", resources)
            whole = time.time() - started
        _run(inline_trials[half:])
        inline = _seconds(inline_trials[:half]) + _seconds(inline_trials[half:])
        plain_trials = _trials(root, "plain", options)
        plain = [
            get_context("spawn").Process(target=_run, args=(plain_trials[place::at_once],))
            for place in range(at_once)
        ]
        for process in plain:
            process.start()
        for process in plain:
            process.join()
        swept, alone = _seconds(_trials(root, "sweep", options)), _seconds(plain_trials)
    ideal = inline / at_once
    print(f"{options.trials} trials of {options.epochs} epochs, {at_once} at a time")
    print(f"inline, one after another, one thread: {inline:.1f} s; ideal {ideal:.1f} s")
    print(
        f"plain processes, first step to last test: {alone:.1f} s, {ideal / alone:.2f} of the ideal"
    )
    print(f"sweep, first step to last test: {swept:.1f} s, {ideal / swept:.2f} of the ideal")
    print(f"sweep, including Tune's start: {whole:.1f} s, {ideal / whole:.2f} of the ideal")


def _trials(root: Path, name: str, options: Options) -> list[Trial]:
    recipe = replace(TOY_RECIPE, epochs=options.epochs)
    return [
        Trial(
            TrainJob(recipe, root / "dataset", RunFolder(root / name / str(seed)), seed),
            ("ten_crop",),
        )
        for seed in range(options.trials)
    ]


def _run(trials: Sequence[Trial]) -> None:
    torch.set_num_threads(1)
    for trial in trials:
        run_trial(trial)


def _seconds(trials: Sequence[Trial]) -> float:
    """From the start of the first training to the end of the last test."""
    starts = [next(Follower(trial.job.folder.journal).read())["time"] for trial in trials]
    ends = [trial.job.folder.evaluation("ten_crop").stat().st_mtime for trial in trials]
    return max(ends) - min(starts)


if __name__ == "__main__":
    main()
