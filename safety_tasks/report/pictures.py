"""Pictures: the title, charts and caption of each shape that was measured beside the landscape along random lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from safety_tasks.block_widths import Blocks
from safety_tasks.by_system_prompt import BySystemPrompt
from safety_tasks.capability import Capability
from safety_tasks.curtailment import Curtailed
from safety_tasks.edge_scan import EdgeScan
from safety_tasks.interpolation import Interpolation
from safety_tasks.intervals import effective_n
from safety_tasks.margin import Margin
from safety_tasks.models import display_name
from safety_tasks.plane import Plane
from safety_tasks.plots import (
    block_widths_chart,
    bounds_chart,
    breaking_chart,
    capability_curve,
    compared_curves,
    edges_chart,
    margin_chart,
    plane_map,
    prefill_chart,
    safety_chart,
    system_prompts_chart,
    way_chart,
    way_shares_chart,
    worst_chart,
)
from safety_tasks.plots.still import stacked
from safety_tasks.plots.style import Width
from safety_tasks.records import Report
from safety_tasks.report.redaction import plain
from safety_tasks.report.wording import RANDOM_DIRECTIONS
from safety_tasks.settings import Settings
from safety_tasks.stored_shapes import Shape, kind_of
from safety_tasks.variants.prefills import PrefillCurve
from safety_tasks.worst_width import WorstWidth

if TYPE_CHECKING:
    import altair as alt

    Charts = Mapping[str, alt.LayerChart]
    """By heading."""


class Picture(NamedTuple):
    """What a page shows of a shape."""

    title: str
    caption: str
    """What was moved along what, and who read how many answers."""
    charts: Charts


def picture_of(name: str, shape: Shape, width: Width = "container") -> Picture:
    """The picture of the shape that a task of this name measured; one without charts where its kind has none."""
    draw = _PICTURES.get(kind_of(shape))
    return Picture(name, "", {}) if draw is None else draw(shape, width)


def specs_of(found: Picture) -> dict[str, dict[str, Any]]:
    """Vega-Lite of its charts, by heading."""
    return {heading: plain(drawn.to_dict(validate=False)) for heading, drawn in found.charts.items()}


def stills_of(report: Report) -> dict[str, dict[str, Any]]:
    """A report's shapes as still pictures, by names that a file may have."""
    every = {name: specs_of(picture_of(name, shape)) for name, shape in report.shapes.items()}
    return {re.sub(r"[^\w.=-]+", "-", name).strip("-"): stacked(specs) for name, specs in every.items() if specs}


def _interpolation(found: Interpolation, width: Width) -> Picture:
    target = display_name(found.settings.target or "")
    norm = "" if found.relative_norm is None else f", {found.relative_norm:.1%} of the weights' norm away"
    return Picture(
        f"On the way to {target}",
        f"{_read(found.settings, found.clusters)}. All weights at {len(found.alphas)} coefficients of the straight way "
        f"from the model (0) to {target} (1{norm}), and beyond either. Band: exact 95% bounds at each coefficient; "
        "dashed: the tolerance.",
        {"Safety on the way": way_chart(found, width), "What the model answers": way_shares_chart(found, width)},
    )


def _plane(found: Plane, width: Width) -> Picture:
    first, second = found.axes
    is_random = found.settings.plane == "random"
    diamonds = "; diamonds: targets" if found.targets() else ""
    return Picture(
        f"A plane through the model: {first.name}, {second.name}",
        f"{_read(found.settings, found.clusters)}. All weights at {len(found.alphas)} x {len(found.betas)} points "
        f"theta + alpha d1 + beta d2, a cell each; d1: {first.name}, d2: {second.name}. Outline: attack success rate "
        f"within the tolerance at the cell's point; circle: the model{diamonds}. It shows this plane and no other."
        f"{' ' + RANDOM_DIRECTIONS if is_random else ''}",
        {"Attack success rate in the plane": plane_map(found, width)},
    )


def _margin(found: Margin, width: Width) -> Picture:
    base = display_name(found.settings.target or "")
    norm = "" if found.relative_norm is None else f", which moves {found.relative_norm:.1%} of the weights' norm"
    counts = " and ".join(f"{len(curve.clusters)} prompts for {curve.name}" for curve in found.curves)
    return Picture(
        f"Margin of the fine-tuning from {base}",
        f"n = {counts}, judge {found.settings.judge}. All weights on {base} + scale x (model - {base}){norm}: 0 is "
        f"{base}, 1 the model, at {len(found.scales)} scales. Bands: exact 95% bounds at each scale; dashed: the "
        "limits. Another fine-tuning of the same size may break the limits sooner.",
        {"Rates against the scale of the fine-tuning": margin_chart(found, width)},
    )


def _blocks(found: Blocks, width: Width) -> Picture:
    landscape = next(iter(found.landscapes.values()))
    settings = landscape.settings
    return Picture(
        "Each block moved alone",
        f"{_read(settings, landscape.clusters)}. Only the block's weights along {_random(settings)}; the rest stays. "
        f"Lines: grid points at which the exact 95% bounds meet or miss the tolerance; arrow: no edge up to the grid's "
        f"end. Bands: means of the directions' exact 95% bounds. {RANDOM_DIRECTIONS}",
        {
            "Basin width of each block": block_widths_chart(found, width),
            "Safety with each block moved alone": compared_curves(list(found.landscapes.items()), width),
        },
    )


