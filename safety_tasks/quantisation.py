"""Quantisation: how a model's weights are packed, and the same weights as plain numbers, for what moves weights.

Behaviour is measured on a quantised model as it is. A landscape is measured on a second model with the dequantised
weights; the quantised one is left alone. transformers dequantises in memory (bitsandbytes, HIGGS) or while it loads
(FP8, MXFP4, compressed-tensors); what it cannot dequantise (GPTQ, AWQ) is refused. The dequantised model computes the
same function up to rounding, which is proved on probes, not taken for granted: it is refused where it does not.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safety_tasks.errors import NotPerturbable
from safety_tasks.models import LoadedModel, load_weights, pinned_name
from safety_tasks.perturbable import is_quantised
from safety_tasks.probes import largest_change, logits_at, probes_of, quiet
from safety_tasks.revisions import Pinned, folder_of, pinned

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NEXT_TOKENS_KEPT = 0.9
"""Share of the probes' tokens after which the dequantised model has to expect the same next token; a limit of ours."""
_RECORD = "llmsafety_dequantised"
"""Attribute of a dequantised model: its record."""
_BITS = ("load_in_4bit", "load_in_8bit")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dequantised:
    """What a report says of dequantised weights."""

    method: str
    """How the model is quantised, such as ``bitsandbytes 4-bit``."""
    dtype: str
    parameters: int
    """How many were dequantised; the others were plain before."""
    next_tokens_kept: float
    """Share of the probes' tokens after which quantised and dequantised model expect the same next token."""
    largest_logit_change: float

    def __str__(self) -> str:
        """As a sentence."""
        return (
            f"{self.parameters:,} parameters were dequantised from {self.method} to {self.dtype} to move the weights: "
            f"the next token stays the same after {self.next_tokens_kept:.1%} of the probes' tokens (largest logit "
            f"change {self.largest_logit_change:.3g}), and other tasks are measured on the quantised model"
        )


def quantisation_facts(model: PreTrainedModel) -> dict[str, Any]:
    """How the weights are or were quantised, for the record; empty for plain ones."""
    record = getattr(model, _RECORD, None)
    if isinstance(record, Dequantised):
        return {"quantisation": record.method, "dequantised": {**asdict(record), "told": str(record)}}
    if is_quantised(model):
        return {"quantisation": method_of(getattr(model.config, "quantization_config", None))}
    stored = _stored(pinned_name(model))
    if not stored:
        return {}
    dtype = str(model.dtype).removeprefix("torch.")
    told = (
        f"transformers dequantised the weights from {method_of(stored)} to {dtype} while it loaded them, for all tasks"
    )
    return {"quantisation": method_of(stored), "dequantised": {"dtype": dtype, "told": told}}


def method_of(config: Any) -> str:
    """The method of a quantisation's configuration in words, such as ``gptq`` or ``bitsandbytes 8-bit``."""
    if config is None:
        return "torch's own"
    values = _values(config)
    bits = next((f" {name[8]}-bit" for name in _BITS if values.get(name)), "")
    return (_method(values) or ("bitsandbytes" if bits else "an unknown method")) + bits


def check_dequantisable(name: str) -> None:
    """Raise NotPerturbable where a path or hub id is known, before it is loaded, to have weights that stay packed."""
    config = _stored(pinned(name))
    if config and not (_in_memory(config) or _while_loading(config)):
        raise NotPerturbable(_refusal(name, method_of(config)))


def dequantised(loaded: LoadedModel) -> LoadedModel:
    """A second model with the weights of a quantised one as plain numbers, in its dtype, on its devices.

    The quantised one stays as it is. Raises NotPerturbable where that cannot be had, or computes something else.
    """
    model, name = loaded.model, str(pinned_name(loaded.model))
    config = getattr(model.config, "quantization_config", None)
    method = method_of(config)
    if hasattr(model, "peft_config"):
        raise NotPerturbable(
            f"The model carries an adapter on quantised weights ({method}): merge it into the model as it was before "
            "it was quantised, and measure the merged one. The behaviour tasks run on it as it is."
        )
    if not (_in_memory(config) or _while_loading(config)):
        raise NotPerturbable(_refusal(name, method))
    try:
        plain = _unpacked(model) if _in_memory(config) else _loaded_again(model, _asked_to_dequantise(config))
    except Exception as error:  # whatever transformers or a quantiser's package raise, these weights cannot be had
        raise NotPerturbable(
            f"The weights of {name!r} ({method}) could not be dequantised for the landscape ({type(error).__name__}: "
            f"{error}). {_PARENT}"
        ) from error
    record = _record(loaded, plain, method)
    setattr(plain, _RECORD, record)
    _log.warning("%s", record)
    return LoadedModel(plain, loaded.tokenizer)


