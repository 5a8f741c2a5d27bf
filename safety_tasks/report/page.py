"""A report as one HTML page that opens from disk, loads nothing and runs no script but its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from safety_tasks.intervals import effective_n
from safety_tasks.landscape import Landscape
from safety_tasks.plots import gate_chart, safety_chart, shares_chart
from safety_tasks.records import Report
from safety_tasks.report import wording
from safety_tasks.report.facts import report_to_dict
from safety_tasks.report.layout import render_page
from safety_tasks.report.redaction import plain

_BESIDE_VISAGE = ("basin_width", "mean_safety")
_UNSCORED = 2  # in Landscape.verdicts


def render_html(report: Report) -> str:
    """The page as text; it holds no prompt or completion and no secret that ``redaction`` knows."""
    facts = report_to_dict(report)
    word = wording.shown_decision(report.decision, len(report.gates))
    means, means_not = wording.meaning(word)
    return render_page(
        "page.html.j2",
        title=f"{wording.SYMBOLS.get(word, '–')} {word}: {facts['model']}",
        charts=_charts(report),
        report=facts,
        word=word,
        symbols=wording.SYMBOLS,
        means=means,
        means_not=means_not,
        numbers=_numbers(report),
        judges=_judges(facts),
        agreements=[wording.agreement_sentence(task, found) for task, found in report.agreements],
        settings=list(_rows(facts["settings"])),
        facts=_facts(facts),
        caption=_caption(report.landscape, facts["landscape"]),
        wording=wording,
    )


def _numbers(report: Report) -> dict[str, Any]:
    """Rows of the numbers table; VISAGE only where the width of the basin stands beside it."""
    rows = {estimate.name: estimate for estimate in report.estimates}
    if "visage" in rows and report.landscape:
        for score in report.landscape.scores():
            rows.setdefault(score.name, score)
    alone = "visage" in rows and not all(name in rows for name in _BESIDE_VISAGE)
    shown = [estimate for name, estimate in rows.items() if not (alone and name == "visage")]
    shown += report.second_opinions
    return {
        "rows": [plain(estimate.to_dict()) for estimate in shown],
        "alone": alone,
        "visage": "visage" in rows and not alone,
    }


def _judges(facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is known of each judge, by name."""
    landscape = facts["landscape"] or {"facts": {}}
    return {**landscape["facts"].get("judges", {}), **facts["facts"].get("judges", {})}


def _charts(report: Report) -> dict[str, Any]:
    """Specifications by the id under which the page keeps them."""
    charts = {
        f"gate-{number}-chart": gate_chart(gate).to_dict(validate=False)
        for number, gate in enumerate(report.gates, 1)
        if gate.estimate is not None
    }
    if report.landscape:
        charts["safety-chart"] = safety_chart(report.landscape).to_dict(validate=False)
        charts["shares-chart"] = shares_chart(report.landscape).to_dict(validate=False)
    return {name: plain(chart) for name, chart in charts.items()}


def _caption(landscape: Landscape | None, facts: dict[str, Any] | None) -> str:
    if landscape is None or facts is None:
        return wording.NO_LANDSCAPE
    unscored = float((landscape.verdicts == _UNSCORED).mean())
    return wording.landscape_caption(facts, effective_n(landscape.clusters), unscored)


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The run's facts, then those of the landscape that they do not hold."""
    landscape = report["landscape"] or {"facts": {}}
    own, others = (
        list(_rows({name: value for name, value in facts.items() if name != "judges"}))
        for facts in (report["facts"], landscape["facts"])
    )
    return own + [(f"landscape: {name}", value) for name, value in others if (name, value) not in own]


def _rows(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and texts of a table, nested names joined by dots."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{prefix}{name}.")
        else:
            yield prefix + name, _words(value)


def _words(value: Any) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
