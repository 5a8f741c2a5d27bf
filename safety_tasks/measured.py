"""MeasuredTask: what one task measured, as lm_eval's results and the journal hold it; no prompt or completion text."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safety_tasks.agreement import Agreement
from safety_tasks.estimates import Estimate
from safety_tasks.journal import Journal, lines_of
from safety_tasks.landscape import Landscape
from safety_tasks.landscape_values import landscape_from_record, landscape_record
from safety_tasks.samples import Sample, samples_from_dict, samples_to_dict
from safety_tasks.stored_shapes import Shape, shape_from_dict, shape_to_dict

MEASURED = "measured"
"""The kind of a journal's line that holds a task."""
COUNTS = ("read_from_journal", "wall_seconds", "points_measured", "points_read_back")
"""Facts in which a run that reads everything back differs from the one that measured it."""
_OF_WORKERS = ("workers", "workers_replaced")
"""A setting and facts that move no number."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredTask:
    """One task's numbers, verdicts and provenance."""

    task: str
    settings: Mapping[str, Any]
    """``Settings.to_dict()``, with the task's own judges."""
    facts: Mapping[str, Any]
    estimates: tuple[Estimate, ...]
    second_opinions: tuple[Estimate, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    landscape: Landscape | None = None
    shape: Shape | None = None
    samples: tuple[Sample, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, but for redaction."""
        return {
            "settings": dict(self.settings),
            "facts": dict(self.facts),
            "estimates": {found.name: found.to_dict() for found in self.estimates},
            "second_opinions": [found.to_dict() for found in self.second_opinions],
            "agreements": [found.to_dict() for found in self.agreements],
            "landscape": None if self.landscape is None else landscape_record(self.landscape),
            "shape": None if self.shape is None else shape_to_dict(self.shape),
            "samples": samples_to_dict(self.samples),
        }

    @classmethod
    def from_dict(cls, task: str, values: Mapping[str, Any]) -> MeasuredTask:
        """The task that ``to_dict`` wrote; raises KeyError, TypeError or ValueError where the values hold none."""
        landscape, shape = values.get("landscape"), values.get("shape")
        return cls(
            task=task,
            settings=dict(values["settings"]),
            facts=dict(values["facts"]),
            estimates=tuple(Estimate.from_dict(one) for one in values["estimates"].values()),
            second_opinions=tuple(Estimate.from_dict(one) for one in values["second_opinions"]),
            agreements=tuple(Agreement.from_dict(one) for one in values["agreements"]),
            landscape=None if landscape is None else landscape_from_record(landscape),
            shape=None if shape is None else shape_from_dict(shape),
            samples=samples_from_dict(task, values["samples"]),
        )


def keep_in_journal(folder: str, task: str, values: Mapping[str, Any]) -> None:
    """Add a task's plain values to the journal that its facts name, for ``report`` to read, if they are not its newest.

    A journal that cannot be written loses nothing that was measured: it is a warning.
    """
    name = values["facts"].get("journal_file")
    if name is None:
        return
    path = Path(folder) / name
    try:
        known = _newest(path).get(task)
        if known is None or _without_counts(known) != _without_counts(values):
            Journal(path).note(MEASURED, task=task, values=values)
    except OSError as error:
        _log.warning("The journal %s does not hold what %s measured (%s).", path, task, error.strerror)


def measured_in_journal(path: Path) -> list[MeasuredTask]:
    """The tasks that a journal holds to their end, the newest of each name.

    Raises KeyError, TypeError or ValueError for a line that holds none.
    """
    return [MeasuredTask.from_dict(name, values) for name, values in _newest(path).items()]


def _newest(path: Path) -> dict[str, dict[str, Any]]:
    return {line["task"]: line["values"] for line in lines_of(path) if line["kind"] == MEASURED}


def _without_counts(values: Mapping[str, Any]) -> str:
    shown = {**values, "landscape": values["landscape"] and values["landscape"]["verdicts"]}
    return json.dumps(_uncounted(shown), sort_keys=True)


def _uncounted(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    return {name: _uncounted(value) for name, value in values.items() if name not in (*COUNTS, *_OF_WORKERS)}
