"""Feasibility: a gate that no result of its prompts could pass is refused before a model loads."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pytest_llmsafety.attack_gates import beyond_the_numbers, is_of_attack
from pytest_llmsafety.capability_gates import is_of_capability, too_few_documents
from pytest_llmsafety.gate_prompts import BENIGN_TASK, LANDSCAPE_TASKS, prompt_sets_for, settings_for
from pytest_llmsafety.gates import BASINS, GAPS, GATED, LARGEST, MARGINS, Gate
from safety_tasks import planning
from safety_tasks.errors import InvalidGate
from safety_tasks.intervals import CONFIDENCE
from safety_tasks.planning import Sample
from safety_tasks.prompts import PromptSet, load_prompts
from safety_tasks.settings import LANDSCAPE_PROMPTS, Settings

_SHOWN = 3


def check_feasible(gates: Iterable[Gate], settings: Settings) -> None:
    """Raise InvalidGate, a line a gate, for gates that no result could pass."""
    problems = [problem for gate in gates if (problem := why_impossible(gate, settings))]
    if problems:
        more = len(problems) - _SHOWN
        rest = [f"{more} more gates cannot pass either: --llm-plan says why."] if more > 0 else []
        raise InvalidGate("\n".join([*problems[:_SHOWN], *rest]))


def why_impossible(gate: Gate, settings: Settings) -> str:
    """Why no result of its prompts could pass the gate and what to change; empty when one could.

    Of a comparison with a base, a baseline or another system prompt, and of a gap, nothing is known before it is
    measured.
    """
    if gate.versus is not None or gate.is_change or gate.metric in GAPS:
        return ""
    own = settings_for(gate, settings)
    if is_of_capability(gate):
        reason = too_few_documents(gate, own)
        return f"The gate {gate.line!r} cannot pass: {reason}" if reason else ""
    beyond = beyond_the_numbers(gate) if is_of_attack(gate) else _beyond_the_grid(gate, own)
    reasons = (beyond, *(_too_few(gate, own, prompts) for prompts in prompt_sets_for(gate, own)))
    reason = next(filter(None, reasons), "")
    return f"The gate {gate.line!r} cannot pass: {reason}" if reason else ""


def sample_of(prompts: PromptSet) -> Sample:
    """The prompts as a sample, near-duplicates counted as one."""
    return Sample.of([prompt.cluster for prompt in prompts.prompts])


def counted(sample: Sample) -> str:
    """The number of prompts, with the effective one where near-duplicates lower it."""
    effective = round(sample.effective)
    return f"{sample.n}" + (f" (effective {effective}: near-duplicates count as one)" if effective < sample.n else "")


def reach(gate: Gate, settings: Settings) -> float:
    """The largest value of a length, or lower bound of an area, that the grid can show."""
    if gate.metric == "basin_area":
        return 1 - 1 / (settings.plane_points - 1) ** 2
    if gate.metric in MARGINS:
        from safety_tasks.margin import scales_of

        return 1.0 if gate.metric == "safe_scale" else scales_of(settings)[-1] - 1
    if gate.metric == "worst_share":
        return (settings.points - 1) / 2  # all of the grid over one step of it on either side
    return settings.radius * (1 if gate.metric == "safe_radius" else 2)


def rate_limit(prompts: PromptSet, settings: Settings) -> float:
    """What a margin lets pass of the rate on these prompts."""
    return settings.over_refusal_limit if prompts.kind == "benign" else settings.asr_limit


def margin_confidence(gate: Gate, settings: Settings) -> float:
    """At which each rate must meet its limit at a scale, so that the gate's lower bound reaches that scale."""
    from safety_tasks.margin import confidence_of_scales, scales_of

    return confidence_of_scales(scales_of(settings)) if gate.metric == "safe_scale" else CONFIDENCE


def is_trivial(gate: Gate) -> bool:
    """Whether a length's limit is met by any result."""
    return gate.limit < 0 or (gate.limit == 0 and gate.operator == ">=")


def _beyond_the_grid(gate: Gate, settings: Settings) -> str:
    if gate.metric not in (*BASINS, *MARGINS):
        return ""
    most = reach(gate, settings)
    if most > gate.limit or (most == gate.limit and gate.operator == ">="):
        return ""
    if gate.metric == "basin_area":
        n = settings.plane_points
        return f"its bounds are squares of {n} x {n} points, at most {most:.3f}. Raise --llm-plane-points."
    if gate.metric in MARGINS:
        return f"its lower bound is at most {most:g}, by the scales measured. Raise --llm-scales or lower the limit."
    if gate.metric == "worst_share":
        return f"its lower bound is at most {most:g}, by the grid's steps. Raise --llm-points or lower the limit."
    return (
        f"the grid ends at |alpha| = {settings.radius:g}, so that {gate.metric} is seen up to {most:g} only. "
        "Raise --llm-radius or lower the limit."
    )


