"""From what a user names (a path, a hub id and its revision, an embedded name) to a loaded model and tokenizer.

Only safetensors weights are loaded and no remote code is run. Quantised models are loaded as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from safety_tasks.adapters import CONFIG, Adapter, is_adapter, read_adapter
from safety_tasks.errors import InvalidModel, UnknownName
from safety_tasks.loading_errors import cannot_be_had, check_pickles
from safety_tasks.revisions import Pinned, pinned
from safety_tasks.tiny import NAMES, model_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")
_DEFAULT = "main"
"""The revision of a hub id that names none."""
_REVISION = "llmsafety_revision"
"""Attribute of a model: the revision that was named."""


class LoadedModel(NamedTuple):
    """A causal language model in evaluation mode with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


class Source(NamedTuple):
    """What a model is loaded from."""

    model: str
    """Path of a whole model, or its hub id, with @REVISION where one was named."""
    adapter: Adapter | None = None
    """An adapter on it."""

    @property
    def tokenizer(self) -> str:
        """Where the tokenizer lies: the adapter's own, where it brings one."""
        return (self.adapter and self.adapter.tokenizer) or self.model

    def check(self) -> None:
        """Raise InvalidModel for an adapter whose configuration names another model than this.

        Folders differ between machines: names are the same where they end alike, whatever their revisions.
        """
        if self.adapter is None or not self.adapter.base:
            return
        named, given = self.adapter.base, display_name(self.model)
        beside = self.adapter.folder / named  # as _base_of looks for it
        known = _ends(named) | (_ends(str(beside)) if beside.is_dir() else set())
        if not known & (_ends(given) | _ends(self.model)):
            raise InvalidModel(
                f"The adapter {self.adapter.name!r} was trained on {named!r} by its configuration, and would be put on "
                f"{given!r}: give it its own base. Where that is the same model under another name, write this name "
                f"as base_model_name_or_path into the adapter's {CONFIG}."
            )


def _ends(name: str) -> set[str]:
    """The last part of a path or hub id: as it is written, where its links lead, and of the repository in a cache."""
    path = Path(pinned(name).name)
    places = (path, path.resolve()) if path.is_dir() else (path,)
    cached = (place.parents[1].name.rpartition("--")[2] for place in places if place.parent.name == "snapshots")
    return {end.lower() for end in (*(place.name for place in places), *cached) if end}


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

    A hub id may have a revision, OWNER/NAME@REVISION. Raises InvalidModel for an empty name, a folder without
    config.json, and what is neither folder nor hub id.
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
    repository = pinned(name).name
    if name.startswith((".", "/", "~")) or repository.count("/") > 1:
        raise InvalidModel(f"There is no model folder {name!r}.")
    if "/" not in repository:
        raise InvalidModel(
            f"There is no model {name!r}: no folder of that name here, no hub id (OWNER/NAME or OWNER/NAME@REVISION), "
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


def check_dtype(name: str | None) -> None:
    """Raise UnknownName for what is no dtype that a model is computed in."""
    if name is not None and name not in DTYPES:
        raise UnknownName("dtype", name, DTYPES, "Without one the checkpoint's own stands.")


def load_model(name: str, dtype: str | None = None, device: str | None = None) -> LoadedModel:
    """Load a model for measuring; ``dtype`` None keeps the checkpoint's own, ``device`` None takes a GPU if there is.

    Of an adapter's folder: its base with the adapter merged into it. Raises InvalidModel with what was found, and
    UnknownName for a dtype that is none.
    """
    check_dtype(dtype)
    source = resolve_source(name)
    source.check()
    model = load_weights(source.model, dtype, device)
    tokenizer = load_tokenizer(source.tokenizer)
    if source.adapter is not None:
        from safety_tasks.merging import attach, merge

        model = cast("PreTrainedModel", merge(attach(model, source.adapter), tokenizer, source.adapter))
    return LoadedModel(model, tokenizer)


def load_weights(
    path: str, dtype: str | None = None, device: Any = None, *, quantisation: Any = None
) -> PreTrainedModel:
    """A whole model without a tokenizer, of a path or hub id; otherwise as ``load_model``.

    ``device`` may be a device map; ``quantisation`` is transformers' configuration, for what a checkpoint of its kind
    leaves open.
    """
    from transformers import AutoModelForCausalLM

    from safety_tasks.memory_plan import plan_memory

    name, revision = pinned(path)
    check_pickles(path)
    plan = plan_memory(path, dtype=dtype, device=device)
    if plan is not None:
        plan.check()
    try:
        with bars_on_terminals_only():
            model = AutoModelForCausalLM.from_pretrained(
                name,
                revision=revision or _DEFAULT,
                dtype=dtype or "auto",
                device_map=device or default_device(),
                use_safetensors=True,
                trust_remote_code=False,
                **({"quantization_config": quantisation} if quantisation else {}),
            )
    except Exception as error:  # whatever transformers or safetensors raise, it is this model that cannot be had
        raise cannot_be_had(display_name(path), error) from error
    pin(model, revision)
    return cast("PreTrainedModel", model.eval())


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a path or hub id; raises InvalidModel."""
    from transformers import AutoTokenizer

    name, revision = pinned(path)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, revision=revision or _DEFAULT, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # whatever transformers raises, an ImportError too, it is this tokenizer
        raise cannot_be_had(display_name(path), error, what="tokenizer of the model") from error
    return tokenizer


def pin(model: Any, revision: str | None) -> None:
    """Note the revision of which a model was loaded from the hub, for its name in reports."""
    if revision not in (None, _DEFAULT) and not Path(str(getattr(model, "name_or_path", ""))).is_dir():
        setattr(model, _REVISION, revision)


def pinned_name(model: Any) -> Pinned:
    """What a model was loaded from: a path, or its hub id with the revision that was named."""
    return Pinned(str(model.name_or_path), getattr(model, _REVISION, None))


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

    name, revision = pinned_name(model)
    try:
        own = AutoConfig.from_pretrained(name, revision=revision or _DEFAULT).dtype
    except (OSError, ValueError):  # it was not loaded from a checkpoint
        return None
    return None if own in (None, model.dtype) else str(model.dtype).removeprefix("torch.")
