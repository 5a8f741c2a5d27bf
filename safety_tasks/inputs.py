"""Checking a measurement's inputs before anything heavy is imported or loaded."""

from __future__ import annotations

from pathlib import Path

from safety_tasks.errors import InvalidModel
from safety_tasks.journal import check_folder
from safety_tasks.judges import check_judges
from safety_tasks.models import resolve_model
from safety_tasks.prompts import load_prompts
from safety_tasks.settings import Settings


def check_inputs(settings: Settings) -> None:
    """Raise InvalidInput for prompt sets, judges, targets and folders that cannot be had."""
    load_prompts(settings.prompts, kind="harmful")
    load_prompts(settings.benign_prompts, kind="benign")
    check_judges(settings.judges, settings.harm_judge)
    check_folder(settings.journal)
    for name in (settings.target, settings.second_target):
        if name is not None:
            check_target(name)


def check_target(name: str) -> None:
    """Raise InvalidModel for a target that is neither a model nor the folder of an adapter."""
    if (Path(name) / "adapter_config.json").is_file():
        return
    try:
        resolve_model(name)
    except InvalidModel as error:
        raise InvalidModel(f"The target {name!r} is no model and no LoRA adapter's folder: {error}") from None
