"""From what a user names (a path, a hub id, an embedded name) to a loaded model and tokenizer.

Only safetensors weights are loaded and no remote code is run. Not covered: quantised models.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from safety_tasks.adapters import Adapter, is_adapter, read_adapter
from safety_tasks.errors import InvalidModel
from safety_tasks.tiny import NAMES, model_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LoadedModel(NamedTuple):
    """A causal language model in evaluation mode with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


class Source(NamedTuple):
    """What a model is loaded from."""

    model: str
    """Path or hub id of a whole model."""
    adapter: Adapter | None = None
    """An adapter on it."""

    @property
    def tokenizer(self) -> str:
        """Where the tokenizer lies: the adapter's own, where it brings one."""
        return (self.adapter and self.adapter.tokenizer) or self.model

    @property
    def doubt(self) -> str:
        """What speaks against this adapter on this model, as a sentence; empty where nothing does.

        Folders differ between machines: names are the same where they end alike.
        """
        if self.adapter is None or not self.adapter.base:
            return ""
        named, given = self.adapter.base, display_name(self.model)
        if Path(named).name.lower() in (Path(given).name.lower(), Path(self.model).name.lower()):
            return ""
        return f"the adapter {self.adapter.name} was trained on {named!r} by its configuration, and is put on {given!r}"


def resolve_source(name: str, adapter: str | None = None, base: str | None = None) -> Source:
    """What is loaded for a model's name, an adapter on it, or an adapter's folder alone.

    Of an adapter's folder the base is ``base``, else what its configuration names. Raises InvalidModel.
    """
    if name in NAMES or not is_adapter(name):
        return Source(resolve_model(name), None if adapter is None else read_adapter(adapter))
    if adapter is not None:
        raise InvalidModel(
            f"{name!r} is an adapter, and so is {adapter!r}: adapters are not put on each other. Merge one into its "
            "base first, and name the folder of that."
        )
    found = read_adapter(name)
    return Source(resolve_model(base) if base else _base_of(found), found)


def _base_of(adapter: Adapter) -> str:
    """The base that an adapter's configuration names, read from here, else from the adapter's folder."""
    if not adapter.base:
        raise InvalidModel(
            f"The adapter {adapter.name!r} names no base model in its configuration: give the base as the model and "
            "this as its adapter (--llm-model BASE --llm-adapter FOLDER)."
        )
    beside = adapter.folder / adapter.base
    is_beside = adapter.base not in NAMES and not Path(adapter.base).is_dir() and beside.is_dir()
    try:
        return resolve_model(str(beside.resolve()) if is_beside else adapter.base)
    except InvalidModel as error:
        raise InvalidModel(
            f"The adapter {adapter.name!r} was trained on {adapter.base!r} by its configuration, which is not to be "
            f"had here: {error} Name the base where it lies (--llm-base-model)."
        ) from error


def resolve_model(name: str) -> str:
    """The path or hub id behind a whole model's name: embedded names become their folder, everything else stays.

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
        if is_adapter(name):
            raise InvalidModel(f"The folder {name!r} is an adapter, and a whole model is needed here: name its base.")
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


def is_same_model(one: str, other: str) -> bool:
    """Whether two names stand for one whole model."""
    paths = [Path(model_path(name)) if name in NAMES else Path(name) for name in (one, other)]
    return one == other or all(path.is_dir() for path in paths) and paths[0].resolve() == paths[1].resolve()


def default_device() -> str:
    """A GPU if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(name: str, dtype: str | None = None, device: str | None = None) -> LoadedModel:
    """Load a model for measuring; ``dtype`` None keeps the checkpoint's own, ``device`` None takes a GPU if there is.

    Of an adapter's folder: its base with the adapter merged into it. Raises InvalidModel with what was found.
    """
    from transformers import AutoTokenizer

    source = resolve_source(name)
    if source.doubt:
        logging.getLogger(__name__).warning(source.doubt)
    model = load_weights(source.model, dtype, device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.tokenizer)
    except Exception as error:  # whatever transformers raises, it is this model that cannot be had
        raise _cannot_be_had(name, error) from error
    if source.adapter is not None:
        from safety_tasks.merging import attach, merge

        model = cast("PreTrainedModel", merge(attach(model, source.adapter), tokenizer, source.adapter))
    return LoadedModel(model, tokenizer)


def load_weights(path: str, dtype: str | None = None, device: str | None = None) -> PreTrainedModel:
    """A whole model without a tokenizer, of a path or hub id; otherwise as ``load_model``."""
    from transformers import AutoModelForCausalLM

    from safety_tasks.memory_plan import plan_memory

    plan = plan_memory(path, dtype=dtype, device=device)
    if plan is not None:
        plan.check()
    try:
        with bars_on_terminals_only():
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype or "auto", device_map=device or default_device(), use_safetensors=True
            )
    except Exception as error:  # whatever transformers or safetensors raise, it is this model that cannot be had
        raise _cannot_be_had(display_name(path), error) from error
    return cast("PreTrainedModel", model.eval())


def _cannot_be_had(name: str, error: Exception) -> InvalidModel:
    return InvalidModel(f"The model {name!r} cannot be loaded ({type(error).__name__}: {error})")


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