_PARENT = (
    "Measure the landscape of the model that it was quantised from (--llm-model PARENT, in bf16 or fp16); the "
    "behaviour tasks run on the quantised one as it is."
)


def _refusal(name: str, method: str) -> str:
    return (
        f"The weights of {name!r} are quantised ({method}) to packed integers, on which noise means nothing, and "
        f"transformers cannot dequantise them. {_PARENT}"
    )


def _unpacked(model: PreTrainedModel) -> PreTrainedModel:
    twin = _loaded_again(model, model.config.quantization_config) if _is_repacked(model) else copy.deepcopy(model)
    with quiet():
        plain: PreTrainedModel = cast("Any", twin).dequantize(dtype=model.config.dtype)
    plain.eval()
    return plain


def _asked_to_dequantise(config: Any) -> Any:
    asked = copy.deepcopy(config)
    asked.dequantize = True
    return asked


def _is_repacked(model: PreTrainedModel) -> bool:
    """Whether bitsandbytes has packed 4-bit weights anew for this CPU when they were used, which it cannot undo."""
    states = (getattr(parameter, "quant_state", None) for parameter in model.parameters())
    return any(getattr(state, "packing_format_for_cpu", False) for state in states)


def _loaded_again(model: PreTrainedModel, asked: Any) -> PreTrainedModel:
    dtype = str(model.config.dtype).removeprefix("torch.")
    device = getattr(model, "hf_device_map", None) or str(model.device)
    return load_weights(str(pinned_name(model)), dtype, device, quantisation=asked)


def _record(loaded: LoadedModel, plain: PreTrainedModel, method: str) -> Dequantised:
    """What the dequantised weights are; raises NotPerturbable where they compute something else."""
    if is_quantised(plain):
        raise NotPerturbable(f"transformers left weights of {str(pinned_name(loaded.model))!r} quantised. {_PARENT}")
    probes = probes_of(loaded.tokenizer)
    after, before = logits_at(plain, probes), logits_at(loaded.model, probes)
    kept = _next_tokens_kept(after, before)
    if kept < NEXT_TOKENS_KEPT:
        raise NotPerturbable(
            f"The dequantised weights of {str(pinned_name(loaded.model))!r} ({method}) do not compute what the "
            f"quantised ones do: the next token stays the same after {kept:.1%} of the probes' tokens, and at least "
            f"{NEXT_TOKENS_KEPT:.0%} are needed to take the landscape of the one for the other's. {_PARENT}"
        )
    packed = {name: parameter for name, parameter in loaded.model.named_parameters() if _is_plain(parameter)}
    count = sum(parameter.numel() for name, parameter in plain.named_parameters() if name not in packed)
    dtype = str(plain.dtype).removeprefix("torch.")
    return Dequantised(method, dtype, count, kept, largest_change(after, before))


def _next_tokens_kept(after: list[torch.Tensor], before: list[torch.Tensor]) -> float:
    same = [(ours.argmax(-1) == theirs.argmax(-1)) for ours, theirs in zip(after, before, strict=True)]
    return sum(int(row.sum()) for row in same) / sum(len(row) for row in same)


def _is_plain(parameter: Any) -> bool:
    import torch

    kinds = (torch.nn.Parameter, torch.Tensor)
    return type(parameter) in kinds and parameter.is_floating_point() and parameter.element_size() > 1


def _in_memory(config: Any) -> bool:
    """Whether transformers dequantises a loaded model of this method."""
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
    from transformers.quantizers.base import HfQuantizer

    own: Any = AUTO_QUANTIZER_MAPPING.get(method_of(config).replace(" ", "_").replace("-bit", "bit"))
    return own is not None and own._dequantize is not HfQuantizer._dequantize


def _while_loading(config: Any) -> bool:
    """Whether transformers dequantises a checkpoint of this method when it is asked to before it loads."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    own = AUTO_QUANTIZATION_CONFIG_MAPPING.get(_method(_values(config)))
    return own is not None and "dequantize" in inspect.signature(own).parameters


def _method(values: Mapping[str, Any]) -> str:
    method = values.get("quant_method")
    return str(getattr(method, "value", method) or "")


def _values(config: Any) -> Mapping[str, Any]:
    if config is None or isinstance(config, Mapping):
        return config or {}
    return cast("Mapping[str, Any]", config.to_dict())


def _stored(asked: Pinned) -> Mapping[str, Any]:
    """The quantisation that a checkpoint's configuration tells of, as far as it is on this machine."""
    path = (folder_of(asked) or Path()) / "config.json"
    if path == Path("config.json") or not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # loading says so
        return {}
    text = config.get("text_config") or {}
    found = config.get("quantization_config") or text.get("quantization_config")
    return found if isinstance(found, Mapping) else {}