def _too_few(gate: Gate, settings: Settings, prompts: PromptSet) -> str:
    sample = sample_of(prompts)
    if gate.metric in MARGINS or is_of_attack(gate):
        return _too_few_for_a_limit(gate, settings, prompts, sample)
    if gate.metric in BASINS:
        return "" if is_trivial(gate) else _too_few_for_the_tolerance(gate, settings, prompts, sample)
    if gate.is_rate or gate.metric in LARGEST:
        return _too_few_for_a_rate(gate, settings, prompts, sample)
    low = planning.best_mean(sample)
    if low > gate.limit or (low == gate.limit and gate.operator == ">="):
        return ""
    needed = planning.prompts_needed_of_a_mean(gate.operator, gate.limit, sample.share)
    attainable = f"a limit of at most {math.floor(low * 1000) / 1000:g}"
    found = f"with no answer but refusals, {counted(sample)} prompts have the lower bound {low:.3f}"
    return f"{found}; {_remedy(gate, settings, prompts, needed, attainable)}"


def _too_few_for_a_rate(gate: Gate, settings: Settings, prompts: PromptSet, sample: Sample) -> str:
    confidence = gate.confidence or CONFIDENCE
    if planning.passes(0, sample, gate.operator, gate.limit, confidence):
        return ""
    high = planning.upper_bound(0, sample, confidence)
    needed = planning.prompts_needed(gate.operator, gate.limit, confidence, sample.share)
    attainable = f"a limit of at least {math.ceil(high * 1000) / 1000:g}"
    at = "" if gate.confidence is None else f" at confidence {gate.confidence:g}"
    found = f"0 of {counted(sample)} has the upper bound {high:.3f}{at}"
    return f"{found}; {_remedy(gate, settings, prompts, needed, attainable)}"


def _too_few_for_the_tolerance(gate: Gate, settings: Settings, prompts: PromptSet, sample: Sample) -> str:
    if planning.passes(0, sample, "<=", settings.tolerance):
        return ""
    high = planning.upper_bound(0, sample)
    needed = planning.prompts_needed("<=", settings.tolerance, share=sample.share)
    attainable = f"a --llm-tolerance of at least {math.ceil(high * 1000) / 1000:g}"
    found = f"0 of {counted(sample)} has the upper bound {high:.3f}, above the tolerance {settings.tolerance:g}"
    return f"{found}; {_remedy(gate, settings, prompts, needed, attainable)}"


def _too_few_for_a_limit(gate: Gate, settings: Settings, prompts: PromptSet, sample: Sample) -> str:
    lowest = -1.0 if gate.metric == "finetune_margin" else 0.0
    limit, confidence = rate_limit(prompts, settings), margin_confidence(gate, settings)
    is_met_by_any = gate.limit < lowest or (gate.limit == lowest and gate.operator == ">=")
    if is_met_by_any or planning.passes(0, sample, "<=", limit, confidence):
        return ""
    high = planning.upper_bound(0, sample, confidence)
    needed = planning.prompts_needed("<=", limit, confidence, sample.share)
    option = "--llm-over-refusal-limit" if prompts.kind == "benign" else "--llm-asr-limit"
    attainable = f"a {option} of at least {math.ceil(high * 1000) / 1000:g}"
    what = "a number that counts as held out" if is_of_attack(gate) else "each scale"
    found = f"0 of {counted(sample)} has the upper bound {high:.3f}, above the limit {limit:g} of {what}"
    return f"{found}; {_remedy(gate, settings, prompts, needed, attainable)}"


def _remedy(gate: Gate, settings: Settings, prompts: PromptSet, needed: int | None, attainable: str) -> str:
    """How many prompts are needed, and the option that brings them."""
    if needed is None:
        return f"no number of prompts would do. Choose {attainable}."
    of_category = "" if gate.category is None else f" of the category {gate.category!r}"
    benign = GATED[gate.metric].tasks == (BENIGN_TASK,) or (prompts.kind == "benign")
    option = "prompts=" if gate.prompts is not None else "--llm-benign-prompts" if benign else "--llm-prompts"
    held = len(load_prompts(settings.benign_prompts if benign else settings.prompts, "benign" if benign else "harmful"))
    asked = settings.n_prompts or (LANDSCAPE_PROMPTS if GATED[gate.metric].tasks[0] in LANDSCAPE_TASKS else held)
    can_raise = gate.category is None and asked < needed <= held
    wider = f"Raise --llm-n-prompts to {needed}" if can_raise else f"Name a larger set with {option}"
    return f"at least {needed:,} prompts{of_category} are needed. {wider}, or choose {attainable}."
