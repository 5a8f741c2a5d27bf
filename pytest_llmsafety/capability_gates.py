"""Gates on the capability of another task: what its documents can show, known before a model loads.

Holds where a document counts 0 or 1, as accuracies do; of other metrics nothing is known before they are measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pytest_llmsafety.gate_prompts import CAPABILITY_TASK
from pytest_llmsafety.gates import Gate
from safety_tasks import planning
from safety_tasks.planning import Sample
from safety_tasks.settings import Settings

_COUNTED = ("", "acc", "acc_norm", "exact_match", "prompt_level_strict_acc", "prompt_level_loose_acc")
"""Metrics, as TASK#METRIC names them, that are shares of documents; the first of a task is taken for one."""
_SHARES = ("capability_at_origin", "capability_within_basin")


def is_of_capability(gate: Gate) -> bool:
    """Whether the gate is on a metric of ``visage_capability``."""
    return gate.tasks == (CAPABILITY_TASK,)


def why_none(quantity: str, backend: str) -> str:
    """Why there is no such number after all was measured."""
    if quantity == "truncated_rate":
        return f"{quantity} is out of reach: {backend} did not say of every answer whether the token limit cut it off."
    if not quantity.startswith("capability_"):
        return f"{quantity} is out of reach of {backend} models: they give no likelihoods."
    return (
        f"{quantity} has no value: the model exceeds the tolerance where it stands, or no grid point but itself is in "
        "its basin, or what was measured there is no number with bounds."
    )


def too_few_documents(gate: Gate, settings: Settings) -> str:
    """Why no result of so many documents could pass, and what to change; empty where one could."""
    n, limit = settings.capability_limit, gate.limit
    if gate.metric == "capability_radius":
        if settings.radius > limit or (settings.radius == limit and gate.operator == ">="):
            return ""
        return f"the grid ends at |alpha| = {settings.radius:g}. Raise --llm-radius or lower the limit."
    if not _is_counted(settings) or _can_pass(gate, n):
        return ""
    needed = _needed(gate)
    bound = _best(gate, n)
    if needed is None:
        return f"{_found(gate, n, bound)}; no number of documents would do. Choose another limit."
    rounded = math.floor(bound * 1000) / 1000 if gate.metric in _SHARES else math.ceil(bound * 1000) / 1000
    attainable = f"a limit of at {'most' if gate.metric in _SHARES else 'least'} {rounded:g}"
    return (
        f"{_found(gate, n, bound)}; at least {needed:,} documents are needed. Raise --llm-capability-limit, "
        f"or choose {attainable} (a metric that is no share of documents is named as TASK#METRIC)."
    )


def capability_plan(gate: Gate, settings: Settings) -> Iterator[str]:
    """The lines of the plan: documents, their best bound, and how many could pass at all."""
    n = settings.capability_limit
    yield f"documents: at most {n:,} of {settings.capability_task} at each point"
    if gate.metric == "capability_radius" or not _is_counted(settings):
        yield "probability of green: unknown, it depends on the curve"
        return
    yield _found(gate, n, _best(gate, n))
    needed = _needed(gate)
    yield f"documents needed to pass at all: {'no number would do' if needed is None else f'{needed:,}'}"


def _is_counted(settings: Settings) -> bool:
    return (settings.capability_task or "").partition("#")[2].partition(",")[0] in _COUNTED


def _found(gate: Gate, n: int, bound: float) -> str:
    if gate.metric in _SHARES:
        return f"{n} of {n} documents right has the lower bound {bound:.3f}"
    return f"{n} documents of which none changes have the upper bound {bound:.3f}"


def _best(gate: Gate, n: int) -> float:
    """The lower bound of a share, or the upper bound of a drop, at the best that n documents can show."""
    if gate.metric in _SHARES:
        return 1 - planning.upper_bound(0, Sample(n))
    from safety_tasks.paired import paired_difference

    right, ids = [True] * n, [str(index) for index in range(n)]
    return paired_difference("", right, right, ids, ids).estimate.high


def _can_pass(gate: Gate, n: int) -> bool:
    bound = _best(gate, n)
    better = bound > gate.limit if gate.metric in _SHARES else bound < gate.limit
    return better or (bound == gate.limit and "=" in gate.operator)


def _needed(gate: Gate) -> int | None:
    """The fewest documents at which the gate can pass; None above 65,536, or where none would do."""
    low, high = 0, 1
    while not _can_pass(gate, high):
        low, high = high, high * 2
        if high > 65_536:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _can_pass(gate, middle) else (middle, high)
    return high