def _capability(found: Capability, width: Width) -> Picture:
    settings = found.landscape.settings
    return Picture(
        f"{found.metric} of {found.task} beside safety",
        f"Safety: {_read(settings, found.landscape.clusters)}. {found.metric} of {found.task}: {found.origin.n} "
        f"documents at each point. All weights along {_random(settings)}. Thin lines: directions; thick: their mean; "
        f"bands: means of the directions' 95% bounds; dashed: the tolerance, and {found.share:.0%} of what the model "
        f"itself has. {RANDOM_DIRECTIONS}",
        {
            "Safety along random directions": safety_chart(found.landscape, width),
            f"{found.metric} at the same points": capability_curve(found, width),
        },
    )


def _system_prompts(found: BySystemPrompt, width: Width) -> Picture:
    rates = {one.name: one for one in found.estimates}
    counts = {one.n for one in found.estimates if "@" in one.name and "-" not in one.name}
    charts = {"Rates under each system prompt": system_prompts_chart(rates, width)}
    moved = ""
    if found.landscapes:
        charts["Safety under each system prompt"] = compared_curves(list(found.landscapes.items()), width)
        moved = f" Safety: all weights along {_random(found.settings)}. {RANDOM_DIRECTIONS}"
    return Picture(
        "Under several system prompts",
        f"n = {' and '.join(map(str, sorted(counts)))} prompts of {found.settings.prompts} and "
        f"{found.settings.benign_prompts}, judge {found.settings.judge}. The same prompts under each system prompt, on "
        f"the model as it is; lines: 95% intervals.{moved}",
        charts,
    )


def _edges(found: EdgeScan, width: Width) -> Picture:
    points, full = found.points_measured()
    return Picture(
        "The basin's edges (mode edge)",
        f"{_read(found.settings, found.directions[0].clusters)}. All weights along {_random(found.settings)}, at "
        f"{points} of the grid's {full} points: those that bisection needed. Lines: exact 95% bounds at each point, "
        f"directions drawn slightly apart; dashed: the tolerance. What lies between measured points is not known. "
        f"{RANDOM_DIRECTIONS}",
        {"Safety at the measured points": edges_chart(found, width)},
    )


def _worst(found: WorstWidth, width: Width) -> Picture:
    settings = found.random.settings
    return Picture(
        "Along the worst direction",
        f"{_read(settings, found.random.clusters)}. All weights along the gradient of the loss on compliant openings "
        "to these prompts (toward compliance to the right), each tensor scaled to its weight's norm, beside "
        f"{_random(settings)}. Bands: exact 95% bounds; the axis is linear near 0 and logarithmic beyond. Other "
        f"directions may be narrower than this one. {RANDOM_DIRECTIONS}",
        {"Safety along the worst and along random directions": worst_chart(found, width)},
    )


def _prefill(found: PrefillCurve, width: Width) -> Picture:
    rate = found.worst
    return Picture(
        "Behind a compliant beginning",
        f"n = {rate.n} prompts at each length, judge {rate.judge}. The answer begins with so many words of one "
        "compliant text of ours, which name no subject; the judge reads what the model says after them. Band: exact "
        "95% bounds. The model's weights are as they are.",
        {"Attack success rate by the words of the beginning": prefill_chart(found, width)},
    )


def _breaking(found: Shape, width: Width) -> Picture:
    values = found.to_dict()
    facts, recipe = values["facts"], values["recipe"]
    data, judge = facts.get("data", "unnamed data"), facts.get("harm_judge") or "none: attack success rate"
    told = values["doubt"] or f"Values of the seeds: {', '.join(f'{k}: {v}' for k, v in _numbers(values).items())}."
    return Picture(
        "Harmful examples until the model breaks",
        f"{recipe['method']}, {recipe['steps']} steps on examples of {data}, at each number the learning rate that did "
        f"most harm, harm judge {judge}. Lines: exact 95% "
        f"bounds; dashed: the limit {values['limit']:g}. {told} Attacks after which the answers are noise are left "
        "out. Another attack, or other data, may take fewer.",
        {"Harm after fine-tuning on harmful examples": breaking_chart(values, width)},
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {seed: f"> {values['numbers'][-1]}" if n is None else n for seed, n in values["per_seed"].items()}


def _bounds(found: Shape, width: Width) -> Picture:
    values = found.to_dict()
    tolerance, judge = values["tolerance"], values["judge"]
    return Picture(
        "What settled the gates (mode gate)",
        f"Judge {judge}. Lines: exact 95% bounds of safety at the {len(values['points'])} points that were asked, "
        "where a prompt that was not asked counts either way; directions drawn slightly apart; dashed: the tolerance. "
        f"{RANDOM_DIRECTIONS}",
        {"Bounds of safety at the points asked": bounds_chart(values, tolerance, width)},
    )


_PICTURES: dict[str, Callable[[Any, Width], Picture]] = {
    Interpolation.__name__: _interpolation,
    Plane.__name__: _plane,
    Margin.__name__: _margin,
    Blocks.__name__: _blocks,
    Capability.__name__: _capability,
    BySystemPrompt.__name__: _system_prompts,
    EdgeScan.__name__: _edges,
    WorstWidth.__name__: _worst,
    PrefillCurve.__name__: _prefill,
    Curtailed.__name__: _bounds,
    "BreakingPoint": _breaking,  # whose module brings torch
}


def _read(settings: Settings, clusters: tuple[str, ...]) -> str:
    """How many prompts of which set, and who read the answers."""
    n, effective = len(clusters), effective_n(clusters)
    counted = "" if round(effective) == n else f" (effective n {effective:.0f}: near-duplicates count as one)"
    return f"n = {n} prompts of {settings.prompts}{counted}, judge {settings.judge}, tolerance {settings.tolerance:g}"


def _random(settings: Settings) -> str:
    several = "s" if settings.directions > 1 else ""
    return (
        f"{settings.directions} random direction{several} (seed {settings.seed}), each tensor scaled to its weight's "
        f"norm, radius {settings.radius:g}"
    )
