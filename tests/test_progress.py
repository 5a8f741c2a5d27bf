from __future__ import annotations

import io
import sys

import pytest

from safety_tasks.directions import Direction
from safety_tasks.points import ORIGIN, Point
from safety_tasks.progress import PointsBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *, quiet: bool = False) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with PointsBar(3, quiet=quiet) as bar:
        bar.advance(ORIGIN, 0.0)
        bar.advance(Point(Direction(0), -0.25), None)
        bar.advance(Point(Direction(0), 0.5), 0.5)
    return stream.getvalue()


def test_a_terminal_sees_the_rate_here_and_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    last = drawn(monkeypatch, Terminal()).rsplit("\r", 1)[-1]
    assert "3/3" in last and "ASR 50% at alpha +0.50, 25% so far" in last


def test_nothing_is_drawn_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert drawn(monkeypatch, io.StringIO()) == "", "no terminal"
    assert drawn(monkeypatch, Terminal(), quiet=True) == "", "asked for quiet"
    monkeypatch.setenv("CI", "true")
    assert drawn(monkeypatch, Terminal()) == "", "CI"


def test_a_terminal_is_told_a_line_and_nobody_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    for stream, told in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with PointsBar(3, quiet=False) as bar:
            bar.advance(ORIGIN, 0.0)
            bar.say("1 of 3 points done, the last in 14 s: about 28 s more")
            bar.say("")
        assert ("about 28 s more\n" in stream.getvalue()) is told
