"""Measuring our tasks several times on the same weights: what each repeat varies stands in ``safety_tasks.repeats``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from safety_tasks.budget import Budget
from safety_tasks.harness.evaluation import evaluate_tasks
from safety_tasks.harness.request import REPEAT
from safety_tasks.harness.task import SafetyTask
from safety_tasks.noise_floor import noise_floor_of
from safety_tasks.settings import Settings

if TYPE_CHECKING:
    from lm_eval.api.model import LM


def evaluate_repeatedly(
    lm: LM,
    names: Sequence[str],
    settings: Settings,
    repeats: int,
    *,
    quiet: bool = False,
    budget: Budget | None = None,
    texts: dict[str, str] | None = None,
) -> Mapping[str, SafetyTask]:
    """The tasks after ``evaluate_tasks``, with their repeats; the noise floor that these show is among their facts.

    A task of which the ``budget`` left no time for a repeat is unfinished.
    """
    tasks = evaluate_tasks(lm, names, settings, quiet=quiet, budget=budget, texts=texts)
    for repeat in range(1, repeats):
        setattr(lm, REPEAT, repeat)
        try:
            again = evaluate_tasks(lm, names, settings, quiet=quiet, budget=budget)
        finally:
            setattr(lm, REPEAT, 0)
        for name, task in tasks.items():
            task.repeats.append(again[name])
    for name, task in tasks.items():
        floor = None if task.unfinished else noise_floor_of(task.record())
        if floor is not None:
            recalled = [one.facts["read_from_journal"] for one in (task, *task.repeats)]
            task.facts = {
                **task.facts,
                "noise_floor": {name: floor.to_dict()},
                "repeats_read_from_journal": {name: recalled},
            }
    return tasks
