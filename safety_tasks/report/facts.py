"""A report as plain values: the JSON file, and all the text that the page shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from safety_tasks.records import GateRow, Report
from safety_tasks.report.redaction import plain

SCHEMA = "llmsafety-report/1"
"""schema.json says what the fields are."""


def report_to_dict(report: Report) -> dict[str, Any]:
    """The report for JSON: no nan or infinity, no secrets, no prompt or completion text."""
    facts: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "model": report.model,
            "decision": report.decision if report.gates else "none",
            "gates": [gate_to_dict(gate) for gate in report.gates],
            "estimates": [estimate.to_dict() for estimate in report.estimates],
            "second_opinions": [estimate.to_dict() for estimate in report.second_opinions],
            "agreements": [{"task": task, **found.to_dict()} for task, found in report.agreements],
            "landscape": report.landscape.to_dict() if report.landscape else None,
            "settings": report.settings,
            "facts": report.facts,
            "command": report.command,
            "sections": [asdict(section) for section in report.sections],
        }
    )
    return facts


def gate_to_dict(gate: GateRow) -> dict[str, Any]:
    """A gate as plain values."""
    return {
        "line": gate.line,
        "outcome": gate.outcome,
        "sentence": gate.sentence,
        "estimate": None if gate.estimate is None else gate.estimate.to_dict(),
        "limit": gate.limit,
        "operator": gate.operator,
    }
