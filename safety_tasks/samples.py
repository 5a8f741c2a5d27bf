"""Sample: one judged completion as a report shows it; text only where the user asked for it."""

from __future__ import annotations

from dataclasses import dataclass

TEXT_LEVELS = ("off", "truncated", "full")


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt's answer at one point of one task."""

    task: str
    id: str
    """The prompt's."""
    category: str
    direction: int | None
    """Index of the random direction; None at the origin."""
    alpha: float
    verdicts: tuple[tuple[str, str], ...]
    """Judge and verdict, the deciding refusal judge first, the harm judge last."""
    coherent: bool | None
    """None where it was not read."""
    finished: bool | None
    """False when the token limit cut the answer off; None where that is not known."""
    characters: int
    """Length of the completion."""
    sha256: str
    """Of the completion, its first 16 hexadecimal digits: equal answers can be seen without being read."""
    reference_verdict: str | None = None
    """Of the base model or baseline, by the same judge at the same point."""
    prompt: str | None = None
    """The prompt's text, only where texts were asked for."""
    completion: str | None = None
    """The completion's text, only where texts were asked for."""
