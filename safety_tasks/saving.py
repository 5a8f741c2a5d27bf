"""Saving a model whose weights were changed, as a complete folder that loads anywhere."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safety_tasks.errors import InvalidSetting
from safety_tasks.models import LoadedModel, bars_on_terminals_only


def check_output(folder: str | Path) -> Path:
    """The folder where a model may be written; raises InvalidSetting for one that holds something, or cannot be made.

    Nothing is made. The folder above must be writable even where this one is there, for it is written beside first.
    """
    place = Path(folder).resolve()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InvalidSetting(f"{str(folder)!r} holds something already: name a folder that is new or empty.")
    if place.is_mount():
        raise InvalidSetting(f"{str(folder)!r} is a mount point, which cannot be replaced: name a folder in it.")
    there = next(parent for parent in place.parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InvalidSetting(f"{str(folder)!r} cannot be made: {str(there)!r} cannot be written.")
    return place


def save_model(loaded: LoadedModel, folder: Path, name: str, record: dict[str, Any]) -> None:
    """Weights in safetensors, configurations, tokenizer with its chat template, and a record of what was done.

    Written beside the folder first, so that a folder of that name is always a whole one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with bars_on_terminals_only():
            loaded.model.save_pretrained(draft)
        loaded.tokenizer.save_pretrained(draft)
        (draft / name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    try:
        if folder.exists():
            folder.rmdir()  # empty, as was checked
        draft.rename(folder)
    except OSError as error:  # something was put there meanwhile
        raise InvalidSetting(f"{folder} is in the way ({error.strerror}): the model lies in {draft}.") from error
