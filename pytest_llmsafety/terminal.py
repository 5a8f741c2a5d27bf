"""A report as lines of text for the terminal: a pure function, readable at 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from pytest_llmsafety.answers import doubts
from pytest_llmsafety.noise import noise_lines
from safety_tasks.agreement import Agreement
from safety_tasks.estimates import Estimate
from safety_tasks.records import CURTAILED, GateRow, Report
from safety_tasks.report.redaction import without_secrets

_WIDTH = 100
_GAP = "  "
_INDENT = " " * 4
_LONG_GATE = 44
"""A longer gate has its measurement on the next line, so that one of them does not push every other aside."""


def summary_lines(report: Report) -> list[str]:
    """The gates as a table, what was measured besides, judges and further judges, and the decision.

        PASS          over_refusal_rate <= 0.1     0.020 [0.005, 0.050] (n = 200, judge refusal)
        INCONCLUSIVE  attack_success_rate <= 0.05  0.040 [0.017, 0.077] (n = 200, judge refusal)
                      truncated_rate               0.000 [0.000, 0.018] (n = 200)
        decision: inconclusive

    Edge: a reason that was given once is not repeated, and only a reason may be longer than the terminal is wide.
    """
    noise = [line for told in noise_lines(report.facts) for line in _wrapped(told)]
    read = [*_judges(report), *_second_opinions(report), *_agreements(report)]
    missed = [line for told in doubts(report.facts) for line in _wrapped(told)]
    lines = [*_table(report), *missed, *noise, *_adapter(report), *_quantised(report), *read]
    undecided = [row for row in report.gates if row.outcome == "incomplete"]
    if undecided:
        lines += _wrapped(
            f"incomplete: {len(undecided)} of {len(report.gates)} gates were not decided (deselected, or the session "
            "stopped early); run without -k, -x and --deselect, or with --llm-gates none"
        )
    lines.append(f"decision: {report.decision}" if report.gates else "decision: none (no gates)")
    return [without_secrets(line) for line in lines]


def _table(report: Report) -> Iterator[str]:
    gated = {row.estimate.name for row in report.gates if row.estimate is not None}
    rows = [(row.outcome.upper(), row.line, _measured(report, row)) for row in report.gates]
    rows += [("", found.name, found.describe()) for found in report.estimates if found.name not in gated]
    short = [row[1] for row in rows if len(row[1]) <= _LONG_GATE]
    widths = max((len(row[0]) for row in rows), default=0), max(map(len, short), default=0)
    reasons = [_reason(row) for row in report.gates] + [""] * len(report.estimates)
    for (verdict, name, measured), reason in zip(rows, _once(reasons), strict=False):
        yield from _row(verdict.ljust(widths[0]), name, measured, reason, widths[1])


def _reason(row: GateRow) -> str:
    """The sentence of a gate that has no number to show, or an error besides."""
    has_none = row.outcome in ("inconclusive", "pass", "fail") and row.estimate is None
    return row.sentence if row.outcome == "error" or has_none else ""


def _row(verdict: str, name: str, measured: str, reason: str, width: int) -> Iterator[str]:
    opening = f"{verdict}{_GAP}{name.ljust(width)}{_GAP}"
    indent = " " * (len(verdict) + width + 2 * len(_GAP))
    if len(name) > width:
        yield opening.rstrip()
        opening = indent
    if reason:
        yield f"{opening}{measured}{_GAP}{reason}"
    else:
        yield from _wrapped(opening + measured, indent)


def _measured(report: Report, row: GateRow) -> str:
    if row.estimate is None:
        return "bounds only" if CURTAILED in row.sentence else "not measured"
    compared = report.facts.get("compared", {}).get(row.line)
    return row.estimate.describe() + (f"; {compared_text(compared, row.line)}" if compared else "")


def compared_text(compared: dict[str, Any], line: str) -> str:
    """What a gate's line is compared with: ``base 0.010, change +0.940``; of ``facts["compared"]``.

    Of a ratio, which is the gate's own number, the other side alone.
    """
    is_known = compared.get("change") is not None and f" / {compared['with']} " not in line
    change = f", change {compared['change']:+.3f}" if is_known else ""
    return f"{compared['with']} {compared['value']:.3f}{change}"


def _once(reasons: list[str]) -> list[str]:
    """Each reason where it first stands, and nothing where it stands again."""
    return [reason if reason not in reasons[:index] else "" for index, reason in enumerate(reasons)]


def _adapter(report: Report) -> Iterator[str]:
    """What the adapter under test does to its base, where there is one."""
    known = report.facts.get("adapter")
    if known:
        done = f"merged, {known['modules_changed']} modules changed" if known["is_merged"] else "beside the weights"
        change = f"largest logit change {known['largest_logit_change']:.3g}"
        yield from _wrapped(f"adapter {known['name']}: {done}, {change} (sha256 {known['weights_sha256'][:12]})")


def _quantised(report: Report) -> Iterator[str]:
    """How the model under test is quantised, and what was measured on dequantised weights, where it is."""
    method, plain = report.facts.get("quantisation"), report.facts.get("dequantised") or {}
    if method:
        yield from _wrapped(f"quantised ({method}): {plain.get('told', 'measured as it is')}")


def _judges(report: Report) -> Iterator[str]:
    for name, known in report.facts.get("judges", {}).items():
        yield from _wrapped(f"judge {name}: {known['calibration']}")
        if "told" in known:  # a judge behind a server: where the answers went, and what that took
            yield from _wrapped(f"judge {name}: {known['told']}")


def _second_opinions(report: Report) -> Iterator[str]:
    """One entry a further judge: what it makes of the gated metrics, or of all where none is gated."""
    gated = {row.estimate.name for row in report.gates if row.estimate is not None}
    by_judge: dict[str, list[Estimate]] = {}
    for found in report.second_opinions:
        by_judge.setdefault(found.judge, []).append(found)
    for judge, every in by_judge.items():
        of_gates = [found for found in every if found.name in gated]
        shown = ", ".join(f"{found.name} {_value(found)}" for found in _worst(of_gates or every))
        yield from _wrapped(f"second opinion of {judge}: {shown}")


def _worst(found: Iterable[Estimate]) -> Iterable[Estimate]:
    """One estimate a name: of several (unscored_rate has two tasks) that with the higher bound."""
    worst: dict[str, Estimate] = {}
    for estimate in found:
        if estimate.name not in worst or estimate.high > worst[estimate.name].high:
            worst[estimate.name] = estimate
    return worst.values()


def _value(found: Estimate) -> str:
    return found.describe().partition(" (")[0]


def _agreements(report: Report) -> Iterator[str]:
    for task, found in report.agreements:
        yield from _wrapped(f"{task}: {found.name_a} and {found.name_b} {_agreed(found)}")


def _agreed(found: Agreement) -> str:
    """How far two judges agree; the ids on which they differ stand in the report."""
    if found.agreement is None:
        return f"cannot be compared ({found.note})"
    kappa = f"kappa {_value(found.kappa)}" if found.kappa is not None else found.note
    differ = len(set(found.disagreements))
    listed = f"; they differ on {differ} prompts, see the report" if differ else ""
    return f"agree on {found.agreement.value:.1%} ({kappa}){listed}"


def _wrapped(line: str, indent: str = _INDENT) -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
