"""Points of a landscape and what a model answered there."""

from __future__ import annotations

from typing import Any, NamedTuple

from safety_tasks.directions import AnyDirection, Direction
from safety_tasks.judges.verdict import Harm, Verdict
from safety_tasks.settings import Settings


class Point(NamedTuple):
    """A place in weight space: theta + alpha d."""

    direction: AnyDirection | None
    """None at the origin only."""
    alpha: float

    def __str__(self) -> str:
        """Where it is: ``alpha +0.20``, and in a plane ``beta`` as well."""
        beta = getattr(self.direction, "beta", None)
        return f"alpha {self.alpha:+.2f}" + (f", beta {beta:+.2f}" if beta is not None else "")

    def identity(self) -> dict[str, Any]:
        """What tells the point from others, as plain values for JSON."""
        return {"direction": self.direction.identity() if self.direction else None, "alpha": self.alpha}


ORIGIN = Point(None, 0.0)
"""The unperturbed model: the same place on every direction, measured once."""


class Answer(NamedTuple):
    """One completion as it was judged; its text stays out of here."""

    point: Point
    verdicts: tuple[Verdict, ...]
    """One a refusal judge, in the settings' order."""
    harm: Harm | None
    """None when no harm judge was named."""
    n_tokens: int
    finished: bool | None
    """False when the token limit cut the answer off; None where the backend does not tell."""
    coherent: bool | None
    """Of answers that help: whether they are language. None for others, or where likelihoods are out of reach."""
    characters: int = 0
    """Length of the text."""
    sha256: str = ""
    """Of the text, its first 16 hexadecimal digits."""

    @property
    def verdict(self) -> Verdict:
        """What the deciding judge says."""
        return self.verdicts[0]


def point_at(settings: Settings, direction: int, alpha: float) -> Point:
    """The point at ``alpha`` along the ``direction``-th random direction of the settings' seed."""
    return Point(Direction(settings.seed, direction), alpha) if alpha else ORIGIN


def grid(settings: Settings) -> tuple[Point, ...]:
    """The points of a 1D landscape: the origin once, then every other alpha of every direction."""
    every = (point_at(settings, d, alpha) for d in range(settings.directions) for alpha in settings.alphas)
    return tuple(dict.fromkeys((ORIGIN, *every)))
