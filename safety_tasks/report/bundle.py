"""The libraries that draw the charts: Vega, Vega-Lite and Vega-Embed, inlined by vl-convert."""

from __future__ import annotations

from functools import cache


@cache
def chart_bundle() -> str:
    """A script that leaves ``vegaEmbed`` to those after it; about 0.9 MB, 2 seconds to bundle, once a process."""
    import vl_convert

    text: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return text
