"""Charts of a landscape and of gates, in Altair: records -> Vega-Lite, drawn by whoever shows them.

Altair and vl-convert are imported when a chart is asked for. Not covered: the page around the charts (``report/``).
"""

from safety_tasks.plots.block_widths import block_widths_chart
from safety_tasks.plots.breaking_point import breaking_chart
from safety_tasks.plots.capability import capability_chart, capability_curve
from safety_tasks.plots.compared import compared_curves
from safety_tasks.plots.gates import gate_chart, gates_chart
from safety_tasks.plots.interpolation import (
    interpolation_chart,
    interpolation_png,
    interpolation_svg,
    way_chart,
    way_shares_chart,
)
from safety_tasks.plots.landscape import landscape_chart, landscape_svg, safety_chart, shares_chart
from safety_tasks.plots.margin import margin_chart, margin_png, margin_svg
from safety_tasks.plots.modes import bounds_chart, edges_chart
from safety_tasks.plots.plane import plane_chart, plane_map, plane_png, plane_svg
from safety_tasks.plots.prefill import prefill_chart, prefill_png, prefill_svg
from safety_tasks.plots.system_prompts import system_prompts_chart
from safety_tasks.plots.trajectory import path_chart, path_png, path_svg
from safety_tasks.plots.worst_direction import worst_chart, worst_png, worst_svg

__all__ = [
    "block_widths_chart",
    "bounds_chart",
    "breaking_chart",
    "capability_chart",
    "capability_curve",
    "compared_curves",
    "edges_chart",
    "gate_chart",
    "gates_chart",
    "interpolation_chart",
    "interpolation_png",
    "interpolation_svg",
    "landscape_chart",
    "landscape_svg",
    "margin_chart",
    "margin_png",
    "margin_svg",
    "path_chart",
    "path_png",
    "path_svg",
    "plane_chart",
    "plane_map",
    "plane_png",
    "plane_svg",
    "prefill_chart",
    "prefill_png",
    "prefill_svg",
    "safety_chart",
    "shares_chart",
    "system_prompts_chart",
    "way_chart",
    "way_shares_chart",
    "worst_chart",
    "worst_png",
    "worst_svg",
]
