"""Charts of a landscape and of gates, in Altair: records -> Vega-Lite, drawn by whoever shows them.

Altair and vl-convert are imported when a chart is asked for. Not covered: the page around the charts (``report/``).
"""

from safety_tasks.plots.compared import compared_curves
from safety_tasks.plots.gates import gate_chart, gates_chart
from safety_tasks.plots.landscape import landscape_chart, landscape_svg, safety_chart, shares_chart

__all__ = [
    "compared_curves",
    "gate_chart",
    "gates_chart",
    "landscape_chart",
    "landscape_svg",
    "safety_chart",
    "shares_chart",
]
