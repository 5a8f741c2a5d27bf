"""The one road: questions -> points -> completions -> verdicts.

lm_eval's tasks and the Python functions both ask here, all questions of a run at once, so that a point that several
of them need is visited once and a prompt that several of them ask is answered once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from safety_tasks.answering import Answerer, Ask, asks_of, check_draws
from safety_tasks.budget import Budget, Pace
from safety_tasks.chat import Rendered, conversation
from safety_tasks.decoding import Completion, token_facts
from safety_tasks.engine import Engine
from safety_tasks.journal import OFF, Journal
from safety_tasks.judges import Verdict, get_judge
from safety_tasks.judges.coherence import coherence_cut, is_coherent
from safety_tasks.judging import Judging, Reading, judge_facts
from safety_tasks.plans import Plan, follow
from safety_tasks.points import ORIGIN, Answer, Point
from safety_tasks.progress import PointsBar
from safety_tasks.prompts import Message, Prompt
from safety_tasks.settings import Settings
from safety_tasks.targets import facts_of_made, points_made


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt, asked at some points and read by the settings' judges."""

    prompt: Prompt
    points: tuple[Point, ...]
    settings: Settings
    """With the judges named."""
    plan: Plan | None = None
    """Chooses among the points; None: all of them are asked."""
    task: str = ""
    """Token budget and coherence cut are a task's own, so that no number depends on what else runs beside it.

    In half precision a batch's rounding does: at the origin the prompts of all tasks stand in one.
    """
    asked: tuple[Message, ...] | None = None
    """The conversation where it is not the prompt's own, which the judges read; an assistant's last message begins the
    answer."""

    def __post_init__(self) -> None:
        """Raise ValueError where nobody would read the answer."""
        if not self.settings.judges:
            raise ValueError("a question's settings name no judge: each task names its own where the user does not")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation, opened by the settings' system prompt where there is one."""
        return conversation(self.asked or self.prompt.messages, self.settings)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that decide the verdict early; empty when a judge needs whole answers, or several read them."""
        judges = self.settings.judges
        return () if self.settings.harm_judge or len(judges) > 1 else get_judge(judges[0]).stop_strings


class Measurement(NamedTuple):
    """The answers to each question, in the order of its points and samples, and what identifies the run."""

    answers: list[list[Answer]]
    facts: dict[str, Any]


def measure(
    engine: Engine,
    questions: Sequence[Question],
    *,
    quiet: bool = False,
    budget: Budget | None = None,
    texts: dict[str, str] | None = None,
) -> Measurement:
    """Answers to every question at every one of its points; the weights are back when it returns or raises.

    What the settings' journal holds of this very model and these very questions is read back, not measured again; a
    process that measures this model is waited for. Questions with a plan are asked where that leads, origin first.
    ``quiet``: no progress bar; ``texts``: takes in every completion by its hash. Where the time of the ``budget`` is
    spent between two points, the answers end there and the fact ``out_of_time`` says so. Raises NotPerturbable before
    anything is generated, InvalidModel, InvalidSetting, JudgeFailed, WeightsChanged.
    """
    journal = _journal(engine, questions)
    with journal.alone():
        run = _run(engine, questions, journal, quiet, budget)
    if texts is not None:
        texts.update((reading.completion.sha256, reading.completion.text) for reading in run.readings)
    return Measurement(run.answers(), run.facts())


def _run(engine: Engine, questions: Sequence[Question], journal: Journal, quiet: bool, budget: Budget | None) -> _Run:
    start = time.monotonic()
    run = _Run(engine, questions, journal, quiet)
    moves = any(point != ORIGIN for one in questions for point in one.points)
    with (
        engine.moving() if moves else nullcontext() as mover,
        PointsBar(len(run.asked_at), quiet=quiet or not moves) as bar,
    ):
        answerer = Answerer(engine, run.journal, mover)
        missing = [answerer.n_missing(run.place(point), run.wanted(asked)) for point, asked in run.asked_at.items()]
        pace = Pace(budget or Budget(), missing)
        for index, (point, asked) in enumerate(run.visits()):
            if index == len(missing):
                missing.append(answerer.n_missing(run.place(point), run.wanted(asked)))
            if pace.stops_before(index, moves=point != ORIGIN):
                run.stop(pace)
                break
            with pace.visiting(index):
                asr = run.visit(point, asked, answerer)
            bar.advance(point, asr)
            bar.say(pace.first_estimate())
    run.judging.by_models(run.readings)
    run.read_coherence()
    run.cost = {
        "wall_seconds": round(time.monotonic() - start, 1),
        **pace.facts(),
        "answers_ended_early": answerer.ended_early,
        "tokens_saved_at_most": answerer.tokens_saved,
    }
    return run


def _journal(engine: Engine, questions: Sequence[Question]) -> Journal:
    folder = questions[0].settings.journal if questions else OFF
    return Journal() if folder.lower() == OFF else Journal.open(folder, engine.name, engine.identity())


@dataclass
class _Run:
    engine: Engine
    questions: Sequence[Question]
    journal: Journal
    quiet: bool = False
    readings: list[Reading] = field(default_factory=list)
    cuts: dict[str, float] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)  # tasks whose plan needs nothing more
    out_of_time: str = ""
    """Why the measurement ended before its last point, if so."""
    cost: dict[str, Any] = field(default_factory=dict)
    """What the answers took: facts."""

    def __post_init__(self) -> None:
        check_draws(self.engine, (question.settings for question in self.questions))
        self.made = points_made(self.engine, (point for question in self.questions for point in question.points))
        self.judging = Judging(self.engine, self.journal, quiet=self.quiet)
        self.judging.check(question.settings for question in self.questions)
        rendered = [self.engine.render(question.messages, question.settings) for question in self.questions]
        self.rendered_sha256 = _rendered_sha256(self.questions, rendered)
        self.members: dict[str, list[int]] = {}
        self.asked_at: dict[Point, list[int]] = {}
        for index, question in enumerate(self.questions):
            self.members.setdefault(question.task, []).append(index)
            for point in dict.fromkeys([ORIGIN] if question.plan else question.points):
                self.asked_at.setdefault(point, []).append(index)
        self.budgets = {
            task: self.engine.token_budget(
                [rendered[i] for i in members], self.questions[members[0]].settings.max_new_tokens
            )
            for task, members in self.members.items()
        }
        self.asks = [
            asks_of(text, self.budgets[question.task], question.settings)
            for text, question in zip(rendered, self.questions, strict=True)
        ]

    def visits(self) -> Iterator[tuple[Point, list[int]]]:
        """Where which questions are asked: all that is known before, then what plans choose by the answers so far."""
        yield from self.asked_at.items()
        for task, members in self.members.items():
            plan, clusters = self.questions[members[0]].plan, [self.questions[i].prompt.cluster for i in members]
            yield from follow(plan, members, clusters, self.readings)
            self.settled.add(task)

    def visit(self, point: Point, asked: Sequence[int], answerer: Answerer) -> float | None:
        """Answer these questions at this point; the share that helps, where rules can tell."""
        completions = answerer.answers(self.place(point), self.wanted(asked))
        pairs = [(index, ask) for index in asked for ask in self.asks[index]]
        readings = [self._reading(index, point, ask, completions[ask]) for index, ask in pairs]
        self.judging.by_rules(readings)
        self.readings += readings
        first = [reading.verdicts.get(reading.settings.judges[0], Verdict.UNSCORED) for reading in readings]
        scored = len(first) - first.count(Verdict.UNSCORED)
        return sum(verdict.helps for verdict in first) / scored if scored else None

    def place(self, point: Point) -> Point:
        """The point with its direction made, where it names a target."""
        return self.made.get(point, point)

    def wanted(self, asked: Sequence[int]) -> list[tuple[Ask, tuple[str, ...]]]:
        """What is asked for these questions, with the strings that end an answer."""
        return [(ask, self.questions[i].stop_strings) for i in asked for ask in self.asks[i]]

    def stop(self, pace: Pace) -> None:
        """Keep the questions that are answered at all of their points, and of the others the origin."""
        visited = {(reading.question, reading.point) for reading in self.readings}
        whole = {
            i
            for i, one in enumerate(self.questions)
            if (one.task in self.settled if one.plan else all((i, point) in visited for point in one.points))
        }
        self.readings = [one for one in self.readings if one.question in whole or one.point == ORIGIN]
        self.out_of_time = pace.why_stopped(self._why_nothing_is_kept())

    def _why_nothing_is_kept(self) -> str:
        if self.journal.path is not None:
            return ""
        if self.journal.ended:
            return f"the journal could not be written ({self.journal.ended})"
        is_off = self.questions[0].settings.journal.lower() == OFF
        return "--llm-journal is off" if is_off else "there is no journal of a model whose weights have no fingerprint"

    def _reading(self, index: int, point: Point, ask: Ask, completion: Completion) -> Reading:
        question = self.questions[index]
        return Reading(index, point, ask, completion, question.prompt, question.settings)

    def read_coherence(self) -> None:
        """Score under the unperturbed weights: every answer at the origin, for the cuts, and what helps."""
        read = [r for r in self.readings if r.point == ORIGIN or r.helps]
        unique = list(dict.fromkeys((r.ask.prompt, r.completion) for r in read))
        scores = self.engine.mean_nll([rendered for rendered, _ in unique], [answer for _, answer in unique])
        if scores is None:
            return
        nll = dict(zip(unique, scores, strict=True))
        for task in self.members:
            own = [reading for reading in read if self.questions[reading.question].task == task]
            origin = [nll[r.ask.prompt, r.completion] for r in own if r.point == ORIGIN]
            self.cuts[task] = coherence_cut(origin)
            for reading in own:
                if reading.helps:
                    score = nll[reading.ask.prompt, reading.completion]
                    reading.coherent = is_coherent(reading.completion.text, score, self.cuts[task])

    def answers(self) -> list[list[Answer]]:
        """One list a question, in the order of its points and, at each, of its samples."""
        at = {(reading.question, reading.point, reading.ask): reading for reading in self.readings}
        return [
            [
                _answer(at[index, point, ask])
                for point in question.points
                for ask in self.asks[index]
                if (index, point, ask) in at
            ]
            for index, question in enumerate(self.questions)
        ]

    def facts(self) -> dict[str, Any]:
        """The engine's facts and what this run decided by itself."""
        answers = {(reading.point, reading.ask): reading.completion for reading in self.readings}.values()
        return {
            **self.engine.facts(),
            **token_facts(answers),
            "token_budgets": self.budgets,
            "rendered_sha256": self.rendered_sha256,
            "decoding": {task: self.questions[members[0]].settings.decoding for task, members in self.members.items()},
            "coherence_cuts": self.cuts,
            "judges": judge_facts(question.settings for question in self.questions),
            "missed_controls": {name: list(missed) for name, missed in self.judging.missed.items()},
            "missed_template_controls": {self.engine.name: list(broken)} if (broken := self.judging.broken) else {},
            **self.cost,
            "read_from_journal": self.journal.recalled,
            **({"out_of_time": self.out_of_time, "settled": sorted(self.settled)} if self.out_of_time else {}),
            **({"journal_file": self.journal.path.name} if self.journal.path else {}),
            **facts_of_made(self.made),
            **({"journal_ended": self.journal.ended} if self.journal.ended else {}),
        }


def _rendered_sha256(questions: Sequence[Question], rendered: Sequence[Rendered]) -> dict[str, str]:
    """Hash of each task's prompts as the model read them: equal ones can be compared prompt by prompt."""
    texts: dict[str, list[tuple[str, str]]] = {}
    for question, prompt in zip(questions, rendered, strict=True):
        texts.setdefault(question.task, []).append((question.prompt.id, prompt.text))
    return {task: hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest() for task, pairs in texts.items()}


def _answer(reading: Reading) -> Answer:
    completion = reading.completion
    return Answer(
        reading.point,
        tuple(reading.verdicts[name] for name in reading.settings.judges),
        reading.harm,
        len(completion.token_ids),
        completion.finished,
        reading.coherent,
        len(completion.text),
        completion.sha256,
    )
