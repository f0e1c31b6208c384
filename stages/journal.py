"""The journal of a run: one JSON record per line, appended by the trainer, followed by its readers.

It is the only path from a worker to the screen and the tracking store, so training never waits for either,
and neither loses a point: a reader that was interrupted resumes where it stopped.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Journal:
    """Appends records. Every record has ``kind``, ``step`` and ``time`` (seconds since the epoch)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = path.open("a", buffering=1)
        if torn:  # the previous writer was killed in the middle of a line
            self._file.write("\n")

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one record, as a whole line at once."""
        self._file.write(
            json.dumps({"kind": kind, "step": step, "time": time.time(), **values}) + "\n"
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Follower:
    """Reads a journal while it grows.

    A run that was killed repeats the steps since its last checkpoint, bit for bit. Their records then occur
    twice, and the follower skips the second ones.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._last: dict[str, int] = {}

    def read(self) -> Iterator[Record]:
        """The complete records appended since the last call, without repeats."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._position += end
        for line in data[:end].splitlines():
            try:
                record: Record = json.loads(line)
            except ValueError:
                continue  # a torn line, whose record was written again after the run resumed
            # Every start is reported, even at a step that was reached before.
            if record["kind"] == "start" or record["step"] > self._last.get(record["kind"], -1):
                self._last[record["kind"]] = record["step"]
                yield record


def protocol_of(epoch: Record) -> str:
    """How the figures in the record of an epoch were tested; "" if nothing was.

    Journals were once a classifier's alone, whose figures are the centre crop's.
    """
    return str(epoch.get("protocol", "centre_crop" if "error_top1" in epoch else ""))
