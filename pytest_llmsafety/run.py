"""SafetyRun: what one pytest session measures and decides."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_llmsafety.gate_prompts import check_shape
from pytest_llmsafety.gates import ASR_WITHIN, GATED, Gate
from pytest_llmsafety.model_run import ModelRun
from pytest_llmsafety.options import RunOptions
from pytest_llmsafety.outcomes import worst
from safety_tasks.errors import InvalidInput, MeasurementFailed, SafetyError
from safety_tasks.metrics import tasks_of
from safety_tasks.settings import Settings

if TYPE_CHECKING:
    from lm_eval.api.model import LM

    from safety_tasks.agreement import Agreement
    from safety_tasks.estimates import Decision, Estimate
    from safety_tasks.harness.task import SafetyTask
    from safety_tasks.interpolation import Interpolation
    from safety_tasks.landscape import Landscape
    from safety_tasks.plane import Plane
    from safety_tasks.task_record import TaskRecord


T = TypeVar("T")


class AnswerText(str):
    """A model's answer; as a value in a failure message it shows its length only."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Its length: pytest's messages print representations."""
        return f"<answer of {len(self)} characters>"


@dataclass(repr=False)
class SafetyRun:
    """The session's models, measurements and decisions."""

    config: pytest.Config
    options: RunOptions
    settings: Settings
    gates: tuple[Gate, ...]
    decisions: dict[Gate, Decision] = field(default_factory=dict)
    errors: dict[Gate, str] = field(default_factory=dict)
    failure: SafetyError | None = None
    estimates: dict[str, Estimate] = field(default_factory=dict)
    """By quantity: a metric's name, or what a gate asks of it."""
    flips: dict[str, str] = field(default_factory=dict)
    """Of paired quantities: which prompts flipped."""
    second_opinions: list[Estimate] = field(default_factory=list)
    agreements: list[tuple[str, Agreement]] = field(default_factory=list)
    landscape: Landscape | None = None
    shapes: dict[str, Interpolation | Plane] = field(default_factory=dict)
    """The other shapes of landscape, by task."""
    warnings: list[str] = field(default_factory=list)
    report_problem: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def tuned(self) -> ModelRun:
        """The model under test."""
        return ModelRun(self.config, self.options, self.settings, self.options.model or "")

    @cached_property
    def base(self) -> ModelRun:
        """The base model; raises InvalidInput when none is named."""
        if not self.options.base_model:
            raise InvalidInput("There is no base model: name one with --llm-base-model.")
        return ModelRun(self.config, self.options, self.settings, self.options.base_model)

    def lm_of(self, is_base: bool = False) -> LM:
        """The model under test, or its base, as lm_eval has it."""
        return done(lambda: (self.base if is_base else self.tuned).lm)

    def estimate(self, quantity: str) -> Estimate:
        """The estimate of a metric, or of what a gate asks of it, measured on first use with what the gates need.

        A metric that several tasks have (unscored_rate) is the worse of theirs. What once failed is not tried again.
        """
        gate = next((gate for gate in self.gates if gate.quantity == quantity), None)
        if quantity == "harmful_score" and self.settings.harm_judge is None:
            raise InvalidInput("harmful_score needs a harm judge: name one with --llm-harm-judge (such as tiny-judge).")
        check_shape(quantity if gate is None else gate.metric, self.settings)
        is_plain = gate is None or gate.quantity == gate.metric
        known = self.tuned.measured.get(self.settings, {})
        is_known = set(tasks_of(quantity)) <= set(known) if is_plain else quantity in self.estimates
        if self.failure is None and not is_known:
            try:
                done(lambda: self._measure(quantity) if gate is None or is_plain else self._measure_for(gate))
            except SafetyError as error:
                self.failure = error
        if self.failure is not None:
            raise self.failure
        if quantity not in self.estimates:
            raise SafetyError(f"{quantity} is out of reach of {self.options.backend} models: they give no likelihoods.")
        return self.estimates[quantity]

    def _measure(self, metric: str) -> None:
        """Measure a metric's tasks with those of all plain gates."""
        plain = (gate.metric for gate in self.gates if gate.quantity == gate.metric)
        known = self.tuned.measured.get(self.settings, {})
        names = sorted({task for name in (metric, *plain) for task in tasks_of(name)} - set(known))
        for name, task in self.tuned.tasks(names, self.settings).items():
            self._take_in(name, task)

    def _take_in(self, name: str, task: SafetyTask) -> None:
        for metric, found in task.estimates.items():
            known = self.estimates.get(metric)
            self.estimates[metric] = found if known is None or found.high > known.high else known
        prompts = task.prompt_set
        self.facts.setdefault("prompt_sets", {})[name] = {"name": prompts.name, "sha256": prompts.sha256}
        self.second_opinions += task.second_opinions
        self.agreements += [(name, agreement) for agreement in task.opinions]
        self.facts = {**self.facts, **{key: _merged(self.facts.get(key), fact) for key, fact in task.facts.items()}}
        self.landscape = getattr(task, "landscape", None) or self.landscape
        shape = getattr(task, "shape", None)
        if shape is not None:
            self.shapes[name] = shape

    def _measure_for(self, gate: Gate) -> None:
        """Measure what one gate asks of its metric."""
        from pytest_llmsafety.gate_prompts import settings_for

        settings = settings_for(gate, self.settings)
        tasks = self._tasks(GATED[gate.metric].tasks, settings)
        for task in tasks.values():
            self.facts.setdefault("missed_controls", {}).update(task.facts.get("missed_controls", {}))
        if gate.versus is not None:
            self._compare(gate, tasks, settings)
            return
        found = [estimate for task in tasks.values() if (estimate := _of_task(task, gate)) is not None]
        if found:
            self.estimates[gate.quantity] = max(found, key=lambda estimate: estimate.high)

    def _tasks(self, names: Sequence[str], settings: Settings) -> Mapping[str, SafetyTask]:
        """Measured tasks of the model under test; those with the run's own settings are the run's own numbers, too."""
        if settings == self.settings:
            new = [name for name in names if name not in self.tuned.measured.get(settings, {})]
            for name, task in self.tuned.tasks(new, settings).items():
                self._take_in(name, task)
        return self.tuned.tasks(names, settings)

    def _compare(self, gate: Gate, tasks: Mapping[str, SafetyTask], settings: Settings) -> None:
        from pytest_llmsafety.comparison import compare_with

        now = {name: task.record() for name, task in tasks.items()}
        then = self._base_records(settings) if gate.reference == "base" else self._baseline_records(tasks)
        compared = compare_with(gate, now, then)
        self.estimates[gate.quantity] = replace(compared.estimate, name=gate.quantity)
        change = {"with": gate.reference, "value": compared.reference, "change": compared.estimate.value}
        self.facts.setdefault("compared", {})[gate.line] = change
        self.flips[gate.quantity] = compared.flips

    def _base_records(self, settings: Settings) -> Mapping[str, TaskRecord]:
        """The base model's records of all tasks that gates compare; the model under test is put aside meanwhile."""
        names = sorted({task for gate in self.gates if gate.reference == "base" for task in GATED[gate.metric].tasks})
        if any(name not in self.base.measured.get(settings, {}) for name in names):
            with self.tuned.aside():
                self.base.tasks(names, settings)
                self.base.release()
        tasks = self.base.tasks(names, settings)
        self.facts["base_model"] = self.base.name
        self.facts["base_weights_fingerprint"] = next(iter(tasks.values())).facts.get("weights_fingerprint")
        return {name: task.record() for name, task in tasks.items()}

    def _baseline_records(self, tasks: Mapping[str, SafetyTask]) -> Mapping[str, TaskRecord]:
        from pytest_llmsafety.comparison import baseline_of, stored_baseline

        facts = next(iter(tasks.values())).facts
        now = baseline_of(tasks, self.options.model or "", facts)
        path = self.config.invocation_params.dir / (self.options.baseline or "")
        found, differing = stored_baseline(path, now)
        self.warnings += [sentence for sentence in differing if sentence not in self.warnings]
        return found.tasks

    def decide(self, gate: Gate) -> Decision:
        """The gate's decision on the session's estimate; a paired one names the prompts that flipped."""
        estimate = self.estimate(gate.quantity)
        decision = self._without_trust(gate.check(estimate, self.settings.tolerance), estimate.judge)
        flips = self.flips.get(gate.quantity, "")
        self.decisions[gate] = replace(decision, sentence=f"{decision.sentence} {flips}.") if flips else decision
        return self.decisions[gate]

    def _without_trust(self, decision: Decision, judge: str) -> Decision:
        """The decision, or that there is none, where its judge misread a control."""
        from safety_tasks.estimates import Outcome

        why = self.distrust(judge)
        if not why:
            return decision
        return replace(decision, outcome=Outcome.INCONCLUSIVE, sentence=f"{decision.sentence} {why}")

    def distrust(self, judge: str) -> str:
        """Why a judge's numbers decide nothing: it misread answers that nobody doubts; empty where it read them all."""
        missed = self.facts.get("missed_controls", {}).get(judge, ())
        if not missed:
            return ""
        return (
            f"The judge {judge} misread {len(missed)} of its controls ({', '.join(missed)}), so that its numbers "
            "decide nothing: name another with --llm-judge."
        )

    def generate(self, prompts: Sequence[str], max_new_tokens: int | None, *, is_base: bool = False) -> list[str]:
        """Greedy answers of the unperturbed model, rendered as the measurements render them."""
        return done(lambda: self._generate(self.lm_of(is_base), prompts, max_new_tokens))

    def _generate(self, lm: LM, prompts: Sequence[str], max_new_tokens: int | None) -> list[str]:
        from safety_tasks.harness.request import engine_of
        from safety_tasks.prompts import Message

        engine, system = engine_of(lm), self.settings.system_prompt
        opening = [] if system is None else [Message("system", system)]
        rendered = [engine.render([*opening, Message("user", text)], self.settings) for text in prompts]
        budget = engine.token_budget(rendered, max_new_tokens or self.settings.max_new_tokens)
        return [AnswerText(completion.text) for completion in engine.generate(rendered, budget, ())]

    def update_baseline(self) -> None:
        """Write what the run's own tasks measured to the baseline's file, if that was asked for."""
        tasks = self.tuned.measured.get(self.settings, {})
        if not self.options.update_baseline or not tasks:
            return
        from pytest_llmsafety.comparison import baseline_of
        from safety_tasks.baseline import write_baseline

        path = self.config.invocation_params.dir / (self.options.baseline or "")
        write_baseline(path, baseline_of(tasks, self.options.model or "", self.facts))
        self.warnings.append(
            f"baseline written: {path}; this run fails once. Review and commit it, then run without "
            "--llm-update-baseline."
        )

    @property
    def missing(self) -> list[Gate]:
        """Gates that were neither decided nor in error: deselected, or lost to -x."""
        return [gate for gate in self.gates if gate not in self.decisions and gate not in self.errors]

    @property
    def decision(self) -> str:
        """The worst that the gates came to: error, fail, incomplete, inconclusive or pass."""
        found = [decision.outcome.value for decision in self.decisions.values()]
        return worst([*found, *(["error"] if self.errors else []), *(["incomplete"] if self.missing else [])])


def done(action: Callable[[], T]) -> T:
    """What an action returns; what goes wrong is one error without secrets and frames, whose arguments hold answers."""
    from safety_tasks.report.redaction import without_secrets

    try:
        return action()
    except SafetyError as error:
        failure = MeasurementFailed(without_secrets(str(error)))
    except Exception as error:
        failure = MeasurementFailed(without_secrets("".join(traceback.format_exception(error)).rstrip()))
    raise failure


def _of_task(task: SafetyTask, gate: Gate) -> Estimate | None:
    """What the gate asks of one task; None where it has no such number, or no prompt of the gate's category."""
    from safety_tasks.asr_within import asr_within

    if gate.metric == ASR_WITHIN:
        landscape: Landscape = task.landscape
        return asr_within(landscape, gate.radius or 0.0)
    if gate.category is not None:
        return task.of_category(gate.metric, gate.category)
    return task.estimates.get(gate.metric)


def _merged(known: Any, new: Any) -> Any:
    """A fact of several measurements: tables are joined, of everything else the newest stands."""
    return {**known, **new} if isinstance(known, dict) and isinstance(new, dict) else new
