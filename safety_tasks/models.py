"""From what a user names (a path, a hub id, an embedded name) to a loaded model and tokenizer.

Only safetensors weights are loaded and no remote code is run. Not covered: adapters and quantised models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safety_tasks.errors import InvalidModel
from safety_tasks.tiny import NAMES, model_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LoadedModel(NamedTuple):
    """A causal language model in evaluation mode with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def resolve_model(name: str) -> str:
    """The path or hub id behind a name: embedded names become their folder, everything else stays.

    Raises InvalidModel for an empty name, a folder without config.json, and what is neither folder nor hub id.
    """
    if not name.strip():
        raise InvalidModel(
            "The model's name is empty: give a model folder, a hub id, or one of " + ", ".join(NAMES) + "."
        )
    if name in NAMES:
        return str(model_path(name))
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InvalidModel(f"The folder {name!r} is no model: it has no config.json.")
        return name
    if path.exists():
        raise InvalidModel(f"{name!r} is a file: a model is a folder with config.json, weights and tokenizer.")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InvalidModel(f"There is no model folder {name!r}.")
    if "/" not in name:
        raise InvalidModel(
            f"There is no model {name!r}: no folder of that name here, no hub id (OWNER/NAME), "
            f"and none of the embedded models {', '.join(NAMES)}."
        )
    return name


def display_name(path: str) -> str:
    """What a report calls a model: the name of an embedded one, else the path or hub id it was loaded from."""
    return next((name for name in NAMES if Path(path) == model_path(name)), path)


def default_device() -> str:
    """A GPU if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(name: str, dtype: str | None = None, device: str | None = None) -> LoadedModel:
    """Load a model for measuring; ``dtype`` None keeps the checkpoint's own, ``device`` None takes a GPU if there is.

    Raises InvalidModel with what was found.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = resolve_model(name)
    try:
        with bars_on_terminals_only():
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype or "auto", device_map=device or default_device(), use_safetensors=True
            )
        tokenizer = AutoTokenizer.from_pretrained(path)
    except Exception as error:  # whatever transformers or safetensors raise, it is this model that cannot be had
        raise InvalidModel(f"The model {name!r} cannot be loaded ({type(error).__name__}: {error})") from error
    return LoadedModel(model.eval(), tokenizer)


@contextmanager
def bars_on_terminals_only() -> Iterator[None]:
    """Keep transformers' progress bars out of logs."""
    from transformers.utils import logging as bars

    if sys.stderr.isatty() or not bars.is_progress_bar_enabled():
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()


def dtype_asked_for(model: PreTrainedModel) -> str | None:
    """The dtype that a model was loaded in where its checkpoint names another one; None: in its own."""
    from transformers import AutoConfig

    try:
        own = AutoConfig.from_pretrained(str(model.name_or_path)).dtype
    except (OSError, ValueError):  # it was not loaded from a checkpoint
        return None
    return None if own in (None, model.dtype) else str(model.dtype).removeprefix("torch.")
