"""What the user sees: the plan, a line of progress now and then, and where the results are.

On a terminal, a table that stays in place; elsewhere, plain lines for logs and pipes.
"""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from stages.journal import Record, protocol_of
from stages.metrics import METRICS

LINE_SECONDS = 5.0


class Progress:
    """Prints lines, and the state of the training in between. A context manager."""

    def __init__(self) -> None:
        self._console = Console(soft_wrap=True, highlight=False, markup=False)
        self._live: Live | None = None
        self._printed = 0.0
        self._begun = time.time()
        self._total = self._epochs = 0
        self._tested: dict[str, str] = {}
        self._seconds_per_step = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_live()

    def line(self, stage: str, text: str) -> None:
        """Print one line."""
        self._end_live()
        self._console.print(f"{stage:<9} {text}")
        sys.stdout.flush()

    def count(self, stage: str, what: str, done: int, total: int) -> None:
        """Print how much of some work is done, now and then."""
        if done == total or time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            self.line(stage, f"{what} {done:,}/{total:,}")

    def record(self, record: Record) -> None:
        """Show a record of a training's journal."""
        if record["kind"] == "start":
            self._total, self._epochs = record["steps"], record["epochs"]
            self._tested = {}
        if record["time"] < self._begun:
            return  # written by an earlier command that was interrupted
        if record["kind"] == "start":
            workers = f"{record['world']} worker{'s' * (record['world'] > 1)}"
            begin = f"resumes at step {record['step']:,} of" if record["step"] else "begins:"
            self.line(
                "train",
                f"{begin} {self._total:,} steps in {self._epochs} epochs on {workers} ({record['device']})",
            )
        elif record["kind"] == "epoch":
            self._tested = _tested(record)
            self.line(
                "train", f"epoch {record['epoch'] + 1}/{self._epochs} done: {figures(record)}"
            )
        else:
            self._step(record)

    def _step(self, record: Record) -> None:
        # Smoothed, so that one slow step does not change the ETA much.
        weight = 0.1 if self._seconds_per_step else 1.0
        self._seconds_per_step += weight * (record["seconds_per_step"] - self._seconds_per_step)
        values = {
            "stage": "train",
            "epoch": f"{record['epoch'] + 1}/{self._epochs}",
            "step": f"{record['step']:,}/{self._total:,}",
            "images/s": f"{record['images_per_second']:,.0f}",
            "loss": f"{record['loss']:.3f}",
            **self._tested,
            "ETA": _clock((self._total - record["step"]) * self._seconds_per_step),
        }
        if self._console.is_terminal:
            table = Table(*values, box=None, pad_edge=False, header_style="dim")
            table.add_row(*values.values())
            if self._live is None:
                self._live = Live(console=self._console, refresh_per_second=4, transient=True)
                self._live.start()
            self._live.update(table)
        elif time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            parts = [f"{name} {value}" for name, value in values.items() if name != "stage"]
            self.line("train", "  ".join(parts))

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def figures(record: Record) -> str:
    """The figures of the test after an epoch, in words."""
    tested = ", ".join(f"{words} {value}" for words, value in _tested(record).items())
    if not tested:
        return "nothing to test it on"
    return f"{tested} ({protocol_of(record)}, n={record['n']:,})"


def _tested(record: Record) -> dict[str, str]:
    return {
        metric.words: f"{record[name]:.1f} {metric.unit}"
        for name, metric in METRICS.items()
        if metric.split == "val" and name in record
    }


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def duration(seconds: float) -> str:
    """A duration in words, rounded to about a tenth."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"
