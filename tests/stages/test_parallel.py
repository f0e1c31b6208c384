"""Processes that do independent work."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from stages.parallel import IN_FLIGHT, processes
from tests.conftest import ROOT


def test_workers_have_the_environment_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that they are forked from started with an older one: keys set since were not seen."""
    for value in ("first", "second"):
        monkeypatch.setenv("A_KEY", value)
        assert set(processes(2)(os.getenv, ["A_KEY"] * 4)) == {value}
    monkeypatch.delenv("A_KEY")
    assert set(processes(2)(os.getenv, ["A_KEY"] * 4)) == {None}


def test_items_are_drawn_as_results_are_taken() -> None:
    """A data set of any size needs the memory of a few tasks."""
    drawn = []

    def items() -> Iterator[int]:
        for number in range(40):
            drawn.append(number)
            yield number

    taken = []
    for result in processes(2)(abs, items()):
        assert len(drawn) - len(taken) <= 2 * IN_FLIGHT
        taken.append(result)
    assert sorted(taken) == drawn == list(range(40))


@pytest.mark.parametrize("preload", [(), ("torch",)])
def test_a_process_has_one_thread(preload: tuple[str, ...]) -> None:
    """Two processes of two threads each are slower than one on two cores."""
    program = (
        "from stages.parallel import processes\n"
        "count = '__import__(\"torch\").get_num_threads()'\n"
        f"print(*set(processes(2, {preload})(eval, [count] * 2)))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    # Its own: what was preloaded in this process stays.
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
