"""SharedWeights: a model with a merged adapter and its base, on one copy of the weights.

Two models that hold the same parameters but for those that the adapter changed. Of these each has its own: the ones of
the model at work lie on the device, the other's in host memory; on a CPU both lie side by side and nothing moves.
Either model can be held and asked at any time: its forward pass brings its parameters first. Bits are only copied,
never computed, so that the base is the base bit for bit; a fingerprint taken before the adapter came proves it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from safety_tasks.adapters import Adapter
from safety_tasks.directions import canonical_name
from safety_tasks.fingerprints import fingerprint
from safety_tasks.merging import attach, can_be_merged, merge, touched_modules
from safety_tasks.perturbable import has_plain_weights

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

_SHARED = "llmsafety_shared_weights"
"""Attribute of both models."""
_HOST = torch.device("cpu")
_log = logging.getLogger(__name__)


class Adapted(NamedTuple):
    """A model with its adapter in effect, and the base on the same weights."""

    model: nn.Module
    base: nn.Module | None
    """None where the weights cannot be shared: an adapter that stays apart, or quantised or off-loaded weights."""


class SharedWeights:
    """Which of two models has its own parameters at hand."""

    def __init__(self, tuned: nn.Module, base: nn.Module, homes: dict[int, torch.device]) -> None:
        """``homes``: where the base's own parameters lie when it works, by their ids; they are in host memory now."""
        ours, theirs = ({id(p): p for p in model.parameters()} for model in (tuned, base))
        self._own: dict[int, list[tuple[nn.Parameter, torch.device]]] = {
            id(tuned): [(p, p.device) for key, p in ours.items() if key not in theirs],
            id(base): [(p, homes[key]) for key, p in theirs.items() if key not in ours],
        }
        self._at_work: int | None = id(tuned)
        for model in (tuned, base):
            setattr(model, _SHARED, self)
            model.register_forward_pre_hook(_bring_before)

    @torch.no_grad()
    def bring(self, model: nn.Module) -> None:
        """Put this model's own parameters on their devices, and the other's into host memory."""
        if self._at_work == id(model) or id(model) not in self._own:
            return
        self._at_work = None  # what an interrupt leaves half done is done again
        for side, parameters in self._own.items():
            if side != id(model):
                for parameter, _ in parameters:
                    parameter.data = parameter.data.to(_HOST)
        for parameter, home in self._own[id(model)]:
            parameter.data = parameter.data.to(home)
        self._at_work = id(model)

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedWeights:
        """Itself: a copy of one of the models shares nothing."""
        return self


def bring(model: Any) -> None:
    """Have a model's weights at hand, where it shares them with another."""
    shared = getattr(model, _SHARED, None)
    if isinstance(shared, SharedWeights):
        shared.bring(model)


def _bring_before(model: nn.Module, _: Any) -> None:
    bring(model)


def adapt(model: nn.Module, tokenizer: PreTrainedTokenizerBase, adapter: Adapter) -> Adapted:
    """The model with an adapter in effect, and its base on the same weights; raises InvalidModel as ``merge`` does.

    ``model`` is used up. Memory: what the adapter changes, once more, on the host.
    """
    kept = _Kept(model, adapter) if has_plain_weights(model) else None
    adapted = attach(model, adapter)
    if kept is None or not can_be_merged(adapted):
        return Adapted(merge(adapted, tokenizer, adapter), None)
    kept.keep(parameter for _, module in touched_modules(adapted) for parameter in module.parameters())
    tuned = merge(adapted, tokenizer, adapter)
    return Adapted(tuned, kept.beside(tuned))


class _Kept:
    """The base as it was before an adapter came: its modules anew, its parameters the same, but for copies."""

    def __init__(self, model: nn.Module, adapter: Adapter) -> None:
        self.fingerprint = fingerprint(model)
        self.copies: dict[int, nn.Parameter] = {}
        named = dict(model.named_parameters(remove_duplicate=False))
        # whole tensors of the adapter (biases, modules_to_save), which peft writes over the model's
        self.keep(named[name] for name in map(canonical_name, adapter.keys()) if name in named)
        self.model = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})

    def keep(self, parameters: Iterable[nn.Parameter]) -> None:
        """Copy to the host what is going to change."""
        for parameter in parameters:
            if id(parameter) not in self.copies:
                values = parameter.detach().to(_HOST, copy=True)
                self.copies[id(parameter)] = torch.nn.Parameter(values, requires_grad=False)

    def beside(self, tuned: nn.Module) -> nn.Module | None:
        """The base, sharing its weights with the tuned model; None where it would not be what it was."""
        homes: dict[int, torch.device] = {}
        for module in self.model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) in self.copies:
                    module._parameters[name] = own = self.copies[id(parameter)]
                    homes[id(own)] = parameter.device
        if fingerprint(self.model) != self.fingerprint:
            _log.warning("the adapter changes weights that were not expected to change: its base is loaded apart")
            return None
        SharedWeights(tuned, self.model, homes)
        return self.model
