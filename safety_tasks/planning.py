"""Planning: what a number of prompts can decide before anything is measured, and what would settle what is open.

Every bound is the exact one of ``intervals``, as the gates use it. A rate is one of failures: lower is better, and
``operator`` is ``<=`` or ``<``. More prompts are taken to be as diverse as those that are there (the same ``share``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np

from safety_tasks.estimates import Estimate
from safety_tasks.intervals import CONFIDENCE, bounded_mean_interval, effective_n, exact_rate_interval

MOST_PROMPTS = 1_000_000  # beyond it no number is named
_MOST_OF_A_MEAN = 4096  # its interval costs 2000 numbers a prompt
_CLOSE = 1e-9


class Sample(NamedTuple):
    """A number of prompts, and the share of it that is left when near-duplicates count as one."""

    n: int
    share: float = 1.0

    @classmethod
    def of(cls, clusters: Sequence[str]) -> Sample:
        """The sample of prompts in these clusters; raises ValueError for none."""
        if not clusters:
            raise ValueError("a sample needs at least one prompt")
        return cls(len(clusters), effective_n(clusters) / len(clusters))

    @property
    def effective(self) -> float:
        """Effective number of prompts."""
        return self.n * self.share


def upper_bound(failures: float, sample: Sample, confidence: float = CONFIDENCE) -> float:
    """Exact upper bound of the rate after that many failures; equal to that of ``estimates.rate``."""
    return exact_rate_interval(failures * sample.share, sample.n * sample.share, confidence).high


def passes(failures: float, sample: Sample, operator: str, limit: float, confidence: float = CONFIDENCE) -> bool:
    """Whether the upper bound after that many failures meets the limit."""
    high = upper_bound(failures, sample, confidence)
    return high < limit if operator == "<" else high <= limit


@cache
def allowed_failures(sample: Sample, operator: str, limit: float, confidence: float = CONFIDENCE) -> int | None:
    """The largest number of failures that passes; None when not even 0 does."""
    first_miss = _first(lambda k: not passes(k, sample, operator, limit, confidence), 0, sample.n + 1)
    return None if first_miss == 0 else first_miss - 1


@cache
def prompts_needed(operator: str, limit: float, confidence: float = CONFIDENCE, share: float = 1.0) -> int | None:
    """The smallest number of prompts at which 0 failures pass; None where no number does (above MOST_PROMPTS)."""
    if not passes(0, Sample(MOST_PROMPTS, share), operator, limit, confidence):
        return None
    return _first(lambda n: passes(0, Sample(n, share), operator, limit, confidence), 1, MOST_PROMPTS)


def chance_of_green(sample: Sample, allowed: int | None, rate: float) -> float:
    """Probability that at most ``allowed`` prompts fail at a true rate; binomial on the effective number of prompts."""
    from scipy.stats import binom

    if allowed is None:
        return 0.0
    return float(binom.cdf(math.floor(allowed * sample.share + _CLOSE), round(sample.effective), rate))


def best_mean(sample: Sample) -> float:
    """The lower bound of a mean of bounded values (mean safety, VISAGE) when every value is 1."""
    return bounded_mean_interval(np.ones(sample.n), sample.effective).low


def prompts_needed_of_a_mean(operator: str, limit: float, share: float = 1.0) -> int | None:
    """The smallest number of prompts at which an all-safe curve passes ``>=`` or ``>``; None above 4096."""

    def meets(n: int) -> bool:
        low = best_mean(Sample(n, share))
        return low > limit if operator == ">" else low >= limit

    return _first(meets, 1, _MOST_OF_A_MEAN) if meets(_MOST_OF_A_MEAN) else None


def at_confidence(estimate: Estimate, confidence: float | None) -> Estimate:
    """A rate's estimate with the exact interval of another confidence; None leaves it as it is."""
    if confidence is None or confidence == CONFIDENCE:
        return estimate
    fewest, most = counts_behind(estimate)
    return replace(
        estimate,
        low=exact_rate_interval(fewest, estimate.n_effective, confidence).low,
        high=exact_rate_interval(most, estimate.n_effective, confidence).high,
        method=estimate.method.replace(f"{CONFIDENCE:.0%}", f"{confidence * 100:g}%"),
    )


class Counts(NamedTuple):
    """Effective failures behind a rate's bounds; they differ by the unscored answers."""

    fewest: float
    most: float


def counts_behind(estimate: Estimate) -> Counts:
    """The effective counts of a rate, read back from its exact 95 % bounds, of which each has one solution."""
    from scipy.stats import beta

    n, tail = estimate.n_effective, (1 - CONFIDENCE) / 2
    fewest = _root(lambda x: beta.cdf(estimate.low, x, n - x + 1) - tail, n) if estimate.low > 0 else 0.0
    most = _root(lambda x: beta.cdf(estimate.high, x + 1, n - x) - 1 + tail, n) if estimate.high < 1 else n
    scored = estimate.n * (1 - estimate.spread)  # what repeats differ in is not unscored
    share = (n - max(most - fewest, 0)) / scored if scored else 1.0
    return Counts(min(_snapped(fewest, share), n), min(_snapped(max(most, fewest), share), n))


