"""The numbers of a run's checkpoints against their step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from safety_tasks.estimates import Estimate
from safety_tasks.plots.curves import Record
from safety_tasks.plots.style import LINE, chart, styled

if TYPE_CHECKING:
    import altair as alt


def trajectory_chart(
    checkpoints: Sequence[tuple[str, int, Mapping[str, Estimate]]], metrics: Sequence[str], width: int = 220
) -> alt.VConcatChart:
    """Value and 95 % interval of each metric against the step, a panel a metric, three side by side.

    ``checkpoints``: name, step and estimates by metric. A bound that is infinite ends at the value.
    """
    import altair as alt

    panels = []
    for metric in metrics:
        rows = [_row(name, step, found[metric]) for name, step, found in checkpoints if metric in found]
        if not rows:
            continue
        x = alt.X("step:Q", axis=alt.Axis(title="step", tickCount=4), scale=alt.Scale(nice=False, padding=8))
        told = [alt.Tooltip("name:N", title="checkpoint"), alt.Tooltip("told:N", title=metric)]
        base = chart(rows).encode(x=x, tooltip=told)
        y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=True, domainMin=0))
        layers = [
            base.mark_rule(color=LINE, strokeWidth=2, opacity=0.5).encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
            base.mark_line(color=LINE, strokeWidth=2).encode(y=y),
            base.mark_point(color=LINE, filled=True, size=60, opacity=1).encode(y=y),
        ]
        panels.append(alt.LayerChart(layer=layers).properties(width=width, height=130, title=metric))
    lines = [alt.hconcat(*panels[at : at + 3], spacing=24) for at in range(0, len(panels), 3)]
    return styled(alt.vconcat(*lines, spacing=20))


def _row(name: str, step: int, found: Estimate) -> Record:
    high = found.value if math.isinf(found.high) else found.high
    return {"name": name, "step": step, "value": found.value, "low": found.low, "high": high, "told": found.describe()}
