"""Follow a training's journal to the screen and to the tracking store while it grows."""

import threading
from collections.abc import Callable
from types import TracebackType

from pipeline.tracking import Tracker
from stages.journal import Follower, Record

POLL_SECONDS = 0.5
UPLOAD_SECONDS = 3.0


class Watch:
    """A thread that shows and records each new record; a context manager.

    A store that goes away in the middle never stops the training: the records wait, and what is still
    waiting at the end is sent by the next command, for the journal keeps it.
    """

    def __init__(
        self,
        follower: Follower,
        show: Callable[[Record], None],
        tracker: Tracker,
        run_id: str,
        warn: Callable[[str], None],
    ) -> None:
        self._follower, self._show = follower, show
        self._tracker, self._run_id, self._warn = tracker, run_id, warn
        self._waiting: list[Record] = []
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
        if self._waiting:
            self._warn(
                f"{len(self._waiting)} records wait in the journal; run the same command again to send them"
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
        for record in self._follower.read():
            self._show(record)
            self._waiting.append(record)

    def _upload(self) -> None:
        if not self._waiting:
            return
        try:
            self._tracker.log(self._run_id, self._waiting)
        except Exception as error:  # whatever the store's trouble, the training is worth more
            if not self._failing:
                self._warn(
                    f"the tracking store does not answer ({type(error).__name__}); training goes on"
                )
            self._failing = True
        else:
            self._waiting.clear()
            self._failing = False
