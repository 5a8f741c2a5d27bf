"""Samples and verdicts as compact columns: what the page's list and strip are drawn from.

A column is its different values and, a row, the index of one of them: small when compressed, and a filter asks each
value once. Texts stand there only where the samples carry them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from safety_tasks.landscape import Landscape
from safety_tasks.landscape_values import letters_of
from safety_tasks.report.redaction import without_secrets
from safety_tasks.samples import Sample

NO_TEXT = "No prompt and no answer stands in this report: --llm-report-text truncated or full adds them."
SOME_TEXT = "This answer's text is not in the report."


def sample_columns(samples: Sequence[Sample]) -> dict[str, Any]:
    """All samples, for ``samples.js``; names are without secrets, a column of nothing but None is left out."""
    judges = list(dict.fromkeys(judge for sample in samples for judge, _ in sample.verdicts))
    by_judge = [dict(sample.verdicts) for sample in samples]
    columns = {
        "task": _names([sample.task for sample in samples]),
        "id": _names([sample.id for sample in samples]),
        "category": _names([sample.category for sample in samples]),
        "direction": _column([sample.direction for sample in samples]),
        "alpha": _column([round(sample.alpha, 9) for sample in samples]),
        "coherent": _column([sample.coherent for sample in samples]),
        "finished": _column([sample.finished for sample in samples]),
        "characters": _column([sample.characters for sample in samples]),
        "sha256": _column([sample.sha256 for sample in samples]),
        "deciding": _column([judges.index(sample.verdicts[0][0]) if sample.verdicts else None for sample in samples]),
        "reference": _column([sample.reference_verdict for sample in samples]),
        "prompt": _column([sample.prompt for sample in samples]),
        "completion": _column([sample.completion for sample in samples]),
    }
    optional = ("reference", "prompt", "completion")
    moved = {sample.task for sample in samples if sample.direction is not None}
    return {
        "n": len(samples),
        "columns": {name: column for name, column in columns.items() if name not in optional or _says(column)},
        "judges": [
            {"name": without_secrets(judge), **_column([said.get(judge) for said in by_judge])} for judge in judges
        ],
        "landscapeTasks": sorted(without_secrets(task) for task in moved),
        "textNote": SOME_TEXT if _says(columns["completion"]) else NO_TEXT,
    }


def strip_rows(landscape: Landscape) -> dict[str, Any]:
    """A letter a verdict, for ``strip.js``: a string of A letters a prompt, a list of P strings a direction.

    The letters are those of ``letters_of``.
    """
    return {
        "alphas": [round(alpha, 9) for alpha in landscape.alphas],
        "ids": [without_secrets(name) for name in landscape.prompt_ids],
        "directions": [["".join(row) for row in zip(*points, strict=True)] for points in letters_of(landscape)],
    }


def _column(values: Sequence[Hashable]) -> dict[str, list[Any]]:
    # True == 1, but no column mixes them.
    places: dict[Hashable, int] = {}
    at = [places.setdefault(value, len(places)) for value in values]
    return {"values": list(places), "at": at}


def _names(values: Sequence[str]) -> dict[str, list[Any]]:
    column = _column(values)
    return {**column, "values": [without_secrets(name) for name in column["values"]]}


def _says(column: dict[str, list[Any]]) -> bool:
    return any(value is not None for value in column["values"])
