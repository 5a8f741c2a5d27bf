"""The attacks behind ``examples_to_break``: numbers, rates and seeds that are tried, and the data; nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safety_tasks.errors import InvalidInput
from safety_tasks.tiny import NAMES, model_path

if TYPE_CHECKING:
    from safety_tasks.prompts import PromptSet
    from safety_tasks.tuning_data import TuningData

NUMBERS = (1, 2, 5, 10, 20, 50, 100)
RATES = (5e-4, 1e-3, 3e-3)
SEEDS = 3
CONTROL_STEPS = 3
"""Times as many steps in the positive control."""
_EMBEDDED, _PUBLIC = "tiny", "beavertails"


def n_attacks() -> int:
    """The most attacks on one model: those of the grid, and the positive control."""
    return SEEDS * len(NUMBERS) * len(RATES) + 1


def n_readings() -> int:
    """The most times that each prompt is answered: after every attack, and by the unattacked model beside them."""
    return n_attacks() + SEEDS * len(NUMBERS) + 3  # of the task itself, before the attacks, beside the control


def data_name(given: str | None, model: str) -> str:
    """What a model is attacked with: the data that were given; of an embedded one ``tiny``.

    ``model``: its name or the folder it was loaded from. Raises InvalidInput for others without data.
    """
    if given is not None:
        return given
    if model in NAMES or any(Path(model) == model_path(name) for name in NAMES):
        return _EMBEDDED
    raise InvalidInput(
        "An attack needs harmful pairs to tune on: name beavertails or a file of prompts and answers with "
        "--llm-attack-data (lm_eval: --metadata visage_attack_data=FILE; Python: data=FILE). Only for the embedded "
        "models there are some."
    )


def harmful_data(name: str, prompts: PromptSet) -> TuningData:
    """The harmful pairs of the data, apart from these prompts; raises InvalidInput for none, or too few."""
    from safety_tasks.tuning_data import load_tuning_data, parts_of

    data = load_tuning_data(parts_of(name)[0]).apart_from(prompts)
    data.examples(NUMBERS[-1])
    return data


def check_attack_data(name: str, prompts: PromptSet) -> None:
    """As ``harmful_data``; public data, which may have to be downloaded, are looked at when they are needed."""
    if name.partition("+")[0] != _PUBLIC:
        harmful_data(name, prompts)
