"""The curves of a landscape as flat records: what the charts draw and the page's tables print."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from safety_tasks.basin import Basin, Edge
from safety_tasks.intervals import Floats
from safety_tasks.landscape import Landscape

Record = dict[str, Any]


def mean_records(landscape: Landscape) -> list[Record]:
    """One record an alpha: shares, safety and its bounds, each the mean over directions; None where none was scored.

    Edge: ``low`` and ``high`` are means of the directions' exact 95 % bounds, so they speak for these directions.
    """
    low, high = landscape.band
    means = {name: _mean(curve) for name, curve in {**_shares(landscape), "low": 1 - high, "high": 1 - low}.items()}
    return [{"alpha": alpha, **{name: means[name][i] for name in means}} for i, alpha in enumerate(landscape.alphas)]


def direction_records(landscape: Landscape) -> list[Record]:
    """One record a direction and alpha: shares and safety; None where nothing was scored."""
    shares = _shares(landscape)
    return [
        {"alpha": alpha, "direction": d + 1, **{name: _finite(curve[d, i]) for name, curve in shares.items()}}
        for d in range(landscape.n_directions)
        for i, alpha in enumerate(landscape.alphas)
    ]


def edge_records(spans: Sequence[Basin]) -> list[Record]:
    """One record a direction and side: alpha of the edge, signed; its kind; the bounds of its distance from 0."""
    return [
        {"direction": d + 1, "side": side, "alpha": sign * edge.at, **edge._asdict(), "most": _finite(edge.most)}
        for d, span in enumerate(spans)
        for side, sign, edge in (("left", -1, span.left), ("right", 1, span.right))
    ]


def explain_edges(edges: Sequence[Edge], sign: str) -> str:
    """Mean edge of one side and its kinds, in two lines: ``edge at −0.31`` over ``2 harmful, 1 noise``."""
    kinds = Counter(edge.kind for edge in edges)
    at = f"{sign}{np.mean([edge.at for edge in edges]):.2f}"
    if set(kinds) == {"censored"}:
        return f"no edge\nup to {at}"
    listed = next(iter(kinds)) if len(kinds) == 1 else ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    return f"edge at {at}{' or beyond' if 'censored' in kinds else ''}\n{listed}"


def _shares(landscape: Landscape) -> dict[str, Floats]:
    return {
        "safety": 1 - landscape.asr(),
        "refused": landscape.refused(),
        "complied": landscape.complied(),
        "incoherent": landscape.incoherent(),
    }


def _mean(curves: Floats) -> list[float | None]:
    return [None if np.isnan(column).all() else float(np.nanmean(column)) for column in curves.T]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
