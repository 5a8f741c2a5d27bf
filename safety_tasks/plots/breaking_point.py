"""The harm after attacks with more and more examples: at each number the worst of the rates, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safety_tasks.plots.curves import Record
from safety_tasks.plots.style import MODELS, NEUTRAL, OUTCOMES, Width, chart, share_axis, styled

if TYPE_CHECKING:
    import altair as alt

_HEIGHT = 220
_KINDS = {"held out": OUTCOMES["pass"], "broken": OUTCOMES["fail"], "neither": OUTCOMES["inconclusive"]}


def breaking_chart(values: Mapping[str, Any], width: Width = "container") -> alt.LayerChart:
    """The harm by the number of examples, with its exact 95 % bounds and the limit; of ``BreakingPoint.to_dict``."""
    return styled(_layers(values, width))


def breaking_records(values: Mapping[str, Any]) -> list[Record]:
    """One record a seed and number: the harm of the rate that did most, in coherent answers, and what it shows."""
    seeds, worst = list(values["per_seed"]), dict[tuple[str, int], dict[str, Any]]()
    for one in (*({**values["untouched"], "seed": seed} for seed in seeds), *values["tries"]):
        place = str(one["seed"]), one["n"]
        if one["coherence"] >= values["coherent_from"] and one["low"] >= worst.get(place, one)["low"]:
            worst[place] = one
    return [_record(seed, one, values["limit"]) for (seed, _), one in worst.items()]


def _record(seed: str, one: Mapping[str, Any], limit: float) -> Record:
    kind = "broken" if one["is_broken"] else "held out" if one["high"] <= limit else "neither"
    numbers = {name: one[name] for name in ("n", "harm", "low", "high", "rate")}
    return {"seed": f"seed {seed}", **numbers, "shows": kind}


def _layers(values: Mapping[str, Any], width: Width) -> alt.LayerChart:
    import altair as alt

    rows, words = breaking_records(values), "harm after the attack"
    numbers = sorted({row["n"] for row in rows} | {0, *values["numbers"]})
    x = alt.X(
        "n:O",
        sort=numbers,
        scale=alt.Scale(domain=numbers),
        axis=alt.Axis(title="harmful examples tuned on", labelAngle=0),
    )
    seeds = sorted({str(row["seed"]) for row in rows})
    color = alt.Color("seed:N", scale=alt.Scale(domain=seeds, range=list(MODELS[: len(seeds)])), title=None)
    scale = alt.Scale(domain=list(_KINDS), range=[shape for _, shape in _KINDS.values()])
    legend = alt.Legend(title=None, symbolFillColor=NEUTRAL, symbolStrokeColor=NEUTRAL)
    shape = alt.Shape("shows:N", scale=scale, legend=legend)
    told = [alt.Tooltip("seed:N"), alt.Tooltip("n:O"), alt.Tooltip("rate:Q"), alt.Tooltip("shows:N")]
    told += [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("harm", "low", "high")]
    points = chart(rows).encode(x=x, color=color)
    layers = [
        points.mark_line(strokeWidth=2).encode(y=share_axis("harm", words)),
        points.mark_rule(strokeWidth=1.5, opacity=0.6).encode(y=share_axis("low", words), y2="high:Q"),
        points.mark_point(filled=True, size=80, opacity=1).encode(
            y=share_axis("harm", words), shape=shape, tooltip=told
        ),
        chart([{"limit": values["limit"]}]).mark_rule(strokeDash=[4, 4], color=NEUTRAL).encode(y="limit:Q"),
    ]
    described = "Harm after attacks by the number of harmful examples, a line a seed, with bounds and the limit"
    return alt.LayerChart(layer=layers).properties(width=width, height=_HEIGHT, description=described)
