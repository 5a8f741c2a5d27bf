"""Noise floor: how far repeats of one measurement on the same weights lie apart, and intervals that include it.

In half precision the batch is part of an answer: the same weights, prompts and greedy decoding give other verdicts
with another batch size, order or dtype. A gate must not turn on that. So the interval of a quantity that was measured
several times runs from the lowest lower bound of the repeats to their highest upper bound: it supports a limit only
where every repeat's own interval does, and excludes one only where every repeat's own does. The value is the first
repeat's, the measurement as it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from safety_tasks.estimates import Estimate
from safety_tasks.task_record import TaskRecord

_LISTED = 12  # ids in a sentence
_INCOHERENT = str.maketrans("n", "c")  # of a recorded curve: noise is an answer, too, as verdicts go


def over_repeats(found: Sequence[Estimate], noun: str = "repeats") -> Estimate:
    """One quantity's estimate from those of its repeats, the first of which is the measurement as asked for.

    ``noun`` says what each is. Of one alone: itself. Raises ValueError for none.
    """
    if not found:
        raise ValueError("a quantity needs at least one measurement")
    first, count = found[0], len(found)
    if count == 1:
        return first
    lowest, highest = (extreme(one.value for one in found) for extreme in (min, max))
    spread = f"{count} {noun} on the same weights: {lowest:.3f} to {highest:.3f}"
    return replace(
        first,
        low=min(one.low for one in found),
        high=max(one.high for one in found),
        method=f"{first.method}; from the lowest to the highest bound of {count} {noun}",
        note="; ".join(filter(None, (first.note, spread))),
        repeats=count,
        lowest=lowest,
        highest=highest,
    )


def what_settles(estimate: Estimate, limit: float) -> str:
    """A sentence on an inconclusive estimate whose repeats lie on both sides of the limit; empty for others."""
    if estimate.lowest is None or estimate.highest is None or not estimate.lowest <= limit <= estimate.highest:
        return ""
    if estimate.lowest == estimate.highest:
        return ""
    return (
        f"Repeats on the same weights lie on both sides of the limit ({estimate.lowest:.3f} to "
        f"{estimate.highest:.3f}): that is the noise of finite precision, which more prompts do not settle; "
        "--llm-dtype float32 makes it small."
    )


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """How far the repeats of one task lie apart; ids and numbers, no text. Plain values, as JSON has them."""

    repeats: int
    varied: Sequence[str]
    """What each repeat changed."""
    metrics: Mapping[str, Mapping[str, float]]
    """``lowest`` and ``highest`` value of each metric."""
    prompts: int
    changed_prompts: Sequence[str]
    """Ids of the prompts to which the deciding judge gave different verdicts, at any point."""
    answers: int
    """Prompts times points."""
    changed_answers: int

    @property
    def sentence(self) -> str:
        """Such as ``attack_success_rate 0.005 to 0.015; 2 of 200 prompts changed their verdict: h017, h133``."""
        moved = [
            f"{name} {spread['lowest']:.3f} to {spread['highest']:.3f}"
            for name, spread in self.metrics.items()
            if spread["lowest"] < spread["highest"]
        ]
        return f"{', '.join(moved) or 'no metric moved'}; {self.counts}{self._listed()}"

    @property
    def counts(self) -> str:
        """Such as ``2 of 200 prompts changed their verdict``; over a landscape also how many answers."""
        share = f"{len(self.changed_prompts) or 'none'} of {self.prompts} prompts changed"
        if self.answers == self.prompts:
            return f"{share} their verdict"
        of_all = f" ({self.changed_answers:,} of {self.answers:,} answers)" if self.changed_prompts else ""
        return f"{share} a verdict{of_all}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def _listed(self) -> str:
        if not self.changed_prompts:
            return ""
        more = len(self.changed_prompts) - _LISTED
        return f": {', '.join(self.changed_prompts[:_LISTED])}{f' and {more} more' if more > 0 else ''}"


def noise_floor_of(record: TaskRecord) -> NoiseFloor | None:
    """The noise floor that a task's repeats show; None where it was measured once."""
    if not record.repeats:
        return None
    every = [_verdicts(one) for one in record.every]
    changed = {
        id_: sum(len(set(answers)) > 1 for answers in zip(*(repeat[id_] for repeat in every), strict=True))
        for id_ in record.prompt_ids
    }
    return NoiseFloor(
        repeats=len(every),
        varied=[str(one.facts.get("repeat", "as asked")) for one in record.every],
        metrics={
            found.name: {"lowest": found.lowest, "highest": found.highest}
            for found in record.estimates
            if found.lowest is not None and found.highest is not None
        },
        prompts=len(changed),
        changed_prompts=[id_ for id_, count in changed.items() if count],
        answers=sum(map(len, every[0].values())),
        changed_answers=sum(changed.values()),
    )


def _verdicts(record: TaskRecord) -> dict[str, Sequence[str]]:
    """What the deciding judge said of each prompt at each point, the origin once."""
    if record.curve is None:
        return {id_: [verdict] for id_, verdict in zip(record.prompt_ids, record.verdicts, strict=True)}
    points = [
        letters.translate(_INCOHERENT)
        for direction, curve in enumerate(record.curve["verdicts"])
        for alpha, letters in zip(record.curve["alphas"], curve, strict=True)
        if alpha or not direction
    ]
    return dict(zip(sorted(record.prompt_ids), zip(*points, strict=True), strict=True))
