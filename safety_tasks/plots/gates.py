"""Gates as a forest plot: value, interval and limit, each on the scale of its own metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safety_tasks.estimates import Estimate
from safety_tasks.plots.style import MET, NEUTRAL, OUTCOMES, chart, styled

if TYPE_CHECKING:
    import altair as alt

    from safety_tasks.records import GateRow


def gates_chart(gates: Sequence[GateRow], width: int = 480) -> alt.VConcatChart:
    """One row a gate that has an estimate, titled with its line and outcome; raises ValueError when none has."""
    import altair as alt

    rows = [
        _layers(gate, gate.estimate, width).properties(
            title=alt.TitleParams(f"{gate.line}: {gate.outcome}", anchor="start", limit=width)
        )
        for gate in gates
        if gate.estimate is not None
    ]
    if not rows:
        raise ValueError("no gate has an estimate to plot")
    return styled(alt.vconcat(*rows, spacing=12))


def gate_chart(gate: GateRow, width: int = 220) -> alt.LayerChart:
    """One gate: its value and interval, tinted where the limit is met; an arrow where the bound is infinite.

    Raises ValueError when the gate has no estimate.
    """
    if gate.estimate is None:
        raise ValueError(f"{gate.line!r} has no estimate to plot")
    return styled(_layers(gate, gate.estimate, width))


def _layers(gate: GateRow, estimate: Estimate, width: int) -> alt.LayerChart:
    import altair as alt

    start, end = _domain(estimate, gate.limit)
    color, shape = OUTCOMES[gate.outcome]
    scale = alt.Scale(domain=[start, end], nice=False)
    x = alt.X("at:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4, format="~g"))
    high, told = min(estimate.high, end), str(estimate)
    interval = chart([{"at": estimate.low, "to": high, "told": told}])
    value = chart([{"at": estimate.value, "told": told}])
    layers = [
        *_limit_layers(gate, start, end, x),
        interval.mark_rule(color=color, strokeWidth=3).encode(x=x, x2="to:Q", tooltip=alt.Tooltip("told:N", title="")),
        value.mark_point(color=color, shape=shape, filled=True, size=120, opacity=1).encode(
            x=x, tooltip=alt.Tooltip("told:N", title="")
        ),
    ]
    if math.isinf(estimate.high):
        arrow = chart([{"at": high}]).mark_point(color=color, shape="triangle-right", filled=True, size=100, opacity=1)
        layers.append(arrow.encode(x=x))
    described = f"{told}, limit {gate.operator} {gate.limit}: {gate.outcome}"
    return alt.LayerChart(layer=layers).properties(width=width, height=24, description=described)


def _limit_layers(gate: GateRow, start: float, end: float, x: alt.X) -> list[alt.Chart]:
    if gate.limit is None or gate.operator is None:
        return []
    met = (start, gate.limit) if gate.operator.startswith("<") else (gate.limit, end)
    zone = chart([{"at": met[0], "to": met[1]}]).mark_rect(color=MET, opacity=0.18)
    rule = chart([{"at": gate.limit}]).mark_rule(color=NEUTRAL, strokeDash=[4, 3], strokeWidth=2)
    return [zone.encode(x=x, x2="to:Q"), rule.encode(x=x)]


def _domain(estimate: Estimate, limit: float | None) -> tuple[float, float]:
    """From 0, or from below it where a difference is negative, to a little beyond all that is drawn."""
    bounds = [estimate.value, estimate.low, estimate.high, 0.0 if limit is None else limit, 0.0]
    known = [bound for bound in bounds if math.isfinite(bound)]
    room = 0.08 * (max(known) - min(known)) or 1.0
    return min(known) - (room if min(known) < 0 else 0.0), max(known) + room
