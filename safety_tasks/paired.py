"""Base against tuned on the same prompts: the paired difference of two rates, and which prompts flipped.

The interval is Tango's score interval. No maintained Python library has it: statsmodels 0.15 has no interval for a
difference of paired proportions, and its development version has Wald's and Newcombe's only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safety_tasks.estimates import Estimate
from safety_tasks.intervals import CONFIDENCE, Interval, effective_n, exact_rate_interval

PAIRED_TARGET = "over prompts like these, this judge and greedy decoding, the same prompts asked of both models"
_LISTED = 12  # ids in a sentence
_EDGE = 1e-12


@dataclass(frozen=True, slots=True)
class Flips:
    """The prompts on which the two models differ, by id; prompts that either left unscored are not among them."""

    event: str
    """What is counted: "answered" (harmful prompts), "refused" (benign ones), "unscored" ..."""
    to_event: tuple[str, ...]
    """Prompts with the event for the tuned model only."""
    back: tuple[str, ...]
    """Prompts with the event for the base only."""

    def __str__(self) -> str:
        """The flips with their ids: ``2 prompts flipped to answered (h1, h7), 0 back``."""
        count = len(self.to_event)
        noun = "prompt" if count == 1 else "prompts"
        return f"{count} {noun} flipped to {self.event}{_listed(self.to_event)}, {len(self.back)} back" + _listed(
            self.back
        )


@dataclass(frozen=True, slots=True, eq=False)
class PairedEstimate:
    """The difference of two rates on the same prompts: an estimate for a gate, and what stands behind it."""

    estimate: Estimate
    """tuned - base."""
    flips: Flips
    p_value: float
    """McNemar's exact test that flips go either way equally often, each prompt counted as one; a comment, no gate."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.estimate.to_dict(),
            "event": self.flips.event,
            "flipped": list(self.flips.to_event),
            "flipped_back": list(self.flips.back),
            "mcnemar_p": self.p_value,
        }


def paired_difference(
    name: str,
    tuned: Sequence[bool | None],
    base: Sequence[bool | None],
    clusters: Sequence[str],
    ids: Sequence[str],
    *,
    event: str = "answered",
    confidence: float = CONFIDENCE,
    judge: str = "",
) -> PairedEstimate:
    """The rate of an event for the tuned model less that for the base, each over its scored answers: ``name - base``.

    All sequences have one entry a prompt; None is an answer that was not scored. The lower bound reads every unknown
    answer as the best for the tuned model and the upper bound as the worst. Counts are scaled to the effective number
    of prompts. Where no prompt flipped to one side, the bound of that side is no tighter than Clopper and Pearson's for
    the other's flips, which below 50 prompts is the wider of the two (0 flips of 20: 0.168, Tango 0.161).
    Raises ValueError for sequences of unequal length and for no prompts.
    """
    rows = list(zip(tuned, base, clusters, ids, strict=True))
    if not rows:
        raise ValueError("a paired difference needs at least one prompt")
    share = effective_n(clusters) / len(rows)
    low = _interval(rows, True, share, confidence).low
    high = _interval(rows, False, share, confidence).high
    flips = Flips(
        event,
        tuple(id_ for here, there, _, id_ in rows if here is True and there is False),
        tuple(id_ for here, there, _, id_ in rows if here is False and there is True),
    )
    value = _share(tuned) - _share(base)
    scored = sum(None not in row[:2] for row in rows)
    p_value = mcnemar_p(len(flips.to_event), len(flips.back))
    widened = "" if share == 1 else f", {len(rows)} prompts counted as {len(rows) * share:.0f} for near-duplicates"
    notes = [
        f"{len(rows) - scored} of {len(rows)} pairs not scored on both sides" if scored < len(rows) else "",
        f"{len(flips.to_event)} flipped to {event}, {len(flips.back)} back",
        f"McNemar's exact p = {p_value:.2g}",
    ]
    estimate = Estimate(
        name=f"{name} - base",
        value=value,
        low=min(low, value),
        high=max(high, value),
        n=scored,
        method=f"Tango's score interval for paired proportions, {confidence:.0%}{widened}",
        target=PAIRED_TARGET,
        n_effective=len(rows) * share,
        note="; ".join(filter(None, notes)),
        judge=judge,
    )
    return PairedEstimate(estimate, flips, p_value)


def tango_interval(gained: float, lost: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Score interval for (gained - lost) / n of n pairs; counts may be fractional (effective). In [-1, 1].

    Source: Tango 1998, Statistics in Medicine 17:891, section 3: the differences that the score test does not reject,
    with the nuisance probability at its restricted maximum likelihood. Without discordant pairs it is
    +-z^2 / (n + z^2). Raises ValueError for n <= 0 or counts that do not fit.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    if not (n > 0 and gained >= 0 and lost >= 0 and gained + lost <= n * (1 + _EDGE)):
        raise ValueError(f"{gained} gained and {lost} lost of {n}: n must be positive and hold both")
    z = float(norm.ppf((1 + confidence) / 2))
    value = max(-1.0, min(1.0, (gained - lost) / n))

    def excess(difference: float, sign: int) -> float:
        score = _score(difference, gained, lost, n)
        return max(-2 * z, min(2 * z, score)) + sign * z  # infinite at the ends

    low = -1.0 if value <= -1 + _EDGE else float(brentq(excess, -1 + _EDGE, value, args=(-1,)))
    high = 1.0 if value >= 1 - _EDGE else float(brentq(excess, value, 1 - _EDGE, args=(1,)))
    return Interval(min(low, value), max(high, value))


def _score(difference: float, gained: float, lost: float, n: float) -> float:
    """The score statistic; standard normal where ``difference`` is the true one."""
    a = 2 * n
    b = (2 * n - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    nuisance = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    above = gained - lost - n * difference
    variance = n * (2 * nuisance + difference * (1 - difference))
    if variance <= 0:
        return math.copysign(math.inf, above) if above else 0.0
    return above / math.sqrt(variance)


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided p of McNemar's exact test; 1 without discordant pairs."""
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _interval(rows: Sequence[tuple[Any, ...]], is_best: bool, share: float, confidence: float) -> Interval:
    """The interval with every unknown answer read as the best, or as the worst, for the tuned model."""
    read = [(not is_best if here is None else here, is_best if there is None else there) for here, there, *_ in rows]
    gained = share * sum(here and not there for here, there in read)
    lost = share * sum(there and not here for here, there in read)
    n = share * len(rows)
    low, high = tango_interval(gained, lost, n, confidence)
    if not lost:
        high = max(high, exact_rate_interval(min(gained, n), n, confidence).high)
    if not gained:
        low = min(low, -exact_rate_interval(min(lost, n), n, confidence).high)
    return Interval(low, high)


def _share(verdicts: Sequence[bool | None]) -> float:
    """Share of the scored; the middle of [0, 1] where nothing was."""
    scored = [verdict for verdict in verdicts if verdict is not None]
    return sum(scored) / len(scored) if scored else 0.5


def _listed(ids: tuple[str, ...]) -> str:
    if not ids:
        return ""
    more = f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
    return f" ({', '.join(ids[:_LISTED])}{more})"
