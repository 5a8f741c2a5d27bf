"""Budget: the time that a session may spend on measuring. Pace: how long the rest of one measurement takes.

Time is counted while a model loads, answers or is judged, and over all models of a session. A measurement asks between
two points, and stops before one whose answers must be generated once the time is spent. What the journal holds is read
back whatever the time, and one new point a session is always measured, so that the same command, run again, gets
further. Not covered: judges that are models read when the points are done, and no estimate holds their time.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from safety_tasks.errors import InvalidSetting

_DURATION = re.compile(
    r"(?=\S)(?:(?P<h>\d+(?:\.\d+)?)h)?\s*(?:(?P<m>\d+(?:\.\d+)?)m)?\s*(?:(?P<s>\d+(?:\.\d+)?)s?)?", re.IGNORECASE
)
_UNITS = {"h": 3600, "m": 60, "s": 1}


def seconds_of(text: str) -> float:
    """Seconds of ``15m``, ``90s``, ``2h``, ``1h30m`` or ``900``; raises InvalidSetting."""
    found = _DURATION.fullmatch(text.strip())
    given = {unit: value for unit, value in found.groupdict().items() if value} if found else {}
    seconds = sum(float(value) * _UNITS[unit] for unit, value in given.items())
    if seconds <= 0 or not math.isfinite(seconds):
        raise InvalidSetting(f"budget is {text!r}: it must be a time, such as 15m, 90s, 2h, 1h30m, or seconds.")
    return seconds


def duration(seconds: float) -> str:
    """A time in words: ``40 s``, ``15 min``, ``1 h 30 min``; in (0, 1) seconds ``under 1 s``."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{minutes} min" if not hours else f"{hours} h {rest} min" if rest else f"{hours} h"


def about(seconds: float) -> str:
    """An estimated time in words: ``about 15 min``, ``under 1 s``."""
    return f"about {duration(seconds)}" if seconds >= 1 else duration(seconds)


def as_option(seconds: float) -> str:
    """A time as ``seconds_of`` reads it: ``15m``, ``1h30m``, ``90s``."""
    if seconds < 60 or (seconds < 3600 and seconds % 60):
        return f"{seconds:g}s"
    hours, rest = divmod(math.ceil(seconds / 60), 60)
    return (f"{hours}h" if hours else "") + (f"{rest}m" if rest or not hours else "")


class Budget:
    """The time of a session, and what it went into; without a limit it only counts."""

    def __init__(self, limit: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``limit``: seconds."""
        self.limit = limit
        self.is_at_origin_only = False
        """Whether measurements stop before the weights move, for ``at_origin_only``."""
        self.answers = 0
        """Generated so far, not read back."""
        self.estimates: list[str] = []
        """What was said of the time that each measurement would take, after its first point."""
        self._clock = clock
        self._spent = 0.0
        self._since: float | None = None
        self.started = ""
        """When the first measurement began, UTC; empty before."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time in here, once where contexts are nested."""
        if self._since is not None:
            yield
            return
        self._since = self._clock()
        self.started = self.started or datetime.now(timezone.utc).isoformat(timespec="seconds")
        try:
            yield
        finally:
            self._spent, self._since = self.elapsed, None

    @contextmanager
    def at_origin_only(self) -> Iterator[None]:
        """The context in which no measurement moves any weights."""
        self.is_at_origin_only = True
        try:
            yield
        finally:
            self.is_at_origin_only = False

    @property
    def elapsed(self) -> float:
        """Seconds counted so far."""
        return self._spent + (0.0 if self._since is None else self._clock() - self._since)

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be generated: the time is over, and something was generated in it."""
        return self.limit is not None and self.answers > 0 and self.elapsed >= self.limit

    def facts(self) -> dict[str, Any]:
        """What a report says of the time."""
        return {
            "started": self.started,
            "limit": None if self.limit is None else as_option(self.limit),
            "measuring": duration(self.elapsed),
            "answers_generated": self.answers,
            "estimated_after_first_point": list(self.estimates),
        }

    def not_begun(self, kept: str = "") -> str:
        """Why something was not even begun; ``kept``: why nothing is kept of this session, empty where it is."""
        goes_on = "The same command goes on where this one stopped; or raise" if not kept else "Raise"
        return (
            f"Not measured within --llm-budget {as_option(self.limit or 0)}, which was spent before this was begun. "
            f"{goes_on} --llm-budget."
        )


class Pace:
    """The points of one measurement in their order: those that are done, and the time that the others take.

    The unit is an answer: points differ in how many prompts they ask. The first point, which the prompts of all tasks
    share, is taken for the others' pace only until another is done: off the origin answers are of other lengths.
    """

    def __init__(self, budget: Budget, answers: Sequence[int]) -> None:
        """``answers``: how many must be generated at each point; 0 where the journal has them all."""
        self.budget = budget
        self.answers = answers
        self._seconds: dict[int, float] = {}
        self._at = 0

    def stops_before(self, index: int, *, moves: bool) -> bool:
        """Whether the measurement ends here; ``moves``: the point is off the origin."""
        is_free = self.answers[index] == 0
        return not is_free and (self.budget.is_spent or (moves and self.budget.is_at_origin_only))

    @contextmanager
    def visiting(self, index: int) -> Iterator[None]:
        """Time one point."""
        with self.budget.running():
            start = self.budget.elapsed
            yield
            took = self.budget.elapsed - start
        self._at = index + 1
        if self.answers[index]:
            self._seconds[index] = took
            self.budget.answers += self.answers[index]

    def facts(self) -> dict[str, int]:
        """How many points were measured, and how many the journal had whole."""
        measured = len(self._seconds)
        return {"points_measured": measured, "points_read_back": self._at - measured}

    @property
    def left(self) -> float | None:
        """Seconds that the points take that must still be generated; None before one was."""
        others = [index for index in self._seconds if index > 0] or list(self._seconds)
        if not others:
            return None
        each = sum(self._seconds[index] for index in others) / sum(self.answers[index] for index in others)
        return each * sum(self.answers[self._at :])

    def first_estimate(self) -> str:
        """After the first point that was generated, how long the others take; else empty, as where none is left."""
        left = self.left
        if len(self._seconds) != 1 or self._at - 1 not in self._seconds or left is None or not left:
            return ""
        (took,) = self._seconds.values()
        line = f"{self._done()} done, the last in {duration(took)}: {about(left)} more"
        self.budget.estimates.append(line)
        return line

    def why_stopped(self, kept: str) -> str:
        """The sentence of a measurement that ended early; ``kept``: why nothing is kept of it, empty where it is."""
        if not self._at:
            return self.budget.not_begun(kept)
        limit, left = self.budget.limit or 0.0, self.left
        more = "" if left is None else f" and the rest takes {about(left)}"
        needed = as_option(60 * math.ceil((self.budget.elapsed + (left or 0)) / 60))
        goes_on = (
            f"Nothing was kept: {kept}. Raise --llm-budget, to {needed} or more"
            if kept
            else "The journal keeps them: the same command goes on where this one stopped; or raise --llm-budget"
        )
        took = duration(self.budget.elapsed)
        return f"Not measured within --llm-budget {as_option(limit)}: {self._done()} done in {took}{more}. {goes_on}."

    def _done(self) -> str:
        return f"{self._at} of {len(self.answers)} points"
