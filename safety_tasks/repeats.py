"""Repeats: the same weights asked again with what should not matter and does, in finite precision.

A repeat varies how the prompts are batched, their order, and, where the weights are bf16 or fp16, the precision once:
the same weights computed in float32. Which repeat varies what is fixed, so that a rerun repeats it. Not varied: the
weights, prompts, points of the landscape, seeds, judges. Upcasting happens in place, one tensor after the other, and
needs the weights' memory once more; it is left out (a variation of the batch stands in its place) where that does not
fit, where parameters are not plain weights (quantised, off-loaded, an adapter apart), and with attention that only half
precision has. A float32 model is never downcast: its weights would not come back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from safety_tasks.chat import Rendered
from safety_tasks.decoding import Completion
from safety_tasks.engine import Engine, HuggingFaceEngine
from safety_tasks.errors import WeightsChanged
from safety_tasks.fingerprints import fingerprint
from safety_tasks.memory import host_memory
from safety_tasks.perturbable import has_plain_weights
from safety_tasks.pristine import fits_on
from safety_tasks.sampling import Draw

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")
R = TypeVar("R")

AS_ASKED = "as asked"
_SMALL = 8  # prompts at once
_HALF = (torch.bfloat16, torch.float16)
_OF_FREE_HOST_MEMORY = 0.25  # upcasting takes as much again as the weights, and a landscape's pristine copy twice that


@dataclass(frozen=True, slots=True)
class Variation:
    """What one repeat changes."""

    batch: str = "whole"
    """``whole``, as the engine would batch; ``half`` of that; ``small``: 8, or a quarter where that is less."""
    order: str = "asked"
    """``asked``, ``reversed``, or ``shuffled SEED``."""
    is_float32: bool = False

    def __str__(self) -> str:
        """Such as ``small batches, shuffled 7``."""
        batches = {"whole": "", "half": "half batches", "small": "small batches"}[self.batch]
        order = {"asked": "", "reversed": "reversed order"}.get(self.order, self.order)
        return ", ".join(filter(None, (batches, order, "float32" if self.is_float32 else ""))) or AS_ASKED

    def size(self, whole: int) -> int:
        """Prompts at once where the engine would take ``whole``; at least 1."""
        small = _SMALL if whole > 2 * _SMALL else whole // 4
        return max(1, {"whole": whole, "half": (whole + 1) // 2, "small": small}[self.batch])

    def indices(self, count: int) -> list[int]:
        """The order in which ``count`` prompts are asked."""
        order = list(range(count))
        if self.order == "reversed":
            order.reverse()
        elif self.order != "asked":
            random.Random(self.order).shuffle(order)
        return order


def variation(repeat: int, *, with_float32: bool) -> Variation:
    """What the ``repeat``-th repeat changes; 0 is the measurement as it was asked for. No two are alike."""
    listed = [
        Variation(),
        Variation("half"),
        *([Variation(is_float32=True)] if with_float32 else []),
        Variation("small"),
        Variation(order="reversed"),
    ]
    if repeat < len(listed):
        return listed[repeat]
    return Variation(("half", "small", "whole")[repeat % 3], f"shuffled {repeat}")


@contextmanager
def repeated(engine: Engine, repeat: int) -> Iterator[Engine]:
    """The context in which an engine answers as its ``repeat``-th repeat has it; 0: the engine itself.

    Raises WeightsChanged where weights that were computed in float32 do not come back bit for bit.
    """
    if repeat == 0:
        yield engine
        return
    model = engine.model if isinstance(engine, HuggingFaceEngine) else None
    varied = variation(repeat, with_float32=model is not None and can_be_float32(model))
    asked = cast("Engine", _Varied(engine, varied))
    if model is None or not varied.is_float32:
        yield asked
        return
    with in_float32(model):
        yield asked


class _Varied:
    """An engine that batches and orders prompts in its own way; everything else is the engine's."""

    def __init__(self, engine: Engine, varied: Variation) -> None:
        self._engine, self._variation = engine, varied

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...]
    ) -> list[Completion]:
        return self._in_its_way(prompts, lambda batch: self._engine.generate(batch, max_new_tokens, stop_strings))

    def sample(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...], draw: Draw
    ) -> list[Completion]:
        return self._in_its_way(prompts, lambda batch: self._engine.sample(batch, max_new_tokens, stop_strings, draw))

    def _in_its_way(
        self, prompts: Sequence[Rendered], ask: Callable[[list[Rendered]], list[Completion]]
    ) -> list[Completion]:
        whole = min(getattr(self._engine, "batch_size", None) or len(prompts), len(prompts))
        return _in_turns(prompts, self._variation.indices(len(prompts)), self._variation.size(whole), ask)

    def identity(self) -> dict[str, Any] | None:
        """The engine's, and what is varied: the journal of one repeat is not another's."""
        known = self._engine.identity()
        return None if known is None else {**known, "repeat": str(self._variation)}

    def facts(self) -> dict[str, Any]:
        return {**self._engine.facts(), "repeat": str(self._variation)}


def _in_turns(rows: Sequence[T], order: Sequence[int], size: int, run: Callable[[list[T]], list[R]]) -> list[R]:
    """``run`` on batches of the rows in that order; its results in the order of the rows."""
    found: dict[int, R] = {}
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        found.update(zip(batch, run([rows[index] for index in batch]), strict=True))
    return [found[index] for index in range(len(rows))]


def can_be_float32(model: PreTrainedModel) -> bool:
    """Whether a model in half precision can be computed in float32 where it lies."""
    needed: dict[torch.device, int] = {}
    for tensor in _halves(model):
        needed[tensor.device] = needed.get(tensor.device, 0) + tensor.numel() * tensor.element_size()
    attention = str(getattr(model.config, "_attn_implementation", None))
    if not needed or "flash" in attention or not has_plain_weights(model):
        return False
    return all(fits_on(device, size) and _fits_host(device, size) for device, size in needed.items())


@contextmanager
def in_float32(model: PreTrainedModel) -> Iterator[None]:
    """The context in which bf16 and fp16 weights are float32; on leaving they are what they were, bit for bit.

    Memory: the weights' once more. Raises WeightsChanged when what came back is not what was there.
    """
    before = fingerprint(model)
    was = [(tensor, tensor.dtype) for tensor in _halves(model)]
    try:
        for tensor, _ in was:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in was:
            tensor.data = tensor.data.to(dtype)  # exact: each value was one of this dtype
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if fingerprint(model) != before:
        raise WeightsChanged("The weights after computing in float32 differ from those before it: reload the model.")


def _halves(model: PreTrainedModel) -> list[torch.Tensor]:
    return [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dtype in _HALF]


def _fits_host(device: torch.device, n_bytes: int) -> bool:
    return device.type != "cpu" or n_bytes <= _OF_FREE_HOST_MEMORY * host_memory().free
