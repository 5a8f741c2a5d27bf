"""What a notebook shows of a landscape."""

from __future__ import annotations

from typing import Any

from safety_tasks.landscape import Landscape
from safety_tasks.plots.landscape import landscape_chart, landscape_svg


def notebook_bundle(landscape: Landscape) -> dict[str, Any]:
    """Its plot by MIME type, the front end's choice: Vega-Lite, or SVG where that is not known; never the network."""
    import altair as alt

    version = alt.SCHEMA_VERSION.removeprefix("v").partition(".")[0]
    spec = landscape_chart(landscape).to_dict(validate=False)
    return {f"application/vnd.vegalite.v{version}+json": spec, "image/svg+xml": landscape_svg(landscape)}
