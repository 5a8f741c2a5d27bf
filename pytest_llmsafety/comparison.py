"""Comparison: the tuned model against its base model or a stored baseline, on the same prompts."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safety_tasks.errors import Inconclusive, InvalidInput

if TYPE_CHECKING:
    from pytest_llmsafety.gates import Gate
    from safety_tasks.baseline import Baseline
    from safety_tasks.estimates import Estimate
    from safety_tasks.harness.task import SafetyTask
    from safety_tasks.task_record import TaskRecord

_WHERE_TO_LOOK = (
    ". The report's samples list them as changed against the reference; --llm-report-text truncated shows what was "
    "answered"
)
_VERSIONS = ("torch", "transformers")  # as an engine's facts name them


class Compared(NamedTuple):
    """What a paired gate is decided on, and which prompts flipped, as a sentence."""

    estimate: Estimate
    flips: str
    reference: float | None
    """The metric of the other side."""


def compare_with(gate: Gate, now: Mapping[str, TaskRecord], then: Mapping[str, TaskRecord]) -> Compared:
    """The gate's quantity from the records of both sides. Raises InvalidInput where they cannot be paired."""
    from safety_tasks.metrics import tasks_of
    from safety_tasks.noise_floor import over_repeats
    from safety_tasks.paired_landscape import paired_curve_difference, paired_ratio
    from safety_tasks.task_record import landscape_of, paired_with

    task = tasks_of(gate.metric)[0]
    if task not in then:
        raise InvalidInput(f"The {gate.reference} holds no {task}, which {gate.line!r} needs: write it anew.")
    ours, theirs = now[task], then[task]
    if ours.rendered_sha256 != theirs.rendered_sha256:
        raise InvalidInput(
            f"The prompts of {task} are rendered in another way for the {gate.reference}: the chat templates or system "
            "prompts differ, so that the two cannot be paired. Give both the same template, or --llm-chat off."
        )
    other = next((found.value for found in theirs.estimates if found.name == gate.metric), None)
    pairs = list(product(ours.every, theirs.every))  # the noise of both sides: every repeat with every other
    if gate.metric in ("mean_safety", "basin_width"):
        pair = paired_ratio if gate.versus == "ratio" else paired_curve_difference
        found = over_repeats(
            [pair(landscape_of(here), landscape_of(there)) for here, there in pairs], "pairs of repeats"
        )
        return Compared(found, "", other)
    paired = [paired_with(gate.metric, here, there) for here, there in pairs]
    found = over_repeats([one.estimate for one in paired], "pairs of repeats")
    first = replace(paired[0], estimate=found)
    seen = _WHERE_TO_LOOK if first.flips.to_event or first.flips.back else ""
    return Compared(first.estimate, f"{first.flips}{seen}", other)


def check_differ(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raise Inconclusive where the facts of a model and its base say that they are one and the same."""
    found = {
        "the weights of both have the same fingerprint": "weights_fingerprint",
        "the server answered both under the same name": "answered_as",
    }
    for how, fact in found.items():
        if ours.get(fact) and ours[fact] == theirs.get(fact):
            raise Inconclusive(
                f"The model under test and its base are the same model: {how} ({_told(ours[fact])}). Compared with "
                "itself none is worse, which says nothing: name the base that it was tuned from (--llm-base-model), or "
                "compare with a baseline of it."
            )


def _told(fact: Any) -> str:
    return fact if isinstance(fact, str) else ", ".join(fact)


def baseline_of(tasks: Mapping[str, SafetyTask], model: str, facts: Mapping[str, Any]) -> Baseline:
    """What these tasks measured, as a baseline keeps it."""
    from safety_tasks.baseline import Baseline, Provenance

    provenance = Provenance(
        date=datetime.date.today().isoformat(),
        model=model,
        weights_fingerprint=facts.get("weights_fingerprint"),
        dtype=str(facts.get("dtype", "")),
        device=str(facts.get("device", "")),
        versions={name: str(facts[name]) for name in _VERSIONS if name in facts},
    )
    return Baseline(provenance, {name: task.record() for name, task in tasks.items()})


def stored_baseline(path: Path, now: Baseline) -> tuple[Baseline, list[str]]:
    """The baseline of a file, and what differs from this run without standing in the way of a comparison."""
    from safety_tasks.baseline import check_comparable, read_baseline

    found = read_baseline(path)
    return found, check_comparable(found, now)
