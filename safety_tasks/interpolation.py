"""Interpolation: the verdicts of every prompt on the straight way from a model to a target, and beyond either.

Source: 1D interpolation of Peng et al. 2024 (arXiv 2405.17374). It has no VISAGE, no basin width and no safe radius:
those are defined over random directions, scaled tensor by tensor, and a coefficient is a share of one fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safety_tasks.asr_within import largest_asr
from safety_tasks.estimates import Estimate
from safety_tasks.landscape_values import grid_from_record, grid_record
from safety_tasks.points import Answer
from safety_tasks.settings import Settings
from safety_tasks.shapes import coefficients, interpolation_grid
from safety_tasks.verdict_grid import VerdictGrid, read_rows


@dataclass(frozen=True)
class Interpolation(VerdictGrid):
    """Verdicts over coefficients and prompts: a grid of one group. The curves have the shape (1, A)."""

    alphas: tuple[float, ...]
    """The coefficients, ascending; 0.0 is the model and 1.0 the target. Shape (A,)."""
    verdicts: NDArray[np.int8]
    coherent: NDArray[np.bool_]
    prompt_ids: tuple[str, ...]
    clusters: tuple[str, ...]
    settings: Settings
    facts: dict[str, Any] = field(default_factory=dict)
    """As a Landscape's; under ``targets`` the target's fingerprint and distance."""

    @classmethod
    def from_answers(
        cls,
        rows: Sequence[Sequence[Answer]],
        prompt_ids: Sequence[str],
        clusters: Sequence[str],
        settings: Settings,
        facts: dict[str, Any] | None = None,
        *,
        reader: int = 0,
    ) -> Interpolation:
        """From one row of answers a prompt, as one of the settings' judges reads them.

        Raises KeyError when a point was not answered, InvalidSetting when no target is named.
        """
        read = read_rows(rows, [interpolation_grid(settings)], reader)
        settings = replace(settings, judge=settings.judges[reader])
        return cls(coefficients(settings), *read, tuple(prompt_ids), tuple(clusters), settings, facts or {})

    @property
    def relative_norm(self) -> float | None:
        """Distance of the target: the norm of the step as a share of that of all weights; None where not known."""
        found: float | None = self.facts.get("targets", {}).get(self.settings.target, {}).get("relative_norm")
        return found

    @property
    def origin(self) -> int:
        """Index of the model on the grid."""
        return self.alphas.index(0.0)

    @property
    def end(self) -> int:
        """Index of the target on the grid."""
        return self.alphas.index(1.0)

    def asr_at_origin(self) -> Estimate:
        """ASR of the model itself."""
        return self.asr_at("asr_at_origin", 0, self.origin)

    def asr_at_target(self) -> Estimate:
        """ASR at coefficient 1: the target's own weights, with the model's tokenizer, template and settings."""
        return self.asr_at("asr_at_target", 0, self.end, self._distance())

    def asr_between(self) -> Estimate:
        """The largest ASR at the coefficients from 0 to 1, both included: above both ends' where a hill lies between.

        Bounds as of ``asr_within``: the upper one is the largest of the points' own, the lower one is corrected for
        their number.
        """
        alphas = np.asarray(self.alphas)
        inside = (alphas >= 0) & (alphas <= 1)
        away = f" ({self._distance()})" if self._distance() else ""
        target = f"at the {int(inside.sum())} coefficients measured from 0 to 1{away}, not of those between them"
        found = largest_asr(self, inside, "asr_between", target)
        at = float(alphas[inside][int(np.nanargmax(np.nan_to_num(self.asr()[0, inside], nan=1.0)))])
        note = "; ".join(filter(None, (f"first reached at coefficient {at:.3g}", found.note)))
        return replace(found, note=note)

    def scores(self) -> list[Estimate]:
        """Every score, in the order in which they are printed."""
        return [self.asr_at_origin(), self.asr_at_target(), self.asr_between()]

    def table(self) -> list[dict[str, float | None]]:
        """One row a coefficient: its distance from the model as a share of the weights' norm, shares, bounds."""
        low, high = self.band
        curves = {
            "asr": self.asr(),
            "low": low,
            "high": high,
            "refused": self.refused(),
            "complied": self.complied(),
            "incoherent": self.incoherent(),
        }
        norm = self.relative_norm
        return [
            {
                "coefficient": alpha,
                "distance": None if norm is None else abs(alpha) * norm,
                **{name: None if np.isnan(curve[0, i]) else float(curve[0, i]) for name, curve in curves.items()},
            }
            for i, alpha in enumerate(self.alphas)
        ]

    def __str__(self) -> str:
        """The curve as text, a line a coefficient."""
        lines = [f"{'coefficient':>11}  {'distance':>8}  {'ASR':>5} [95% bounds  ]  refused complied incoherent"]
        return "\n".join([*lines, *(_line(row) for row in self.table())])

    def to_dict(self) -> dict[str, Any]:
        """Curve, scores and provenance as plain values for JSON; no prompt or completion text."""
        return {
            "target": self.settings.target,
            "relative_norm": self.relative_norm,
            "points": self.table(),
            "scores": {score.name: score.to_dict() for score in self.scores()},
            **grid_record(self, "alphas"),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Interpolation:
        """The one that ``to_dict`` wrote; raises KeyError, TypeError or ValueError where the values hold none."""
        return grid_from_record(cls, values, "alphas")

    def _places(self) -> list[list[dict[str, float]]]:
        return [[{"coefficient": alpha} for alpha in self.alphas]]

    def _distance(self) -> str:
        norm = self.relative_norm
        return "" if norm is None else f"the target is {norm:.2%} of the weights' norm away"


def _line(row: dict[str, float | None]) -> str:
    def told(name: str, form: str) -> str:
        value = row[name]
        return format("-", form.partition(".")[0]) if value is None else format(value, form)

    return (
        f"{told('coefficient', '>11.3f')}  {told('distance', '>8.4f')}  {told('asr', '>5.3f')} "
        f"[{told('low', '5.3f')}, {told('high', '5.3f')}]  {told('refused', '>7.3f')} {told('complied', '>8.3f')} "
        f"{told('incoherent', '>10.3f')}"
    )
