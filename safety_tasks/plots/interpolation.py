"""The way from a model to a target: safety along the coefficients, and what becomes of what is not refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safety_tasks.interpolation import Interpolation
from safety_tasks.models import display_name
from safety_tasks.plots.curves import Record
from safety_tasks.plots.still import png_of, svg_of
from safety_tasks.plots.style import LINE, NEUTRAL, SHARES, Width, chart, share_axis, styled, title

if TYPE_CHECKING:
    import altair as alt

_SAFETY = "safety (1 − attack success rate)"
_HEIGHT = 220


def interpolation_chart(found: Interpolation, width: int = 560) -> alt.VConcatChart:
    """Safety above the shares of refused, complied and incoherent answers, along the same coefficients; with titles."""
    import altair as alt

    name = _target_name(found)
    line = "band: exact 95% bounds at each coefficient; 0 is the model, 1 the target's own weights"
    areas = "shares of scored answers; attack success rate = complied + incoherent"
    safety = _safety(found, width).properties(title=title(f"Safety on the way to {name}", line))
    shares = _shares(found, width).properties(title=title("What the model answers", areas))
    both: alt.VConcatChart = alt.vconcat(safety, shares, spacing=28)
    both = both.resolve_scale(color="independent")
    return styled(both)


def way_chart(found: Interpolation, width: Width = "container") -> alt.LayerChart:
    """1 - ASR along the coefficients with its exact bounds, the tolerance, and both ends marked."""
    return styled(_safety(found, width))


def way_shares_chart(found: Interpolation, width: Width = "container") -> alt.LayerChart:
    """Refused, coherently complied and incoherent shares stacked along the coefficients."""
    return styled(_shares(found, width))


def interpolation_svg(found: Interpolation) -> str:
    """The chart as SVG."""
    return svg_of(interpolation_chart(found))


def interpolation_png(found: Interpolation) -> bytes:
    """The chart as PNG."""
    return png_of(interpolation_chart(found))


def interpolation_records(found: Interpolation) -> list[Record]:
    """One record a coefficient: as ``Interpolation.table``, with safety and its bounds instead of the ASR's."""

    def less(share: float | None) -> float | None:
        return None if share is None else 1 - share

    return [
        {**row, "safety": less(row.pop("asr")), "low": less(row["high"]), "high": less(row["low"])}
        for row in found.table()
    ]


def _target_name(found: Interpolation) -> str:
    return display_name(found.settings.target or "")


def _safety(found: Interpolation, width: Width) -> alt.LayerChart:
    import altair as alt

    curve = chart(interpolation_records(found)).encode(x=_axis(found))
    level = chart([{"safety": 1 - found.settings.tolerance}]).encode(y=share_axis("safety", _SAFETY))
    layers = [
        curve.mark_area(color=LINE, opacity=0.18).encode(y=share_axis("low", _SAFETY), y2="high:Q"),
        level.mark_rule(color=NEUTRAL, strokeDash=[5, 4]),
        *_ends(found),
        curve.mark_line(color=LINE, strokeWidth=3).encode(y=share_axis("safety", _SAFETY)),
        curve.mark_point(color=LINE, filled=True, size=45, opacity=1).encode(
            y=share_axis("safety", _SAFETY), tooltip=_told(found)
        ),
    ]
    described = "Safety against the coefficient of an interpolation, model and target marked"
    return alt.LayerChart(layer=layers).properties(width=width, height=_HEIGHT, description=described)


def _shares(found: Interpolation, width: Width) -> alt.LayerChart:
    import altair as alt

    rows = [
        {**row, "share": row[name], "answers": words, "order": order}
        for row in interpolation_records(found)
        for order, (name, (words, _)) in enumerate(SHARES.items())
    ]
    scale = alt.Scale(domain=[words for words, _ in SHARES.values()], range=[color for _, color in SHARES.values()])
    areas = (
        chart(rows)
        .mark_area(opacity=0.85)
        .encode(
            x=_axis(found),
            y=share_axis("share", "share of scored answers", stacked=True),
            color=alt.Color("answers:N", scale=scale, legend=alt.Legend(orient="bottom", title=None)),
            order="order:Q",
            tooltip=_told(found),
        )
    )
    described = "Stacked shares of refused, complied and incoherent answers against the coefficient"
    return alt.LayerChart(layer=[areas, *_ends(found, named=False)]).properties(
        width=width, height=_HEIGHT, description=described
    )


def _ends(found: Interpolation, *, named: bool = True) -> list[alt.Chart]:
    """Lines at the model and the target, named above the plot."""
    import altair as alt

    rows = [{"coefficient": 0.0, "text": "model"}, {"coefficient": 1.0, "text": f"target: {_target_name(found)}"}]
    ends = chart(rows).encode(x=_axis(found))
    rules = ends.mark_rule(color=NEUTRAL, strokeWidth=1.5)
    names = ends.mark_text(baseline="bottom", dy=-4, limit=240).encode(y=alt.value(0), text="text:N")
    return [rules, names] if named else [rules]


def _axis(found: Interpolation) -> alt.X:
    import altair as alt

    norm = found.relative_norm
    size = "" if norm is None else f"; 1 is {norm:.1%} of the weights' norm"
    scale = alt.Scale(domain=[found.alphas[0], found.alphas[-1]], nice=False)
    axis = alt.Axis(title=f"coefficient{size}", labelFlush=False, tickCount=10)
    return alt.X("coefficient:Q", scale=scale, axis=axis)


def _told(found: Interpolation) -> list[alt.Tooltip]:
    import altair as alt

    distance = [] if found.relative_norm is None else [alt.Tooltip("distance:Q", format=".2%", title="of the norm")]
    shares = [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("safety", "refused", "complied", "incoherent")]
    return [alt.Tooltip("coefficient:Q", format=".3f"), *distance, *shares]
