"""Layout: how the rows of one batch may stand together in a model, found by asking it.

Rows of different lengths are padded on the left, and a prefix that all share may be read once for all. Both are exact
where attention sees tokens by their positions, and silently wrong elsewhere: some architectures ignore position ids,
measure distances in the padded row, or run a recurrence through the padding (transformers' own padded ``generate`` is
wrong for them too). So the model is asked, on random tokens, before its weights move: rows that it answers
differently in a batch are decoded with rows of their own length only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from safety_tasks.decoding.forward import keeps_plain_rows, soft_tokens
from safety_tasks.decoding.prefill import SHORTEST_PREFIX, prefill

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_OWN_LENGTHS = (1, 5, 12)
# Attention that looks back over a number of places: padding behind a shared prefix would fill them.
_WINDOWS = ("sliding_window", "window_size", "attention_types", "attention_chunk_size", "local_attention")
_SCALED_BY_LENGTH = {"longrope", "dynamic"}
# Root mean square difference of logits, in their standard deviations, that rounding explains.
_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}
_HALF_ROUNDING = 0.1


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model allows."""

    pads: bool = True
    """Rows of different lengths may stand in one batch."""
    shares_prefix: bool = False
    """The tokens with which all rows open may be read once."""
    alone_beyond: int | None = None
    """Tokens: a row that may grow longer stands alone, as its length changes how the whole batch is read."""


_FOUND: WeakKeyDictionary[PreTrainedModel, Layout] = WeakKeyDictionary()


def layout_of(model: PreTrainedModel) -> Layout:
    """The layout that leaves the logits of every row as they are without other rows, up to rounding.

    Asked once a model. What the few tokens of the question cannot show is read from the configuration: windows that
    are longer, and rotary scalings that depend on the longest row.
    """
    if model not in _FOUND:
        config = model.config.get_text_config()
        found = Layout(pads=False) if soft_tokens(model) else _asked(model)
        if any(getattr(config, name, None) for name in _WINDOWS):
            found = replace(found, shares_prefix=False)
        _FOUND[model] = replace(found, alone_beyond=_scaled_beyond(config))
    return _FOUND[model]


def _scaled_beyond(config: Any) -> int | None:
    """The length from which rotary positions depend on the longest row of the batch."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [part for part in (rope, *rope.values()) if isinstance(part, dict)]  # some have one for each kind of layer
    scaled = [part for part in kinds if part.get("rope_type") in _SCALED_BY_LENGTH]
    lengths = [
        part.get("original_max_position_embeddings")
        or getattr(config, "original_max_position_embeddings", None)
        or config.max_position_embeddings
        for part in scaled
    ]
    return min(lengths, default=None)


@torch.inference_mode()
def _asked(model: PreTrainedModel) -> Layout:
    prompts = _random_prompts(model.config.get_text_config().vocab_size)
    batch, _ = prefill(model, prompts[:1], shares_prefix=False)
    expected = torch.cat([_two_steps(model, [prompt], shares_prefix=False) for prompt in prompts], dim=1)
    if not _is_equal(_two_steps(model, prompts, shares_prefix=False), expected):
        return Layout(pads=False)
    if not keeps_plain_rows(batch.cache):
        return Layout()
    return Layout(shares_prefix=_is_equal(_two_steps(model, prompts, shares_prefix=True), expected))


def _two_steps(model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, shares_prefix: bool) -> torch.Tensor:
    """The logits after the prompts, and after one token more. Shape (2, rows, vocabulary)."""
    batch, first = prefill(model, prompts, shares_prefix=shares_prefix)
    batch.append(torch.tensor([prompt[0] for prompt in prompts], device=first.device))
    return torch.stack([first, batch.forward(model)])


def _random_prompts(vocabulary: int) -> list[list[int]]:
    """Prompts of different lengths that open with the same tokens."""
    draw = np.random.default_rng(0).integers(vocabulary, size=(2, SHORTEST_PREFIX))
    return [[*draw[0].tolist(), *draw[1][:length].tolist()] for length in _OWN_LENGTHS]


def _is_equal(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether logits differ by no more than rounding."""
    difference = (found.double() - expected.double()).square().mean().sqrt() / expected.double().std()
    return float(difference) <= _ROUNDING.get(expected.dtype, _HALF_ROUNDING)


def groups(layout: Layout, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """Indices of prompts that may stand in one batch."""
    together: dict[tuple[int, int], list[int]] = {}
    for index, prompt in enumerate(prompts):
        is_long = layout.alone_beyond is not None and len(prompt) + max_new_tokens > layout.alone_beyond
        own = (0 if layout.pads else len(prompt), index + 1 if is_long else 0)
        together.setdefault(own, []).append(index)
    return list(together.values())
