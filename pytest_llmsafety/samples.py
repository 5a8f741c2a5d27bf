"""A run's samples: the answers of the tasks of the model under test, beside those of its reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_llmsafety.gate_prompts import BENIGN_TASK
from safety_tasks.samples import Sample, origin_first, with_reference, with_texts

if TYPE_CHECKING:
    from pytest_llmsafety.run import SafetyRun
    from safety_tasks.harness.task import SafetyTask
    from safety_tasks.landscape import Landscape
    from safety_tasks.settings import Settings
    from safety_tasks.task_record import TaskRecord


class Answered(NamedTuple):
    """A measured task of the model under test, and what the base model or baseline answered."""

    name: str
    """The task's, with what a gate chose for itself: ``visage_harmful[prompts=advbench]``."""
    task: SafetyTask
    reference: TaskRecord | None

    def samples(self) -> tuple[Sample, ...]:
        """Without texts."""
        return tuple(replace(one, task=self.name) for one in with_reference(self.task.samples(), self.reference))


def answered_tasks(run: SafetyRun) -> Iterator[Answered]:
    """What the run has measured by now, in the order in which it did."""
    for settings, tasks in run.tuned.measured.items():
        references = run.references.get(settings, {})
        for name, task in tasks.items():
            chosen = _chosen(name, settings, run.settings)
            yield Answered(f"{name}{chosen}", task, references.get(name))


def samples_of(run: SafetyRun) -> tuple[Sample, ...]:
    """All samples, with the texts that --llm-report-text asks for; those of gated prompt sets are never shown."""
    return origin_first(sample for answered in answered_tasks(run) for sample in _with_texts(run, answered))


def reference_landscape(run: SafetyRun) -> Landscape | None:
    """The landscape of the base model or baseline, where a gate compared the run's own with it."""
    from safety_tasks.task_record import landscape_of

    references = run.references.get(run.settings, {})
    found = [landscape_of(record) for record in references.values() if record.curve is not None]
    if not found:
        return None
    return replace(found[0], facts={"model": run.facts.get("base_model") or f"baseline {run.options.baseline}"})


def _with_texts(run: SafetyRun, answered: Answered) -> tuple[Sample, ...]:
    prompts, samples = answered.task.prompt_set, answered.samples()
    if run.tuned.texts is None or prompts.gated:
        return samples
    texts = {prompt.id: prompt.text for prompt in prompts.prompts}
    return with_texts(samples, run.options.report_text, texts, run.tuned.texts)


def _chosen(task: str, settings: Settings, own: Settings) -> str:
    """What a gate chose differently from the run, in brackets; empty for the run's own settings."""
    names = ("benign_prompts" if task == BENIGN_TASK else "prompts", "judge", "harm_judge")
    pairs = [f"{name}={getattr(settings, name)}" for name in names if getattr(settings, name) != getattr(own, name)]
    return f"[{','.join(pairs)}]" if pairs else ""
