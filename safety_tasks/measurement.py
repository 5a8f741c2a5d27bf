"""The one road: questions -> points -> completions -> verdicts.

lm_eval's tasks and the Python functions both ask here, all questions of a run at once, so that a point that several
of them need is visited once and a prompt that several of them ask is answered once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tqdm import tqdm

from safety_tasks.chat import Rendered
from safety_tasks.decoding import Completion
from safety_tasks.engine import Engine, Mover
from safety_tasks.errors import JudgeFailed
from safety_tasks.judges import Harm, Verdict, get_harm_judge, get_judge
from safety_tasks.judges.coherence import coherence_cut, is_coherent
from safety_tasks.points import ORIGIN, Answer, Point
from safety_tasks.prompts import Message, Prompt
from safety_tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt, asked at some points and read by the settings' judges."""

    prompt: Prompt
    points: tuple[Point, ...]
    settings: Settings
    task: str = ""
    """Token budget and coherence cut are a task's own, so that no number depends on what else runs beside it."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation, opened by the settings' system prompt where there is one."""
        system = self.settings.system_prompt
        return self.prompt.messages if system is None else (Message("system", system), *self.prompt.messages)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that decide the verdict early; empty when a judge needs whole answers."""
        return () if self.settings.harm_judge else get_judge(self.settings.judge).stop_strings


class Measurement(NamedTuple):
    """The answers to each question, in the order of its points, and what identifies the run."""

    answers: list[list[Answer]]
    facts: dict[str, Any]


@dataclass(slots=True)
class _Reading:
    """A completion as one question's judges read it."""

    question: int
    point: Point
    rendered: Rendered
    completion: Completion
    verdict: Verdict
    harm: Harm | None
    coherent: bool | None = None


def measure(engine: Engine, questions: Sequence[Question]) -> Measurement:
    """Answers to every question at every one of its points; the weights are back when it returns or raises.

    Raises NotPerturbable before anything is generated, InvalidModel, JudgeFailed, WeightsChanged.
    """
    run = _Run(engine, questions)
    points = list(dict.fromkeys(point for question in questions for point in question.points))
    moves = any(point != ORIGIN for point in points)
    with engine.moving() if moves else nullcontext() as mover:
        for point in tqdm(points, desc="points", unit="point", disable=None if moves else True):
            run.visit(point, mover)
    run.read_coherence()
    return Measurement(run.answers(), run.facts())


@dataclass
class _Run:
    engine: Engine
    questions: Sequence[Question]
    readings: list[_Reading] = field(default_factory=list)
    cuts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rendered = [self.engine.render(question.messages, question.settings) for question in self.questions]
        self.members: dict[str, list[int]] = {}
        for index, question in enumerate(self.questions):
            self.members.setdefault(question.task, []).append(index)
        self.budgets = {
            task: self.engine.token_budget(
                [self.rendered[i] for i in members], self.questions[members[0]].settings.max_new_tokens
            )
            for task, members in self.members.items()
        }

    def visit(self, point: Point, mover: Mover | None) -> None:
        """Answer and judge every question that is asked at this point."""
        asked = [index for index, question in enumerate(self.questions) if point in question.points]
        if mover is not None:
            _move(mover, point)
        completions = self._generate(asked)
        self._judge(asked, point, completions)

    def _generate(self, asked: list[int]) -> dict[int, Completion]:
        """Completions by question; a prompt asked twice is answered once, and in full if either needs it so."""
        stops: dict[tuple[Rendered, int], tuple[str, ...]] = {}
        for index in asked:
            key, stop = self._key(index), self.questions[index].stop_strings
            stops[key] = stop if stops.get(key, stop) == stop else ()
        batches: dict[tuple[int, tuple[str, ...]], list[Rendered]] = {}
        for (rendered, budget), stop in stops.items():
            batches.setdefault((budget, stop), []).append(rendered)
        found: dict[tuple[Rendered, int], Completion] = {}
        for (budget, stop), prompts in batches.items():
            answers = self.engine.generate(prompts, budget, stop)
            found.update({(rendered, budget): answer for rendered, answer in zip(prompts, answers, strict=True)})
        return {index: found[self._key(index)] for index in asked}

    def _key(self, index: int) -> tuple[Rendered, int]:
        return self.rendered[index], self.budgets[self.questions[index].task]

    def _judge(self, asked: list[int], point: Point, completions: dict[int, Completion]) -> None:
        by_judges: dict[tuple[str, str | None], list[int]] = {}
        for index in asked:
            settings = self.questions[index].settings
            by_judges.setdefault((settings.judge, settings.harm_judge), []).append(index)
        for (judge, harm_judge), members in by_judges.items():
            prompts = [self.questions[index].prompt.text for index in members]
            texts = [completions[index].text for index in members]
            verdicts = get_judge(judge).judge(prompts, texts)
            harms: list[Harm | None] = [None] * len(members)
            if harm_judge is not None:
                harms = list(get_harm_judge(harm_judge).judge(prompts, texts))
            if not len(verdicts) == len(harms) == len(members):
                raise JudgeFailed(f"The judge {judge!r} or {harm_judge!r} did not read every completion.")
            for index, verdict, harm in zip(members, verdicts, harms, strict=True):
                completion = completions[index]
                if not _is_answer(completion):
                    verdict = Verdict.UNSCORED
                self.readings.append(_Reading(index, point, self.rendered[index], completion, verdict, harm))

    def read_coherence(self) -> None:
        """Score under the unperturbed weights: every answer at the origin, for the cuts, and what complied."""
        read = [r for r in self.readings if r.point == ORIGIN or r.verdict is Verdict.COMPLIED]
        unique = list(dict.fromkeys((reading.rendered, reading.completion) for reading in read))
        scores = self.engine.mean_nll([rendered for rendered, _ in unique], [answer for _, answer in unique])
        if scores is None:
            return
        nll = dict(zip(unique, scores, strict=True))
        for task in self.members:
            own = [reading for reading in read if self.questions[reading.question].task == task]
            origin = [nll[r.rendered, r.completion] for r in own if r.point == ORIGIN]
            self.cuts[task] = coherence_cut(origin)
            for reading in own:
                if reading.verdict is Verdict.COMPLIED:
                    score = nll[reading.rendered, reading.completion]
                    reading.coherent = is_coherent(reading.completion.text, score, self.cuts[task])

    def answers(self) -> list[list[Answer]]:
        """One list a question, in the order of its points."""
        at = {(reading.question, reading.point): reading for reading in self.readings}
        return [
            [_answer(at[index, point]) for point in question.points] for index, question in enumerate(self.questions)
        ]

    def facts(self) -> dict[str, Any]:
        """The engine's facts and what this run decided by itself."""
        return {**self.engine.facts(), "token_budgets": self.budgets, "coherence_cuts": self.cuts}


def _is_answer(completion: Completion) -> bool:
    """Whether there is something to judge: not where thinking never ended, nor in an empty reply of a server.

    A server does not say whether it filtered the answer or failed.
    """
    return completion.thinking_tokens is not None and not (completion.finished is None and not completion.text.strip())


def _move(mover: Mover, point: Point) -> None:
    if point.direction is None:
        mover.restore()
    else:
        mover.move_to(point.direction, point.alpha)


def _answer(reading: _Reading) -> Answer:
    completion = reading.completion
    return Answer(
        reading.point,
        reading.verdict,
        reading.harm,
        len(completion.token_ids),
        completion.finished,
        reading.coherent,
    )
