"""Estimate: a measured number with its interval; Decision: what a limit makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn

from safety_tasks.errors import Inconclusive
from safety_tasks.intervals import CONFIDENCE, Interval, effective_n, exact_rate_interval

_NORMAL_95 = 1.96
DECIMALS = 3
"""Of a number in print, but for counts."""


class Outcome(str, Enum):
    """What an interval says of a limit."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of a comparison and the sentence that explains it.

    Its truth value is True for pass, False for fail, and raises Inconclusive when the interval cannot say.
    """

    outcome: Outcome
    sentence: str

    def __bool__(self) -> bool:
        """True for pass, False for fail; raises Inconclusive otherwise."""
        if self.outcome is Outcome.INCONCLUSIVE:
            raise Inconclusive(self.sentence)
        return self.outcome is Outcome.PASS


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A measured number with a two-sided interval.

    Compared with a number it gives a Decision on the bounds: ``estimate <= limit`` passes when the whole interval
    lies below the limit, fails when the whole interval lies above it, and is inconclusive otherwise.
    """

    name: str
    value: float
    low: float
    high: float
    """Infinite where nothing that was looked at bounds it, as the width of a basin at the grid's edge."""
    n: int
    """Prompts behind the value."""
    method: str
    target: str
    """What the interval is about, as a phrase."""
    n_effective: float
    """``n`` after near-duplicates are counted as one."""
    note: str = ""
    censored: bool = False
    """Whether the value itself reaches the edge of what was looked at, so that it is only a lower bound."""
    judge: str = ""
    """Who read the answers, by name; empty where nobody had to."""
    repeats: int = 1
    """Measurements of the same weights that the interval covers; of a pair, their pairs. See ``noise_floor``."""
    lowest: float | None = None
    """Smallest value of the repeats; None where there was one measurement."""
    highest: float | None = None
    """Largest value of the repeats."""
    decimals: int = DECIMALS
    """In print; 0 for a count."""

    @property
    def spread(self) -> float:
        """Largest less smallest value of the repeats; 0 for one measurement."""
        return 0.0 if self.lowest is None or self.highest is None else self.highest - self.lowest

    @property
    def stderr(self) -> float:
        """Half the interval over 1.96: never 0, not even at 0 of n; infinite as the upper bound."""
        return (self.high - self.low) / 2 / _NORMAL_95

    def __le__(self, limit: float) -> Decision:
        """Pass when the upper bound is at most the limit."""
        return self._decide("<=", limit, passes=self.high <= limit, fails=self.low > limit)

    def __lt__(self, limit: float) -> Decision:
        """Pass when the upper bound is below the limit."""
        return self._decide("<", limit, passes=self.high < limit, fails=self.low >= limit)

    def __ge__(self, limit: float) -> Decision:
        """Pass when the lower bound is at least the limit."""
        return self._decide(">=", limit, passes=self.low >= limit, fails=self.high < limit)

    def __gt__(self, limit: float) -> Decision:
        """Pass when the lower bound is above the limit."""
        return self._decide(">", limit, passes=self.low > limit, fails=self.high <= limit)

    def __eq__(self, other: object) -> NoReturn:
        """Refused: two measurements are never equal."""
        raise TypeError("An Estimate has no equality: compare with <=, <, >= or >, or read .value.")

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        """Refused: an assertion on the estimate alone would always hold."""
        raise TypeError("An Estimate is neither true nor false: compare it with a limit, such as <= 0.05.")

    def _decide(self, operator: str, limit: float, *, passes: bool, fails: bool) -> Decision:
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise TypeError(f"An Estimate is compared with a number, not with {type(limit).__name__}.")
        outcome = Outcome.PASS if passes else Outcome.FAIL if fails else Outcome.INCONCLUSIVE
        return Decision(outcome, explain(self, operator, limit, outcome))

    def __str__(self) -> str:
        """Name, value, interval and n in one line."""
        return f"{self.name} {'' if self.censored else '= '}{self.describe()}"

    def describe(self) -> str:
        """Value, interval, n and judge: ``0.031 [0.010, 0.073] (n = 160, effective 120, judge refusal)``."""
        low, value, high = (f"{number:.{self.decimals}f}" for number in (self.low, self.value, self.high))
        behind = [f"n = {self.n}"]
        if round(self.n_effective) < self.n:
            behind.append(f"effective {self.n_effective:.0f}")
        if self.judge:
            behind.append(f"judge {self.judge}")
        end = ")" if math.isinf(self.high) else "]"
        return f"{'>= ' if self.censored else ''}{value} [{low}, {high}{end} ({', '.join(behind)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an infinite bound is None."""
        return {
            "name": self.name,
            "value": self.value,
            "low": self.low,
            "high": None if math.isinf(self.high) else self.high,
            "n": self.n,
            "n_effective": self.n_effective,
            "method": self.method,
            "target": self.target,
            "censored": self.censored,
            "judge": self.judge,
            "note": self.note,
            **({name: getattr(self, name) for name in ("repeats", "lowest", "highest")} if self.repeats > 1 else {}),
            **({} if self.decimals == DECIMALS else {"decimals": self.decimals}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Estimate:
        """The estimate that ``to_dict`` wrote; raises KeyError, TypeError or ValueError where the values hold none."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        found = cls(**{**known, "high": math.inf if values["high"] is None else values["high"]})
        numbers: Sequence[float] = (found.low, found.value, found.high, found.n, found.n_effective)
        if not (all(isinstance(number, int | float) for number in numbers) and found.low <= found.value <= found.high):
            raise ValueError(f"the value of {found.name} lies outside its interval")
        return found


def figure(estimate: Mapping[str, Any], name: str) -> str:
    """A number of an estimate's plain values as it is printed."""
    return f"{estimate[name]:.{estimate.get('decimals', DECIMALS)}f}"


_VERDICT = {
    Outcome.PASS: "pass, the whole interval meets the limit",
    Outcome.FAIL: "fail, the whole interval misses the limit",
    Outcome.INCONCLUSIVE: "inconclusive, the limit lies inside the interval; more prompts (or points) narrow it",
}


def explain(estimate: Estimate, operator: str, limit: float, outcome: Outcome) -> str:
    """The sentence of a decision: value, interval, limit, outcome, and what the interval is about."""
    return (
        f"{estimate.name} is {estimate.describe()}, limit {operator} {limit:g}: {_VERDICT[outcome]}. "
        f"Interval: {estimate.method}; {estimate.target}."
    )


def rate(
    name: str,
    successes: int,
    n: int,
    clusters: Sequence[str],
    *,
    unknown: int = 0,
    target: str = "",
    judge: str = "",
    note: str = "",
    samples: int = 1,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The share successes / n with an exact interval, widened for near-duplicates and for what is unknown.

    ``n`` counts the rows that were scored, ``unknown`` those that were not: the lower bound reads every unknown row
    as a miss and the upper bound as a success, so that an unread answer never narrows anything. ``clusters`` has one
    entry a row, scored or not. With nothing scored the value is the middle of [0, 1] and the interval all of it.

    With several ``samples`` a row, ``successes``, ``n`` and ``unknown`` count answers, and the interval is that of the
    rows: the answers to one prompt count as one, as if they were all alike, which no correlation among them exceeds
    (a sum of independent shares in [0, 1] spreads at most as the binomial of their mean: Hoeffding 1956, 1963).
    """
    total = n + unknown
    if total != len(clusters) * samples:
        raise ValueError(f"{total} rows but {len(clusters)} clusters")
    share = effective_n(clusters) / total
    low = exact_rate_interval(successes * share, total * share, confidence).low
    high = exact_rate_interval((successes + unknown) * share, total * share, confidence).high
    is_widened = effective_n(clusters) < len(clusters)
    widened = f", {len(clusters)} prompts counted as {total * share:.0f} for near-duplicates" if is_widened else ""
    widened += f", the {samples} answers of a prompt as one" if samples > 1 else ""
    return Estimate(
        name=name,
        value=successes / n if n else 0.5,
        low=low,
        high=high,
        n=n if samples == 1 else max(round(n / samples), min(n, 1)),
        method=f"exact (Clopper-Pearson) {confidence:.0%}{widened}",
        target=target or "over prompts like these, this judge and greedy decoding",
        n_effective=total * share,
        note="; ".join(filter(None, (f"{unknown} of {total} answers unscored" if unknown else "", note))),
        judge=judge,
    )


__all__ = ["Decision", "Estimate", "Interval", "Outcome", "explain", "figure", "rate"]
