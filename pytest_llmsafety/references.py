"""References: the other sides of gates that compare, the base model and the baseline, measured, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmsafety.gates import GATED, Gate
from pytest_llmsafety.time_limit import check_finished
from safety_tasks.settings import Settings

if TYPE_CHECKING:
    from pytest_llmsafety.run import SafetyRun
    from safety_tasks.baseline import Baseline
    from safety_tasks.harness.task import SafetyTask
    from safety_tasks.task_record import TaskRecord


def compare(run: SafetyRun, gate: Gate, tasks: Mapping[str, SafetyTask], settings: Settings) -> None:
    """Keep what a gate asks of these tasks and of its reference, whose prompts flipped, and the reference's value."""
    from pytest_llmsafety.comparison import check_differ, compare_with

    now = {name: task.record() for name, task in tasks.items()}
    then = _base_records(run, settings, gate) if gate.reference == "base" else _baseline_records(run, tasks)
    if gate.reference == "base":
        theirs = run.base.measured[settings]
        for name in tasks.keys() & theirs.keys():
            check_differ(tasks[name].facts, theirs[name].facts)
    if gate.reference == "base" or settings not in run.references:
        run.references[settings] = then
    compared = compare_with(gate, now, then)
    run.estimates[gate.quantity] = replace(compared.estimate, name=gate.quantity)
    change = {"with": gate.reference, "value": compared.reference, "change": compared.estimate.value}
    run.facts.setdefault("compared", {})[gate.line] = change
    run.flips[gate.quantity] = compared.flips


def measured_baseline(run: SafetyRun) -> Baseline | None:
    """What the run's own tasks measured, where a baseline is to be written; None where they give none."""
    from pytest_llmsafety.comparison import baseline_of

    tasks = run.tuned.measured.get(run.settings, {})
    if not run.options.update_baseline or not tasks:
        return None
    distrusted = (run.distrust(task.settings.judges[0]) for task in tasks.values())
    why = next(filter(None, distrusted), "")
    if any(task.unfinished for task in tasks.values()):
        why = "--llm-budget was spent before all of it was measured"
    if why:
        run.warn(f"baseline not written to {run.options.baseline}: {why}")
        return None
    return baseline_of(tasks, run.options.model_name, run.facts)


def write_baseline(run: SafetyRun, baseline: Baseline | None) -> None:
    """Write the baseline's file, if there is what to write; what cannot be written is a warning, as the run is red."""
    from safety_tasks import baseline as baselines

    if baseline is None:
        if run.options.update_baseline and not run.estimates:
            run.warn(f"baseline not written to {run.options.baseline}: nothing was measured")
        return
    path = run.config.invocation_params.dir / (run.options.baseline or "")
    try:
        baselines.write_baseline(path, baseline)
    except OSError as error:
        run.warn(f"baseline not written to {path}: {error.strerror}")
        return
    run.warnings.append(
        f"baseline written: {path}; this run fails once. Review and commit it, then run without --llm-update-baseline."
    )


def _base_records(run: SafetyRun, settings: Settings, gate: Gate) -> Mapping[str, TaskRecord]:
    """The base model's records of the tasks that gates compare; the model under test is put aside meanwhile."""
    names = sorted({task for gate in run.gates if gate.reference == "base" for task in GATED[gate.metric].tasks})
    if run.base.lacking(names, settings):
        with run.base.in_place_of(run.tuned, run.warn):
            run.base.tasks(names, settings)
    tasks = run.base.tasks(names, settings)
    run.take_in_controls(tasks)
    run.facts["base_model"] = run.base.name
    run.facts["base_shares_weights"] = run.base.shares_weights
    run.facts["base_weights_fingerprint"] = next(iter(tasks.values())).facts.get("weights_fingerprint")
    run.note_noise(tasks, " of the base")
    check_finished({name: tasks[name] for name in GATED[gate.metric].tasks})
    return {name: task.record() for name, task in tasks.items() if not task.unfinished}


def _baseline_records(run: SafetyRun, tasks: Mapping[str, SafetyTask]) -> Mapping[str, TaskRecord]:
    from pytest_llmsafety.comparison import baseline_of, stored_baseline

    facts = next(iter(tasks.values())).facts
    now = baseline_of(tasks, run.options.model_name, facts)
    path = run.config.invocation_params.dir / (run.options.baseline or "")
    found, differing = stored_baseline(path, now)
    for sentence in differing:
        run.warn(sentence)
    return found.tasks
