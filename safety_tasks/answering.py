"""Answering: the completions of a batch of prompts at a point, from the model or from the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from safety_tasks.chat import Rendered
from safety_tasks.decoding import Completion
from safety_tasks.engine import Engine, Mover
from safety_tasks.errors import InvalidModel
from safety_tasks.journal import Journal
from safety_tasks.points import Point
from safety_tasks.sampling import Draw
from safety_tasks.settings import Settings


class Ask(NamedTuple):
    """One prompt as it is asked: equal ones are answered once."""

    prompt: Rendered
    max_new_tokens: int
    draw: Draw | None = None
    """None: greedy."""


def asks_of(prompt: Rendered, budget: int, settings: Settings) -> tuple[Ask, ...]:
    """What is asked of the model for one prompt: one answer, or as many as are drawn."""
    sampling = settings.sampling
    draws = [None] if sampling is None else [sampling.draw(index) for index in range(sampling.samples)]
    return tuple(Ask(prompt, budget, draw) for draw in draws)


def check_draws(engine: Engine, settings: Iterable[Settings]) -> None:
    """Raise InvalidModel where answers are to be drawn from an engine that only decodes greedily."""
    if any(one.sampling for one in settings) and not hasattr(engine, "sample"):
        raise InvalidModel(
            f"The profile samples, and {engine.name} (a {type(engine).__name__}) has no method sample: give it one, or "
            "leave the profile's sampling out."
        )


def answer(
    engine: Engine, prompts: Sequence[Rendered], budget: int, stops: tuple[str, ...], draw: Draw | None
) -> list[Completion]:
    """One completion a prompt at the current point: greedy, or drawn."""
    if draw is None:
        return engine.generate(prompts, budget, stops)
    return engine.sample(prompts, budget, stops, draw)


class Batch(NamedTuple):
    """Prompts that are generated together: of one token limit, the same stop strings and the same draw."""

    prompts: tuple[Rendered, ...]
    max_new_tokens: int
    stop_strings: tuple[str, ...]
    draw: Draw | None


class Job(NamedTuple):
    """A batch at a point: what is answered, journaled and handed to a worker as a whole."""

    point: Point
    """With its direction made."""
    batch: Batch

    @property
    def asked(self) -> list[Any]:
        """What identifies it in the journal."""
        prompts, budget, stops, draw = self.batch
        asked: list[Any] = [self.point.identity(), [(one.text, one.is_templated) for one in prompts], budget, stops]
        return [*asked, draw._asdict()] if draw else asked


class Helper(Protocol):
    """Others that answer the same jobs ahead of this process."""

    def answers(self, job: Job, here: Callable[[Job], list[Any]]) -> list[Any]:
        """The plain completions of a job, from whoever has it first; ``here`` answers one in this process."""

    def has(self, job: Job) -> bool:
        """Whether another has answered it already, and ``answers`` was not asked for it yet."""

    def will_have(self, jobs: Sequence[Job]) -> bool:
        """Whether others have answered all of these; those that are under way are waited for."""


class Answerer:
    """Moves the model only when something must be generated."""

    def __init__(self, engine: Engine, journal: Journal, mover: Mover | None) -> None:
        self.engine, self.journal, self.mover = engine, journal, mover
        self.helper: Helper | None = None
        self._at: Point | None = None
        self.ended_early = 0
        """Answers that ended at a stop string, before the token limit."""
        self.tokens_saved = 0
        """What was left of the token limit where they ended: they could not have been longer."""

    def answers(self, point: Point, wanted: Sequence[tuple[Ask, tuple[str, ...]]]) -> dict[Ask, Completion]:
        """A completion for each prompt; one that is asked with different stop strings is answered to its end."""
        found: dict[Ask, Completion] = {}
        for job, asks in _jobs(point, wanted):
            plain = self.helper.answers(job, self._measured) if self.helper else self._measured(job)
            completions = [Completion.from_dict(fields) for fields in plain]
            found.update(zip(asks, completions, strict=True))
            self._count_early(completions, job.batch)
        return found

    def missing(self, point: Point, wanted: Sequence[tuple[Ask, tuple[str, ...]]]) -> list[Job]:
        """What ``answers`` would have to generate, or has others generate."""
        every = [job for job, _ in _jobs(point, wanted)]
        return [job for job in every if self._has(job) or not self.journal.holds("completions", job.asked)]

    def n_missing(self, point: Point, wanted: Sequence[tuple[Ask, tuple[str, ...]]]) -> int:
        """How many of these ``answers`` would have to generate."""
        return sum(len(job.batch.prompts) for job in self.missing(point, wanted))

    def needs_nothing(self, point: Point, wanted: Sequence[tuple[Ask, tuple[str, ...]]]) -> bool:
        """Whether others have answered all that is missing."""
        return self.helper is not None and self.helper.will_have(self.missing(point, wanted))

    def keep(self, job: Job, completions: list[Any], seconds: float) -> None:
        """Write what another answered to the journal; several threads may at once."""
        self._remember(job, lambda: completions, seconds=seconds)

    def _has(self, job: Job) -> bool:
        return self.helper is not None and self.helper.has(job)

    def _measured(self, job: Job) -> list[Any]:
        def generate() -> list[dict[str, Any]]:
            self.go_to(job.point)
            return [completion.to_dict() for completion in answer(self.engine, *job.batch)]

        return self._remember(job, generate)

    def _remember(self, job: Job, measure: Callable[[], list[Any]], **about: Any) -> list[Any]:
        limit = {"max_new_tokens": job.batch.max_new_tokens}
        return self.journal.remember("completions", job.asked, measure, **limit, **job.point.identity(), **about)

    def _count_early(self, completions: Sequence[Completion], batch: Batch) -> None:
        early = [
            one for one in completions if one.finished and any(string in one.text for string in batch.stop_strings)
        ]
        self.ended_early += len(early)
        self.tokens_saved += sum(batch.max_new_tokens - len(one.token_ids) for one in early)

    def go_to(self, point: Point) -> None:
        """Move the model, if it is elsewhere."""
        if self.mover is None or point == self._at:
            return
        if point.direction is None:
            self.mover.restore()
        else:
            self.mover.move_to(point.direction, point.alpha)
        self._at = point


def _jobs(point: Point, wanted: Sequence[tuple[Ask, tuple[str, ...]]]) -> Iterator[tuple[Job, list[Ask]]]:
    """What is generated together, and whose answers those are."""
    stops: dict[Ask, tuple[str, ...]] = {}
    for ask, strings in wanted:
        stops[ask] = strings if stops.get(ask, strings) == strings else ()
    together: dict[tuple[int, tuple[str, ...], Draw | None], list[Ask]] = {}
    for ask, strings in stops.items():
        together.setdefault((ask.max_new_tokens, strings, ask.draw), []).append(ask)
    for (budget, strings, draw), asks in together.items():
        yield Job(point, Batch(tuple(ask.prompt for ask in asks), budget, strings, draw)), asks
