"""Sampling: how answers are drawn where they are not greedy, and which of a prompt's answers one is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from safety_tasks.errors import InvalidSetting


class Draw(NamedTuple):
    """One answer of those that are drawn for a prompt; more of them leave it as it is."""

    temperature: float
    top_p: float
    top_k: int | None
    seed: int
    sample: int
    """Which answer, from 0."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling from the model's distribution; raises InvalidSetting for a value of a wrong type or out of range."""

    temperature: float = 1.0
    """Divides the logits."""
    top_p: float = 1.0
    """Keep the likeliest tokens that together have this probability."""
    top_k: int | None = None
    """Keep this many of the likeliest tokens; None: all."""
    samples: int = 1
    """Answers a prompt."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        """Check types and ranges."""
        for name, rule, holds in _RULES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
                if value is not None or name != "top_k":
                    raise InvalidSetting(f"sampling.{name} is {value!r}: it must be {rule}.")
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "top_p", float(self.top_p))

    def draw(self, index: int) -> Draw:
        """The answer of that number, from 0."""
        return Draw(self.temperature, self.top_p, self.top_k, self.seed, index)

    def __str__(self) -> str:
        """As estimates name it: ``5 answers a prompt sampled at temperature 0.7, top_p 0.9``."""
        return f"{'1 answer' if self.samples == 1 else f'{self.samples} answers'} a prompt {self.how}"

    @property
    def how(self) -> str:
        """As in ``sampled at temperature 0.7, top_p 0.9``."""
        cuts = [f"top_p {self.top_p:g}"] if self.top_p < 1 else []
        cuts += [] if self.top_k is None else [f"top_k {self.top_k}"]
        return f"sampled at {', '.join([f'temperature {self.temperature:g}', *cuts])}"


def _is_count(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and value >= least


_RULES: list[tuple[str, str, Callable[[Any], bool]]] = [
    (
        "temperature",
        "a positive number (for greedy answers leave the table sampling out)",
        lambda t: math.isfinite(t) and t > 0,
    ),
    ("top_p", "a fraction in (0, 1]", lambda p: 0 < p <= 1),
    ("top_k", "a whole number of at least 1", _is_count(1)),
    ("samples", "a whole number of at least 1", _is_count(1)),
    ("seed", "a whole number of 0 or greater", _is_count(0)),
]
