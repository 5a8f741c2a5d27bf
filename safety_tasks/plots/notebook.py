"""What a notebook shows of a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safety_tasks.interpolation import Interpolation
from safety_tasks.landscape import Landscape
from safety_tasks.margin import Margin
from safety_tasks.plane import Plane
from safety_tasks.plots.interpolation import interpolation_chart, interpolation_svg
from safety_tasks.plots.landscape import landscape_chart, landscape_svg
from safety_tasks.plots.margin import margin_chart, margin_svg
from safety_tasks.plots.plane import plane_chart, plane_svg
from safety_tasks.plots.worst_direction import worst_chart, worst_svg
from safety_tasks.shown import Shown
from safety_tasks.worst_width import WorstWidth

if TYPE_CHECKING:
    import altair as alt

_WIDTH = 560


def notebook_bundle(found: Shown) -> dict[str, Any]:
    """Its plot by MIME type, the front end's choice: Vega-Lite, or SVG where that is not known; never the network.

    Empty for what no plot is known of.
    """
    import altair as alt

    drawn = _drawn(found)
    if drawn is None:
        return {}
    version = alt.SCHEMA_VERSION.removeprefix("v").partition(".")[0]
    chart, svg = drawn
    return {f"application/vnd.vegalite.v{version}+json": chart.to_dict(validate=False), "image/svg+xml": svg}


def _drawn(found: Shown) -> tuple[alt.VConcatChart | alt.LayerChart, str] | None:
    if isinstance(found, Landscape):
        return landscape_chart(found), landscape_svg(found)
    if isinstance(found, Interpolation):
        return interpolation_chart(found), interpolation_svg(found)
    if isinstance(found, Plane):
        return plane_chart(found), plane_svg(found)
    if isinstance(found, WorstWidth):
        return worst_chart(found, _WIDTH), worst_svg(found, _WIDTH)
    return (margin_chart(found, _WIDTH), margin_svg(found, _WIDTH)) if isinstance(found, Margin) else None
