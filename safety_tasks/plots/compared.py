"""Curves of several landscapes in one chart: models, or the checkpoints of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safety_tasks.landscape import Landscape
from safety_tasks.plots.curves import mean_records
from safety_tasks.plots.style import MODELS, Width, chart, share_axis, styled, tooltips

if TYPE_CHECKING:
    import altair as alt

_DASHES = ([1, 0], [6, 3], [2, 2])  # a model's second sign beside its colour; the colours come round again after 7


def compared_curves(landscapes: Sequence[tuple[str, Landscape]], width: Width = "container") -> alt.LayerChart:
    """Safety against alpha, the mean over directions of each named landscape with its band; one colour a name.

    Bands are means of the directions' exact 95 % bounds, as in ``safety_chart``. Raises ValueError without landscapes
    or when two share a name.
    """
    import altair as alt

    names = [name for name, _ in landscapes]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"landscapes to compare need names of their own, found {names}")
    rows = [{"model": name, **row} for name, landscape in landscapes for row in mean_records(landscape)]
    ends = [alpha for _, landscape in landscapes for alpha in (landscape.alphas[0], landscape.alphas[-1])]
    colors = [MODELS[i % len(MODELS)] for i in range(len(names))]
    dashes = [_DASHES[i // len(MODELS) % len(_DASHES)] for i in range(len(names))]
    legend = alt.Legend(
        orient="bottom", title=None, columns=min(len(names), 3), symbolType="stroke", symbolSize=300, symbolOpacity=1
    )
    x = alt.X(
        "alpha:Q",
        scale=alt.Scale(domain=[min(ends), max(ends)], nice=False),
        axis=alt.Axis(title="alpha (share of each tensor's norm)", labelFlush=False, tickCount=10),
    )
    color = alt.Color("model:N", scale=alt.Scale(domain=names, range=colors), legend=legend)
    dash = alt.StrokeDash("model:N", scale=alt.Scale(domain=names, range=dashes), legend=legend)
    words = "safety (1 − attack success rate)"
    told = [alt.Tooltip("model:N"), *tooltips("alpha", "safety", "refused", "complied", "incoherent")]
    curves = chart(rows).encode(x=x, color=color)
    layers = [
        curves.mark_area(opacity=0.14).encode(y=share_axis("low", words), y2="high:Q"),
        curves.mark_line(strokeWidth=2.5).encode(y=share_axis("safety", words), strokeDash=dash),
        curves.mark_point(opacity=0, size=90, filled=True).encode(y=share_axis("safety", words), tooltip=told),
    ]
    described = f"Mean safety against alpha of {', '.join(names)}"
    return styled(alt.LayerChart(layer=layers).properties(width=width, height=300, description=described))
