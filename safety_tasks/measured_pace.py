"""What the journals of a model say of the time that its answers take; no model is loaded for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safety_tasks.journal import OFF, journals_of


class MeasuredPace(NamedTuple):
    """Answers that were generated before, and the seconds that they took."""

    at_origin: float | None
    """Seconds an answer; None where none was generated."""
    elsewhere: float | None
    n_answers: int
    max_new_tokens: int
    """Their limit."""
    where: str
    """The device."""

    def seconds(self, at_origin: int, elsewhere: int) -> float:
        """The time of so many answers; what was never generated goes by the pace of the other."""
        known = next(pace for pace in (self.elsewhere, self.at_origin) if pace is not None)
        first, rest = (known if pace is None else pace for pace in (self.at_origin, self.elsewhere))
        return at_origin * first + elsewhere * rest


def measured_pace(folder: str, name: str, max_new_tokens: int) -> MeasuredPace | None:
    """The pace of the newest journal of the model of that name; None without one.

    Of its answers those with the largest limit up to ``max_new_tokens`` count: models cut it to what fits.
    """
    if folder.lower() == OFF:
        return None
    found = (_pace(path, max_new_tokens) for path in journals_of(folder, name))
    return next((pace for pace in found if pace is not None), None)


def _pace(path: Path, max_new_tokens: int) -> MeasuredPace | None:
    lines = [line for line in _lines(path) if line.get("kind") == "completions"]
    timed = [line for line in lines if line.get("seconds") and "max_new_tokens" in line and line.get("results")]
    limit = max((line["max_new_tokens"] for line in timed if line["max_new_tokens"] <= max_new_tokens), default=0)
    timed = [line for line in timed if line["max_new_tokens"] == limit]
    if not timed:
        return None
    first, rest = ([line for line in timed if (line["alpha"] != 0) == moved] for moved in (False, True))
    head: dict[str, Any] = next((line["identity"] for line in _lines(path) if line.get("kind") == "run"), {})
    n_answers = sum(len(line["results"]) for line in timed)
    return MeasuredPace(_each(first), _each(rest), n_answers, limit, str(head.get("device", "a device")))


def _each(lines: list[dict[str, Any]]) -> float | None:
    answers = sum(len(line["results"]) for line in lines)
    return sum(line["seconds"] for line in lines) / answers if answers else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """What is whole of a journal; what a kill tore is passed over."""
    with path.open("rb") as file:
        for text in file:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict):
                yield line
