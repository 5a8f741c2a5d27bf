"""Which models' weights can be moved in place, and what to do about those whose cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from safety_tasks.decoding.forward import soft_tokens
from safety_tasks.errors import NotPerturbable

if TYPE_CHECKING:
    from torch import nn

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_OF_LOADING = ("safety_tasks", "transformers", "accelerate", "peft", "torch")
"""Whose hooks a model has as it is loaded."""
_BEHAVIOUR = "the behaviour tasks run on it as it is"


def check_perturbable(model: nn.Module) -> None:
    """Raise NotPerturbable, with what to do, for weights that cannot be moved in place."""
    shortfall = next(_shortfalls(model), None)
    if shortfall is not None:
        raise NotPerturbable(shortfall)


def has_plain_weights(model: nn.Module) -> bool:
    """Whether the model's parameters, as they lie in memory, are all that it computes with."""
    return next(_shortfalls(model), None) is None and not any(b.device.type == "meta" for b in model.buffers())


def _shortfalls(model: nn.Module) -> Iterator[str]:
    """What stands in the way, the most telling first."""
    if is_quantised(model):
        yield (
            "The weights are quantised: noise on packed integers means nothing. Load the model in bf16 or fp16, as it "
            f"was before it was quantised, to move its weights; {_BEHAVIOUR}."
        )
    if soft_tokens(model):
        yield f"The model answers behind an adapter's soft prompt, which is no part of its weights; {_BEHAVIOUR}."
    if hasattr(model, "peft_config") or hasattr(model, "active_adapters") and _has_adapter_layers(model):
        yield (
            "The model carries an adapter apart from its weights, and noise on both is not noise on their sum: merge "
            f"it first (merge_and_unload) and measure the merged model; {_BEHAVIOUR}."
        )
    if isinstance(model, torch.jit.ScriptModule):
        yield (
            "The model is compiled to TorchScript, which may have copied its weights into its code, where moving them "
            "has no effect: measure the model that it was compiled from."
        )
    for name in _off_loaded(model):
        yield (
            f"Some weights are off-loaded to the CPU or the disk (such as {name}) and come to the device for a moment "
            "only: load the model whole on one or more devices (device_map='cuda' or 'auto' on more of them), or use "
            f"a smaller dtype; {_BEHAVIOUR}."
        )
    for name, parameter in model.named_parameters():
        yield from _shortfalls_of(name, parameter)
    if not any(parameter.numel() for parameter in model.parameters()):
        yield f"The {type(model).__name__} has no parameters: its weights are not where they could be moved."


def _shortfalls_of(name: str, parameter: nn.Parameter) -> Iterator[str]:
    kind = type(parameter.data).__name__
    if kind == "DTensor" or type(parameter).__name__ == "FlatParameter" or hasattr(parameter, "ds_id"):
        yield (
            f"The weight {name} is spread over several processes (tensor parallelism, FSDP or ZeRO): load the model "
            "in one process and without tp_plan, on one or more devices (device_map='auto'; lm_eval: parallelize=True)."
        )
    if type(parameter.data) is not torch.Tensor or parameter.dtype not in _FLOATS:
        yield (
            f"The weight {name} is a {kind} of {parameter.dtype}: only plain floating-point weights can be moved. "
            "Load the model in bf16, fp16 or fp32."
        )


def is_quantised(model: nn.Module) -> bool:
    """Whether weights are packed: by a method that transformers knows, or by torch's own."""
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        return True
    # torch's own quantised layers keep their weights packed, out of the parameters
    return any(".quantized." in f"{type(module).__module__}." for module in model.modules())


def _has_adapter_layers(model: nn.Module) -> bool:
    return any(hasattr(module, "lora_A") or hasattr(module, "base_layer") for module in model.modules())


def _off_loaded(model: nn.Module) -> Iterator[str]:
    """Names of modules and weights that are elsewhere until they are used."""
    for name, module in model.named_modules():
        hook = getattr(module, "_hf_hook", None)
        if any(getattr(part, "offload", False) for part in (hook, *getattr(hook, "hooks", ()))):
            yield name or type(model).__name__
    yield from (name for name, parameter in model.named_parameters() if parameter.device.type == "meta")


def foreign_hook(model: nn.Module) -> str:
    """Where a hook computes in the forward pass that loading did not put there; empty: nowhere."""
    for module in model.modules():
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            if str(getattr(hook, "__module__", "")).partition(".")[0] not in _OF_LOADING:
                return str(getattr(hook, "__qualname__", type(hook).__name__))
    return ""