def _root(falling: Callable[[float], float], end: float) -> float:
    """Where a falling function of [0, end] crosses 0; the nearer end where it does not."""
    from scipy.optimize import brentq

    low, high = 1e-12 * end, end * (1 - 1e-12)
    if falling(low) <= 0:
        return 0.0
    return end if falling(high) >= 0 else float(brentq(falling, low, high, xtol=1e-12))


def _snapped(count: float, share: float) -> float:
    """The whole number of failures that it stands for, where it is as near to one as rounding leaves it."""
    whole = round(count / share) if share > 0 else 0
    return whole * share if share > 0 and abs(count / share - whole) < 1e-6 else count


def prompts_to_settle(
    counts: Counts, sample: Sample, operator: str, limit: float, confidence: float = CONFIDENCE
) -> int | None:
    """The smallest number of prompts, at least ``sample.n``, that decides at the observed rate; None when none does.

    Fewer than MOST_PROMPTS are looked at.
    """

    def decides(n: int) -> bool:
        total = n * sample.share
        scale = total / sample.effective
        fewest, most = (min(count * scale, total) for count in counts)
        low = exact_rate_interval(fewest, total, confidence).low
        high = exact_rate_interval(most, total, confidence).high
        return high < limit or low >= limit if operator == "<" else high <= limit or low > limit

    if counts.fewest / sample.effective - _CLOSE <= limit <= counts.most / sample.effective + _CLOSE:
        return None
    return _first(decides, sample.n, MOST_PROMPTS) if decides(MOST_PROMPTS) else None


def what_settles_a_rate(estimate: Estimate, operator: str, limit: float, confidence: float | None = None) -> str:
    """A sentence on how many prompts would decide an inconclusive rate; the estimate is the one at 95 %."""
    if not estimate.n:
        return "No answer could be scored: more prompts do not settle it, a judge that can read the answers does."
    counts = counts_behind(estimate)
    share = (estimate.n_effective - (counts.most - counts.fewest)) / (estimate.n * (1 - estimate.spread) or 1)
    sample = Sample(round(estimate.n_effective / share), share)
    needed = prompts_to_settle(counts, sample, operator, limit, confidence or CONFIDENCE)
    if needed is not None:
        outcome = "pass" if counts.most / sample.effective < limit else "fail"
        more = max(needed - sample.n, 1)
        return (
            f"At the observed rate about {more:,} more prompts ({sample.n + more:,} in all) would settle it: {outcome}."
        )
    lowest, highest = (count / sample.effective for count in counts)
    if highest - lowest > _CLOSE and lowest - _CLOSE <= limit <= highest + _CLOSE:
        return "It depends on the unscored answers: more prompts do not settle it, a judge that can read them does."
    if abs(highest - limit) <= 2 * _CLOSE:
        return "The observed rate sits on the limit: no number of prompts would settle it at this rate."
    return f"The observed rate is so near to the limit that more than {MOST_PROMPTS:,} prompts would be needed."


def what_settles_a_curve(estimate: Estimate, limit: float) -> str:
    """A sentence on what would decide an inconclusive mean, difference or ratio; widths: what_settles_a_width."""
    distance = abs(estimate.value - limit)
    half = estimate.value - estimate.low if estimate.value > limit else estimate.high - estimate.value
    if distance <= _CLOSE:
        return "The value sits on the limit: more prompts or directions narrow the interval, but would move it too."
    needed = math.ceil(estimate.n * (half / distance) ** 2 - _CLOSE) if math.isfinite(half) else MOST_PROMPTS
    if needed >= MOST_PROMPTS:
        return "More directions or prompts narrow it, but the value is too near to the limit to say how many."
    return (
        f"More directions or prompts narrow it: about {max(needed, estimate.n + 1):,} prompts in all at this value, "
        "if the width falls with the root of their number."
    )


def what_settles_a_width(estimate: Estimate, tolerance: float, n_prompts: int | None = None) -> str:
    """A sentence on what would decide an inconclusive basin width or safe radius.

    Its bounds are grid points, at which the band of the ASR meets or misses the tolerance.
    """
    n = n_prompts or estimate.n
    sample = Sample(n, estimate.n_effective / estimate.n if estimate.n else 1.0)
    allowed = allowed_failures(sample, "<=", tolerance)
    needed = prompts_needed("<=", tolerance, share=sample.share)
    if allowed is None:
        least = "more" if needed is None else f"at least {needed:,}"
        return f"No point is surely within the tolerance {tolerance:g} on {n} prompts: {least} are needed."
    return (
        f"Its bounds are grid points; on {n} prompts a point is surely within the tolerance {tolerance:g} at "
        f"{allowed} failures or fewer. More prompts narrow that band, and more points place the bounds closer."
    )


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number in [low, high] at which what stays true from there on holds; ``high`` is taken to."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
