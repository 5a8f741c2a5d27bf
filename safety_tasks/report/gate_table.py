"""The gates as rows of one table: number, limit, what it is compared with, and an anchor that stays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from safety_tasks.estimates import figure
from safety_tasks.metrics import METRICS

_NOT_IN_ANCHORS = re.compile(r"[^A-Za-z0-9_.]+")
_LONGEST = 80


class Row(NamedTuple):
    """One gate; ``gate`` as in the report's JSON."""

    anchor: str
    """``gate-basin_width``: the gate's quantity, whatever its limit."""
    gate: Mapping[str, Any]
    gloss: str
    """What the metric says, in plain words."""
    value: str
    """Signed where it is a difference, as a factor where it is a ratio; empty when nothing was measured."""
    compared: str
    """``base 0.010 → 0.950``: what it is compared with, and what it became; empty without a comparison."""


def gate_rows(gates: Sequence[Mapping[str, Any]], compared: Mapping[str, Any]) -> list[Row]:
    """The gates of a report's JSON; ``compared``: its facts on what each is compared with, by the gate's line."""
    anchors = [_anchor(gate) for gate in gates]
    return [
        Row(
            _distinct(anchors, i), gate, _gloss(gate["line"]), _value(gate), _compared(gate, compared.get(gate["line"]))
        )
        for i, gate in enumerate(gates)
    ]


def number(estimate: Mapping[str, Any]) -> str:
    """The value with its decimals, as a bound where it is one."""
    return f"{'≥ ' if estimate['censored'] else ''}{figure(estimate, 'value')}"


def interval(estimate: Mapping[str, Any]) -> str:
    """Both bounds, in words where there is no upper one."""
    high = "no upper bound" if estimate["high"] is None else figure(estimate, "high")
    return f"{figure(estimate, 'low')} to {high}"


def _quantity(gate: Mapping[str, Any]) -> str:
    line: str = gate["line"]
    return line.rsplit(gate["operator"], 1)[0].strip() if gate["operator"] else line


def _sign(gate: Mapping[str, Any]) -> str:
    """``-`` of a difference to a reference, ``/`` of a ratio, else empty."""
    found = re.search(r" ([-/]) (?:base|baseline)$", _quantity(gate))
    return found[1] if found else ""


def _anchor(gate: Mapping[str, Any]) -> str:
    quantity = _quantity(gate).replace(" - ", "-minus-").replace(" / ", "-over-")
    return f"gate-{_NOT_IN_ANCHORS.sub('-', quantity).strip('-')[:_LONGEST]}"


def _distinct(anchors: Sequence[str], i: int) -> str:
    before = anchors[:i].count(anchors[i])
    return f"{anchors[i]}-{before + 1}" if before else anchors[i]


def _gloss(line: str) -> str:
    name = re.match(r"\w+", line.strip())
    return METRICS[name[0]].description if name and name[0] in METRICS else ""


def _value(gate: Mapping[str, Any]) -> str:
    estimate = gate["estimate"]
    if estimate is None:
        return ""
    sign = _sign(gate)
    if sign == "-":
        return f"{estimate['value']:+.3f}".replace("-", "−")
    return f"× {estimate['value']:.3f}" if sign else number(estimate)


def _compared(gate: Mapping[str, Any], found: Any) -> str:
    if not isinstance(found, Mapping) or not isinstance(found.get("value"), float | int):
        return ""
    name, value, change = found.get("with", "reference"), found["value"], found.get("change")
    if not isinstance(change, float | int):
        return f"{name} {value:.3f}"
    sign = _sign(gate)
    if not sign:
        return f"{name} {value:.3f}, change {change:+.3f}"
    return f"{name} {value:.3f} → {value + change if sign == '-' else value * change:.3f}"
