"""A chart as a still picture, drawn without a browser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

PIXELS = 2.0
"""Of a PNG, per unit of the chart."""


def svg_of(drawn: alt.TopLevelMixin) -> str:
    """The chart as SVG, on a transparent background."""
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(_text(drawn))
    return svg


def png_of(drawn: alt.TopLevelMixin) -> bytes:
    """The chart as PNG, on a transparent background."""
    import vl_convert

    png: bytes = vl_convert.vegalite_to_png(_text(drawn), scale=PIXELS)
    return png


def _text(drawn: alt.TopLevelMixin) -> str:
    spec: dict[str, Any] = drawn.to_dict(validate=False)
    return json.dumps(spec, allow_nan=False)
