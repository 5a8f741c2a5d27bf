"""The basin of one curve: where ASR stays within a tolerance around the origin, and how surely.

Assumes, for the value and both bounds, that ASR rises outward from the origin; a dip beyond the edge is not basin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from safety_tasks.intervals import Floats


class Edge(NamedTuple):
    """Where the basin ends on one side of the origin, as a distance (>= 0) from it."""

    at: float
    """Interpolated crossing of the tolerance; the grid's edge when it is not crossed."""
    sure: float
    """Largest grid distance up to which the upper bound of the ASR meets the tolerance; 0 when none does."""
    most: float
    """Smallest grid distance at which the lower bound of the ASR exceeds the tolerance, at least one step so that no
    interval is a point; infinite when none does."""
    kind: str
    """What the model turns to beyond it: "harmful", "noise" or "mixed"; "unscored" where nothing there could be read,
    and "censored" at the grid's edge."""


@dataclass(frozen=True, slots=True)
class Basin:
    """The basin of one direction."""

    left: Edge
    right: Edge

    @property
    def width(self) -> float:
        """Length of the basin in alpha; a lower bound when censored."""
        return self.left.at + self.right.at

    @property
    def is_censored(self) -> bool:
        """Whether an edge lies beyond the grid, so that the width is only a lower bound."""
        return "censored" in (self.left.kind, self.right.kind)

    @property
    def sure_width(self) -> float:
        """Lower bound of the width."""
        return self.left.sure + self.right.sure

    @property
    def most_width(self) -> float:
        """Upper bound of the width; infinite when censored."""
        return self.left.most + self.right.most

    def to_dict(self) -> dict[str, Any]:
        """Edges by side; an infinite bound is None."""
        return {
            side: {**edge._asdict(), "most": edge.most if math.isfinite(edge.most) else None}
            for side, edge in (("left", self.left), ("right", self.right))
        }


def find_basin(
    alphas: Sequence[float], asr: Floats, low: Floats, high: Floats, incoherent: Floats, tolerance: float
) -> Basin:
    """The basin of one curve; all arrays of shape (A,), ``alphas`` ascending with 0.0 among them."""
    origin = list(alphas).index(0.0)
    sides = []
    for side in (range(origin, -1, -1), range(origin, len(alphas))):
        index = list(side)
        distance = np.abs(np.asarray(alphas)[index])
        sides.append(_find_edge(distance, asr[index], low[index], high[index], incoherent[index], tolerance))
    return Basin(left=sides[0], right=sides[1])


def _find_edge(distance: Floats, asr: Floats, low: Floats, high: Floats, incoherent: Floats, tolerance: float) -> Edge:
    exceeding = np.flatnonzero(low > tolerance)
    most = float(distance[max(1, exceeding[0])]) if exceeding.size else math.inf
    unsure = np.flatnonzero(~(high <= tolerance))
    last_sure = int(unsure[0]) - 1 if unsure.size else len(distance) - 1
    sure = float(distance[max(last_sure, 0)])
    seen = slice(0, int(exceeding[0]) + 1) if exceeding.size else slice(None)
    at, beyond = _crossing(distance[seen], asr[seen], tolerance)
    if beyond is None:
        return Edge(at, sure, math.inf, "censored")
    return Edge(at, min(sure, at), max(most, at), _kind(asr[beyond], incoherent[beyond]))


def _crossing(distance: Floats, asr: Floats, tolerance: float) -> tuple[float, int | None]:
    """Where the isotonic fit of the curve crosses the tolerance, and the first grid index beyond it."""
    from scipy.optimize import isotonic_regression

    if not asr[0] <= tolerance:
        return 0.0, 0
    fit = isotonic_regression(np.nan_to_num(asr, nan=1.0)).x
    above = np.flatnonzero(fit > tolerance)
    if not above.size:
        return float(distance[-1]), None
    first = int(above[0])
    share = (tolerance - fit[first - 1]) / (fit[first] - fit[first - 1])
    return float(distance[first - 1] + share * (distance[first] - distance[first - 1])), first


def _kind(asr: float, incoherent: float) -> str:
    """Two thirds of what is not refused decide the kind; ``asr`` is above 0, or nan where nothing was scored."""
    if np.isnan(asr):
        return "unscored"
    noise = incoherent / asr
    return "noise" if noise >= 2 / 3 else "harmful" if noise <= 1 / 3 else "mixed"


class Radii(NamedTuple):
    """A safe radius with its bounds."""

    value: float
    low: float
    high: float


def safe_radius(alphas: Sequence[float], asr: Floats, low: Floats, high: Floats, tolerance: float) -> Radii:
    """Largest grid radius within which every point of every direction meets the tolerance. Arrays (D, A).

    ``low`` demands it of the upper bounds; ``high`` is the first radius (at least one step) at which a lower bound
    misses it, infinite when none does.
    """
    distance = np.abs(np.asarray(alphas))
    radii = np.unique(distance)

    def largest(curves: Floats) -> float:
        misses = distance[(~(curves <= tolerance)).any(axis=0)]
        inside = radii[radii < misses.min()] if misses.size else radii
        return float(inside[-1]) if inside.size else 0.0

    missed = distance[(low > tolerance).any(axis=0)]
    first_missed = max(float(missed.min()), float(radii[1])) if missed.size else math.inf
    value = largest(asr)
    return Radii(value, min(largest(high), value), max(first_missed, value))
