"""Merging: an adapter added into a model's weights, checked to fit, and proved to do something.

Adapters that cannot be merged (prompt tuning, or on quantised weights) stay apart from the weights: the model answers
with them, and its landscape is refused. peft does the merging (``safe_merge``, once, never undone: in bf16 undoing
drifts).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from safety_tasks.adapters import Adapter
from safety_tasks.errors import InvalidModel
from safety_tasks.fingerprints import fingerprint
from safety_tasks.probes import largest_change, logits_at, probes_of, quiet

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

_RECORD = "llmsafety_adapter"
"""Attribute of a model that has an adapter: its record."""
_LISTED = 3  # names that a message gives
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """What a report says of an adapter that is in effect."""

    name: str
    kind: str
    weights_sha256: str
    trained_on: str
    """The base model that its configuration names."""
    is_merged: bool
    modules_changed: int
    """Modules whose weights differ from the base's; 0 where it is not merged."""
    largest_logit_change: float
    """Largest difference of a logit, with and without the adapter, on a few of the built-in prompts."""

    def facts(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def record_of(model: Any) -> AdapterRecord | None:
    """The record of the adapter that is in effect in a model; None where there is none."""
    found = getattr(model, _RECORD, None)
    return found if isinstance(found, AdapterRecord) else None


def attach(model: nn.Module, adapter: Adapter) -> nn.Module:
    """The model with the adapter beside its weights, in evaluation mode; raises InvalidModel where it does not fit."""
    from peft import PeftModel

    try:
        with quiet():
            # torch_device: else peft loads onto a GPU, wherever the model is
            device = str(next(model.parameters()).device)
            adapted: nn.Module = PeftModel.from_pretrained(model, str(adapter.folder), torch_device=device)
    except Exception as error:  # whatever peft or safetensors raise, it is this adapter that does not fit
        raise _misfit(adapter, _shortened(error)) from error
    return adapted.eval()


def merge(adapted: Any, tokenizer: PreTrainedTokenizerBase, adapter: Adapter) -> nn.Module:
    """The model of an attached adapter after merging, with its record; as it was where it cannot be merged.

    Raises InvalidModel for an adapter of which a part found no place, that cannot be merged, or that changes nothing.
    """
    check_keys(adapted, adapter)
    probes = probes_of(tokenizer)
    _check_tokens(adapted, adapter, probes)
    with quiet(), adapted.disable_adapter():
        before = logits_at(adapted, probes)
    touched = dict(touched_modules(adapted)) if can_be_merged(adapted) else {}
    prints = {name: fingerprint(module) for name, module in touched.items()}
    model: nn.Module = merged(adapted, adapter) if can_be_merged(adapted) else adapted
    changed = sum(fingerprint(model.get_submodule(name)) != found for name, found in prints.items())
    after = logits_at(model, probes)
    if all(torch.equal(ours, theirs) for ours, theirs in zip(after, before, strict=True)):
        raise InvalidModel(_no_effect(adapter, changed, len(touched), next(model.parameters()).dtype))
    change = largest_change(after, before)
    record = AdapterRecord(
        adapter.name, adapter.kind, adapter.weights_sha256, adapter.base, bool(touched), changed, change
    )
    setattr(model, _RECORD, record)
    _log.info("adapter %s: %d modules changed, largest logit change %.3g", adapter.name, changed, change)
    return model


def can_be_merged(adapted: Any) -> bool:
    """Whether peft can add the adapter to the weights."""
    return hasattr(adapted, "merge_and_unload") and not getattr(adapted, "is_quantized", False)


def merged(adapted: Any, adapter: Adapter) -> nn.Module:
    """The model with the adapter in its weights; raises InvalidModel."""
    try:
        with quiet():
            model: nn.Module = adapted.merge_and_unload(safe_merge=True)
    except Exception as error:  # whatever peft raises, it is this adapter that cannot be merged
        raise InvalidModel(f"The adapter {adapter.name!r} cannot be merged into the weights: {error}") from error
    return model


def touched_modules(adapted: Any) -> Iterator[tuple[str, nn.Module]]:
    """The base's modules that the adapter works on, by their names in the base."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in adapted.get_base_model().named_modules():
        original = getattr(module, "original_module", None)
        if isinstance(module, BaseTunerLayer):
            yield name, module.get_base_layer()
        elif isinstance(original, torch.nn.Module):
            yield name, original


def check_keys(adapted: Any, adapter: Adapter) -> None:
    """Raise InvalidModel for an adapter whose tensors do not fit the model: peft warns at most, and leaves them out."""
    from peft import get_peft_model_state_dict

    saved = adapter.keys()
    with quiet():
        expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    stray = sorted(expected - saved) + sorted(saved - expected - set(adapted.state_dict()))
    if stray:
        more = f" and {len(stray) - _LISTED} more" if len(stray) > _LISTED else ""
        raise _misfit(adapter, f"{', '.join(stray[:_LISTED])}{more} have no counterpart")


def _check_tokens(adapted: Any, adapter: Adapter, probes: Sequence[Sequence[int]]) -> None:
    rows, largest = len(adapted.get_input_embeddings().weight), max(map(max, probes))
    if largest >= rows:
        raise _misfit(adapter, f"its tokenizer writes the token {largest}, and the model knows {rows}")


def _misfit(adapter: Adapter, found: str) -> InvalidModel:
    on = f"the model that it was trained on ({adapter.base!r} by its configuration)" if adapter.base else "its own base"
    return InvalidModel(
        f"The adapter {adapter.name!r} is not for this model: {found.rstrip('. ')}. An adapter only fits {on}: give it "
        "that one."
    )


def _shortened(error: Exception) -> str:
    """An error that lists every tensor, to its first ones."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    more = f" and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
    return f"{type(error).__name__}: {' '.join(lines[:_LISTED])}{more}"


def _no_effect(adapter: Adapter, changed: int, touched: int, dtype: torch.dtype) -> str:
    of = f"of the {touched} modules that it works on {changed} change, and " if touched else ""
    lost = (
        f" Its change may be lost in {str(dtype).removeprefix('torch.')}: load the model in float32."
        if dtype in (torch.bfloat16, torch.float16)
        else ""
    )
    return (
        f"The adapter {adapter.name!r} has no effect: {of}the logits with and without it are the same bits, so that "
        "the base alone would be measured under its name. Was it saved before it was trained? Save it again, or "
        f"measure the base without it.{lost}"
    )
