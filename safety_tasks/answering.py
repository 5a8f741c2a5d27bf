"""Answering: the completions of a batch of prompts at a point, from the model or from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from safety_tasks.chat import Rendered
from safety_tasks.decoding import Completion
from safety_tasks.engine import Engine, Mover
from safety_tasks.journal import Journal
from safety_tasks.points import Point


class Ask(NamedTuple):
    """One prompt as it is asked: equal ones are answered once."""

    prompt: Rendered
    max_new_tokens: int


class Answerer:
    """Moves the model only when something must be generated."""

    def __init__(self, engine: Engine, journal: Journal, mover: Mover | None) -> None:
        self.engine, self.journal, self.mover = engine, journal, mover
        self._at: Point | None = None

    def answers(self, point: Point, wanted: Sequence[tuple[Ask, tuple[str, ...]]]) -> dict[Ask, Completion]:
        """A completion for each prompt; one that is asked with different stop strings is answered to its end."""
        found: dict[Ask, Completion] = {}
        for (budget, strings), asks in _batches(wanted).items():
            batch = self._batch(point, [ask.prompt for ask in asks], budget, strings)
            found.update(zip(asks, batch, strict=True))
        return found

    def n_missing(self, point: Point, wanted: Sequence[tuple[Ask, tuple[str, ...]]]) -> int:
        """How many of these ``answers`` would have to generate."""
        return sum(
            len(asks)
            for (budget, strings), asks in _batches(wanted).items()
            if not self.journal.holds("completions", _asked(point, [ask.prompt for ask in asks], budget, strings))
        )

    def _batch(
        self, point: Point, prompts: Sequence[Rendered], budget: int, stops: tuple[str, ...]
    ) -> Sequence[Completion]:
        def generate() -> list[dict[str, Any]]:
            self._go_to(point)
            return [completion.to_dict() for completion in self.engine.generate(prompts, budget, stops)]

        asked = _asked(point, prompts, budget, stops)
        found = self.journal.remember("completions", asked, generate, max_new_tokens=budget, **point.identity())
        return [Completion.from_dict(fields) for fields in found]

    def _go_to(self, point: Point) -> None:
        if self.mover is None or point == self._at:
            return
        if point.direction is None:
            self.mover.restore()
        else:
            self.mover.move_to(point.direction, point.alpha)
        self._at = point


def _batches(wanted: Sequence[tuple[Ask, tuple[str, ...]]]) -> dict[tuple[int, tuple[str, ...]], list[Ask]]:
    """What is generated together: prompts of one token limit and the same stop strings."""
    stops: dict[Ask, tuple[str, ...]] = {}
    for ask, strings in wanted:
        stops[ask] = strings if stops.get(ask, strings) == strings else ()
    batches: dict[tuple[int, tuple[str, ...]], list[Ask]] = {}
    for ask, strings in stops.items():
        batches.setdefault((ask.max_new_tokens, strings), []).append(ask)
    return batches


def _asked(point: Point, prompts: Sequence[Rendered], budget: int, stops: tuple[str, ...]) -> list[Any]:
    """What identifies a batch in the journal."""
    return [point.identity(), [(prompt.text, prompt.is_templated) for prompt in prompts], budget, stops]
