"""The landscape along alpha: safety with its basin, and what becomes of what is not refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from safety_tasks.basin import Basin
from safety_tasks.landscape import Landscape
from safety_tasks.plots.curves import Record, direction_records, edge_records, explain_edges, mean_records
from safety_tasks.plots.style import (
    KINDS,
    LINE,
    MET,
    NEUTRAL,
    SHARES,
    Width,
    chart,
    share_axis,
    styled,
    title,
    tooltips,
)

if TYPE_CHECKING:
    import altair as alt

_SAFETY = "safety (1 − attack success rate)"
_HEIGHT = 250
_WIDE = 0.4  # of the grid: a basin that has room for a label


def landscape_chart(landscape: Landscape, width: int = 560) -> alt.VConcatChart:
    """Safety above the shares of refused, complied and incoherent answers, along the same alpha; with titles."""
    import altair as alt

    lines = "thin: one line a direction; thick: their mean; band: mean of the directions' exact 95% bounds"
    areas = "shares of scored answers, mean over directions; attack success rate = complied + incoherent"
    safety = _safety(landscape, width).properties(title=title("Safety along random directions", lines))
    shares = _shares(landscape, width).properties(title=title("What the model answers", areas))
    both: alt.VConcatChart = alt.vconcat(safety, shares, spacing=28)
    both = both.resolve_scale(color="independent", shape="independent")
    return styled(both)


def safety_chart(
    landscape: Landscape, width: Width = "container", *, reference: Landscape | None = None
) -> alt.LayerChart:
    """1 - ASR along alpha: each direction, their mean, the mean of their exact bounds, basin, tolerance and edges.

    ``reference``: the base model's or the baseline's, whose mean is drawn behind. The parameter ``shown_alpha`` of the
    chart moves a rule that marks one alpha.
    """
    return styled(_safety(landscape, width, reference, is_marked=True))


def shares_chart(landscape: Landscape, width: Width = "container") -> alt.LayerChart:
    """Refused, coherently complied and incoherent shares stacked along alpha, mean over directions.

    ``shown_alpha`` is as in ``safety_chart``.
    """
    return styled(_shares(landscape, width, is_marked=True))


def landscape_svg(landscape: Landscape) -> str:
    """The landscape chart as SVG, drawn without a browser, on a transparent background."""
    import vl_convert

    spec = landscape_chart(landscape).to_dict(validate=False)
    for part in spec["vconcat"]:
        # What only answers to a pointer has no place in a still picture.
        part["layer"] = [layer for layer in part["layer"] if layer["mark"].get("opacity") != 0]
    svg: str = vl_convert.vegalite_to_svg(json.dumps(spec, allow_nan=False))
    return svg


def _safety(
    landscape: Landscape, width: Width, reference: Landscape | None = None, *, is_marked: bool = False
) -> alt.LayerChart:
    spans = landscape.basins()
    mean = chart(mean_records(landscape)).encode(x=_alpha_axis(landscape))
    directions = chart(direction_records(landscape)).encode(
        x=_alpha_axis(landscape), y=share_axis("safety", _SAFETY), detail="direction:N"
    )
    told = tooltips("alpha", "direction", "safety", "refused", "complied", "incoherent")
    layers = [
        _basin_shade(landscape, spans),
        *([_ghost(landscape, reference)] if reference else []),
        mean.mark_area(color=LINE, opacity=0.18).encode(y=share_axis("low", _SAFETY), y2="high:Q"),
        *_tolerance_line(landscape, spans),
        directions.mark_line(color=LINE, strokeWidth=1, opacity=0.6),
        mean.mark_line(color=LINE, strokeWidth=3).encode(y=share_axis("safety", _SAFETY)),
        *_edge_labels(landscape, spans),
        directions.mark_point(opacity=0, size=90, filled=True).encode(tooltip=told),
        _edge_points(landscape, spans),
    ]
    described = f"Safety against alpha along {landscape.n_directions} directions, with the basin shaded"
    return _layered(layers, landscape, is_marked).properties(width=width, height=_HEIGHT, description=described)


def _layered(layers: list[alt.Chart], landscape: Landscape, is_marked: bool) -> alt.LayerChart:
    """The layers under a rule at ``shown_alpha``, where it is marked."""
    import altair as alt

    if not is_marked:
        return alt.LayerChart(layer=layers)
    shown = alt.param(name="shown_alpha", value=0)
    mark = chart([{}]).mark_rule(color=NEUTRAL, strokeWidth=1.5)
    rule = mark.encode(x=alt.XDatum(alt.expr(shown.name), type="quantitative"))
    return alt.LayerChart(layer=[*layers, rule]).add_params(shown)


def _ghost(landscape: Landscape, reference: Landscape) -> alt.Chart:
    """The reference's mean, as far as this landscape's grid reaches."""
    import altair as alt

    within = landscape.alphas[0], landscape.alphas[-1]
    name = str(reference.facts.get("model") or "reference")
    rows = [{**row, "model": name} for row in mean_records(reference) if within[0] <= float(row["alpha"]) <= within[1]]
    ghost = chart(rows).mark_line(color=NEUTRAL, strokeWidth=2, strokeDash=[2, 2], opacity=0.9)
    encoded: alt.Chart = ghost.encode(
        x=_alpha_axis(landscape),
        y=share_axis("safety", _SAFETY),
        tooltip=[alt.Tooltip("model:N", title="reference"), *tooltips("alpha", "safety")],
    )
    return encoded


def _shares(landscape: Landscape, width: Width, *, is_marked: bool = False) -> alt.LayerChart:
    import altair as alt

    mean = mean_records(landscape)
    rows = [
        {"alpha": row["alpha"], "share": row[name], "answers": words, "order": order}
        for row in mean
        for order, (name, (words, _)) in enumerate(SHARES.items())
    ]
    scale = alt.Scale(domain=[words for words, _ in SHARES.values()], range=[color for _, color in SHARES.values()])
    areas = (
        chart(rows)
        .mark_area(opacity=0.85)
        .encode(
            x=_alpha_axis(landscape),
            y=share_axis("share", "share of scored answers", stacked=True),
            color=alt.Color("answers:N", scale=scale, legend=alt.Legend(orient="bottom", title=None)),
            order="order:Q",
        )
    )
    # The whole height of each point answers to the pointer, not only the curve.
    hover = (
        chart(_spans(mean))
        .mark_rect(opacity=0)
        .encode(
            x=_alpha_axis(landscape, "from"),
            x2="to:Q",
            tooltip=tooltips("alpha", "refused", "complied", "incoherent"),
        )
    )
    described = "Stacked shares of refused, complied and incoherent answers against alpha, mean over directions"
    return _layered([areas, hover], landscape, is_marked).properties(width=width, height=_HEIGHT, description=described)


def _spans(mean: list[Record]) -> list[Record]:
    first, last = mean[0]["alpha"], mean[-1]["alpha"]
    half = (mean[1]["alpha"] - first) / 2
    return [{**row, "from": max(row["alpha"] - half, first), "to": min(row["alpha"] + half, last)} for row in mean]


def _alpha_axis(landscape: Landscape, field: str = "alpha") -> alt.X:
    import altair as alt

    scale = alt.Scale(domain=[landscape.alphas[0], landscape.alphas[-1]], nice=False)
    axis = alt.Axis(title="alpha (share of each tensor's norm)", labelFlush=False, tickCount=10)
    return alt.X(f"{field}:Q", scale=scale, axis=axis)


def _mean_edges(spans: Sequence[Basin]) -> tuple[float, float]:
    return -float(np.mean([span.left.at for span in spans])), float(np.mean([span.right.at for span in spans]))


def _basin_shade(landscape: Landscape, spans: Sequence[Basin]) -> alt.Chart:
    left, right = _mean_edges(spans)
    shade = chart([{"alpha": left, "to": right}]).mark_rect(color=MET, opacity=0.13)
    encoded: alt.Chart = shade.encode(x=_alpha_axis(landscape), x2="to:Q")
    return encoded


def _tolerance_line(landscape: Landscape, spans: Sequence[Basin]) -> list[alt.Chart]:
    """The line, named where no curve runs: under it inside a wide basin, at the left end otherwise."""
    tolerance = landscape.settings.tolerance
    left, right = _mean_edges(spans)
    is_wide = right - left > _WIDE * (landscape.alphas[-1] - landscape.alphas[0])
    text = f"tolerance: ASR {tolerance:.0%}"
    row = {"safety": 1 - tolerance, "alpha": (left + right) / 2 if is_wide else landscape.alphas[0], "text": text}
    line = chart([row]).encode(y=share_axis("safety", _SAFETY))
    label = line.mark_text(align="center" if is_wide else "left", baseline="top", dx=0 if is_wide else 4, dy=5)
    return [
        line.mark_rule(color=NEUTRAL, strokeDash=[5, 4]),
        label.encode(x=_alpha_axis(landscape), text="text:N"),
    ]


def _edge_labels(landscape: Landscape, spans: Sequence[Basin]) -> list[alt.Chart]:
    """Above the plot, one at each end, so that no curve runs through them."""
    import altair as alt

    left = explain_edges([span.left for span in spans], "−")
    right = explain_edges([span.right for span in spans], "+")
    if all(span.width == 0 for span in spans):
        left, right = "no basin: the attack success rate at\nalpha 0 exceeds the tolerance", ""
    x, y, text = _alpha_axis(landscape), alt.value(0), "text:N"
    return [
        chart([{"alpha": landscape.alphas[0], "text": left}])
        .mark_text(align="left", baseline="top", dy=-32, lineBreak="\n", lineHeight=13)
        .encode(x=x, y=y, text=text),
        chart([{"alpha": landscape.alphas[-1], "text": right}])
        .mark_text(align="right", baseline="top", dy=-32, lineBreak="\n", lineHeight=13)
        .encode(x=x, y=y, text=text),
    ]


def _edge_points(landscape: Landscape, spans: Sequence[Basin]) -> alt.Chart:
    import altair as alt

    level = 1 - landscape.settings.tolerance
    rows = [{**row, "safety": level} for row in edge_records(spans)]
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    colors, shapes = zip(*(KINDS[kind] for kind in kinds), strict=True)
    legend = alt.Legend(orient="bottom", title="edge of the basin, by what lies beyond")
    points: alt.Chart = (
        chart(rows)
        .mark_point(filled=True, size=80, opacity=0.9)
        .encode(
            x=_alpha_axis(landscape),
            y=share_axis("safety", _SAFETY),
            color=alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=list(colors)), legend=legend),
            shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=list(shapes)), legend=legend),
            tooltip=tooltips("direction", "side", "alpha", "kind", "sure", "most"),
        )
    )
    return points
