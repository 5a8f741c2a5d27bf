"""Origin: where the measured model came from, so that a worker can have the same, and whether it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from safety_tasks.adapters import read_adapter
from safety_tasks.engine import Engine, HuggingFaceEngine
from safety_tasks.errors import InvalidModel
from safety_tasks.journal import code_fingerprint
from safety_tasks.merging import attach, merge
from safety_tasks.models import LoadedModel, load_weights, pinned_name
from safety_tasks.perturbable import foreign_hook
from safety_tasks.repeats import Variation, taken_apart

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Identity = Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """What a worker loads, and what that must be."""

    path: str
    """A folder, absolute, or a hub id, with @REVISION where one was named."""
    adapter: str | None
    """Folder or hub id of the adapter in its weights."""
    dtype: str | None
    attention: str | None
    device: str
    """``cpu`` or ``cuda``: which card is the worker's own affair."""
    batch_size: int | None
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    variation: Variation | None
    """What a repeat changes."""
    identity: Identity = field(repr=False)
    """As ``comparable`` has it."""
    matmul_precision: str
    folder: str
    """In which relative names are read."""
    threads: int = 1

    def load(self) -> LoadedModel:
        """The model with this process's one card or the CPU; raises InvalidModel."""
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(self.matmul_precision)
        model = load_weights(self.path, self.dtype, self.device)
        if self.attention and self.attention != model.config._attn_implementation:
            model.set_attn_implementation(self.attention)
        if self.adapter is not None:
            adapter = read_adapter(self.adapter)
            model = cast("PreTrainedModel", merge(attach(model, adapter), self.tokenizer, adapter))
        return LoadedModel(model, self.tokenizer)


def origin_of(engine: Engine) -> Origin:
    """Where an engine's model came from; raises InvalidModel where a worker could not have the same."""
    inner, variation = taken_apart(engine)
    if not isinstance(inner, HuggingFaceEngine):
        raise InvalidModel(f"{engine.name} is no Hugging Face model in this process ({type(inner).__name__})")
    model = inner.model
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) > 1:
        raise InvalidModel(f"{engine.name} lies on several devices ({', '.join(sorted(map(str, devices)))})")
    device = devices.pop().type
    if device not in ("cpu", "cuda"):
        raise InvalidModel(f"{engine.name} lies on the device {device}, and workers are for CPUs and NVIDIA GPUs")
    if hook := foreign_hook(model):
        raise InvalidModel(f"a hook of the caller's computes in {engine.name} ({hook}), which no folder has")
    identity = engine.identity()
    if identity is None:
        raise InvalidModel(
            f"the weights of {engine.name} are not all in its parameters (quantised, or an adapter apart)"
        )
    path, revision = pinned_name(model)
    if not path:
        raise InvalidModel(f"the {type(model).__name__} under test was not loaded from a folder or hub id")
    dtype = getattr(model.config, "dtype", None)
    return Origin(
        path=str(Path(path).resolve()) if Path(path).is_dir() else f"{path}@{revision}" if revision else path,
        adapter=None if inner.adapter is None else inner.adapter.name,
        dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        attention=getattr(model.config, "_attn_implementation", None),
        device=device,
        batch_size=inner.batch_size,
        tokenizer=inner.tokenizer,
        variation=variation,
        identity=comparable(identity),
        matmul_precision=torch.get_float32_matmul_precision(),
        folder=os.getcwd(),
    )


def comparable(identity: Identity) -> Identity:
    """An identity without the index of the device, and with this package's code."""
    kind = str(identity.get("device", "")).partition(":")[0]
    return {**identity, "device": kind, "code": code_fingerprint()}


def check_same(ours: Identity, theirs: Identity) -> None:
    """Raise InvalidModel, naming what differs, where a worker's model is not this process's."""
    names = [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]
    if names:
        pairs = "; ".join(f"{name}: {ours.get(name)} here, {theirs.get(name)} there" for name in names)
        raise InvalidModel(
            f"A worker's model is not the one under test ({pairs}). A worker loads it from where it came from: was it "
            "changed in memory, or the folder since, or has the worker's machine other hardware or versions? Measure "
            "it with workers=1, or save it to a folder and name that."
        )
