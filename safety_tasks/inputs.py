"""Checking a measurement's inputs before anything heavy is imported or loaded."""

from __future__ import annotations

from pathlib import Path

from safety_tasks.errors import InvalidInput, InvalidModel
from safety_tasks.journal import check_folder
from safety_tasks.judges import check_judges
from safety_tasks.models import resolve_model
from safety_tasks.prompts import load_prompts
from safety_tasks.settings import METADATA_PREFIX, Settings


def check_inputs(settings: Settings) -> None:
    """Raise InvalidInput for prompt sets, judges, targets, folders, tasks and an attack's data that cannot be had.

    Whether lm_eval has a task of a name is said when the task is built: to index lm_eval's own takes seconds.
    """
    prompts = load_prompts(settings.prompts, kind="harmful")
    load_prompts(settings.benign_prompts, kind="benign")
    check_judges(settings.judges, settings.harm_judge)
    check_folder(settings.journal)
    for name in (settings.target, settings.second_target):
        if name is not None:
            check_target(name)
    if settings.attack_data is not None:
        from safety_tasks.attack_grid import check_attack_data

        check_attack_data(settings.attack_data, prompts)
    if settings.capability_task is not None:
        _check_capability_task(settings.capability_task.partition("#")[0])


def check_target(name: str) -> None:
    """Raise InvalidModel for a target that is neither a model nor the folder of an adapter."""
    if (Path(name) / "adapter_config.json").is_file():
        return
    try:
        resolve_model(name)
    except InvalidModel as error:
        raise InvalidModel(f"The target {name!r} is no model and no LoRA adapter's folder: {error}") from None


def _check_capability_task(name: str) -> None:
    if name.startswith(METADATA_PREFIX):
        raise InvalidInput(f"capability_task is {name!r}: capability is read of other tasks than ours.")
    if name.endswith((".yaml", ".yml")) and not Path(name).is_file():
        raise InvalidInput(f"There is no lm_eval task {name!r}: no such file is here.")
