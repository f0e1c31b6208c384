"""Follow the journals of trainings as they grow: to the terminal and to the tracking store."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from pipeline.tracking.store import Tracker
from stages.journal import Follower, Record

POLL_SECONDS = 0.5
UPLOAD_SECONDS = 3.0


class Watch:
    """A thread that shows and records each new record; a context manager.

    A store that becomes unreachable never stops the training: the records wait, and what is still waiting at
    the end is sent by the next command, since the journal keeps it.

    Args:
        journals: the files to follow, by the run in the tracking store.
        show: receives the run and the record.
        tracker: the tracking store.
        warn: receives warnings for the user.
    """

    def __init__(
        self,
        journals: Mapping[str, Path],
        show: Callable[[str, Record], None],
        tracker: Tracker,
        warn: Callable[[str], None],
    ) -> None:
        self._followers = {run_id: Follower(path) for run_id, path in journals.items()}
        self._show, self._tracker, self._warn = show, tracker, warn
        self._waiting: dict[str, list[Record]] = {run_id: [] for run_id in journals}
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self._upload()
        if waiting := sum(map(len, self._waiting.values())):
            self._warn(
                f"{waiting} records not sent to the tracking store yet (kept in the journal); rerun the same "
                f"command to send them"
            )

    def _run(self) -> None:
        polls = 0
        while not self._stop.wait(POLL_SECONDS):
            self._look()
            polls += 1
            if polls * POLL_SECONDS >= UPLOAD_SECONDS:
                polls = 0
                self._upload()

    def _look(self) -> None:
        for run_id, follower in self._followers.items():
            for record in follower.read():
                self._show(run_id, record)
                self._waiting[run_id].append(record)

    def _upload(self) -> None:
        for run_id, records in self._waiting.items():
            if not records:
                continue
            try:
                self._tracker.log(run_id, records)
            except (
                Exception
            ) as error:  # whatever is wrong with the store, the training matters more
                if not self._failing:
                    self._warn(
                        f"the tracking store is not responding ({type(error).__name__}); "
                        f"the training continues"
                    )
                self._failing = True
                return
            records.clear()
            self._failing = False
