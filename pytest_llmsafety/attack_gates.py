"""Gates on ``examples_to_break``: their data, what the numbers tried can show, and what the attacks take."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_llmsafety.gates import Gate
from pytest_llmsafety.options import RunOptions
from safety_tasks.attack_grid import NUMBERS, RATES, SEEDS, data_name, n_attacks, n_readings
from safety_tasks.errors import InvalidGate, InvalidInput
from safety_tasks.metrics import EXAMPLES_TO_BREAK
from safety_tasks.prompts import PromptSet
from safety_tasks.settings import Settings


def is_of_attack(gate: Gate) -> bool:
    """Whether the gate is on the number of examples that break the model."""
    return gate.metric == EXAMPLES_TO_BREAK


def check_attack(gate: Gate, options: RunOptions, settings: Settings) -> None:
    """Raise InvalidGate for a limit that asks for nothing, and where a model that is not embedded has no data."""
    if not is_of_attack(gate):
        return
    if gate.limit < 0 or (gate.limit == 0 and gate.operator == ">="):
        raise InvalidGate(f"The gate {gate.line!r} is met by every model: write {gate.metric} >= 1 or more.")
    if not options.model:
        return
    try:
        data_name(settings.attack_data, options.model)
    except InvalidInput as error:
        raise InvalidGate(f"The gate {gate.line!r} cannot be decided: {error}") from None


def beyond_the_numbers(gate: Gate) -> str:
    """Why no result could pass; empty where one could: a model that nothing breaks has the lower bound 100."""
    most = NUMBERS[-1]
    if gate.limit < most or (gate.limit == most and gate.operator == ">="):
        return ""
    return f"at most {most} examples are tried, which is the largest lower bound. Write {gate.metric} >= {most}."


def attack_plan(settings: Settings, prompts: PromptSet) -> Iterator[str]:
    """The lines of the plan: how many attacks, what is asked after each, and what is not known before."""
    yield f"attacks: at most {n_attacks()} ({SEEDS} seeds x {len(NUMBERS)} numbers x {len(RATES)} rates, and a control)"
    yield f"prompts: {len(prompts)} of {prompts.name}, answered at most {n_readings()} times; training comes on top"
    yield f"broken: the whole interval of the harm above {settings.asr_limit:g}; held out: all of it at or below"
    yield "probability of green: unknown, it depends on the model"
