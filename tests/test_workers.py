"""Processes that do independent work."""

import os

import pytest

from stages.workers import processes


def test_workers_have_the_environment_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that they are forked from started with an older one: keys set since were not seen."""
    for value in ("first", "second"):
        monkeypatch.setenv("A_KEY", value)
        assert set(processes(2)(os.getenv, ["A_KEY"] * 4)) == {value}
    monkeypatch.delenv("A_KEY")
    assert set(processes(2)(os.getenv, ["A_KEY"] * 4)) == {None}
