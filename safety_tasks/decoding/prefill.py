"""Prefill: reading a batch's prompts, once for the prefix that all of them share.

Chat templates and system prompts open every prompt with the same tokens. They are read in one row, whose cache is
then copied to all rows; the rest follows, padded between the prefix and itself. That is the same computation where
attention looks at every token by its position. Sliding windows and models that count places instead do not, so only
plain caches are copied, and ``shares_exactly`` proves it by the model's own logits before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from safety_tasks.decoding.batches import input_device
from safety_tasks.decoding.forward import Batch, cache_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHORTEST_PREFIX = 16
"""Tokens; a shorter prefix is not worth the second pass."""
_CHECKED_LENGTHS = (1, 5, 12)
# Largest difference of logits, in their standard deviations, that rounding explains: two orders above what was seen.
_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}
_HALF_ROUNDING = 0.1


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Number of tokens that open all prompts, leaving each at least one of its own; 0 when it is not worth it."""
    if len(prompts) < 2:
        return 0
    common = len(os.path.commonprefix([list(prompt) for prompt in prompts]))
    length = min(common, min(len(prompt) for prompt in prompts) - 1)
    return length if length >= SHORTEST_PREFIX else 0


def prefill(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, shares_prefix: bool
) -> tuple[Batch, torch.Tensor]:
    """The batch after its prompts are read, and the logits of the first new token. Shape (rows, vocabulary)."""
    length = shared_prefix(prompts) if shares_prefix else 0
    batch = _behind_prefix(model, prompts, length) if length else Batch.of(prompts, input_device(model))
    return batch, batch.forward(model)


@torch.inference_mode()
def shares_exactly(model: PreTrainedModel) -> bool:
    """Whether reading a prefix once gives the logits of reading it in every row, up to rounding.

    Asked with random tokens of the model's vocabulary, before its weights are moved.
    """
    draw = np.random.default_rng(0).integers(model.config.get_text_config().vocab_size, size=(2, 2 * SHORTEST_PREFIX))
    prefix = draw[0][:SHORTEST_PREFIX].tolist()
    prompts = [prefix + draw[1][:length].tolist() for length in _CHECKED_LENGTHS]
    alone, expected = prefill(model, prompts, shares_prefix=False)
    if cache_layers(alone.cache) != {"DynamicLayer"}:
        return False
    _, found = prefill(model, prompts, shares_prefix=True)
    difference = (found - expected).abs().max() / expected.float().std()
    return bool(difference <= _ROUNDING.get(expected.dtype, _HALF_ROUNDING))


def _behind_prefix(model: PreTrainedModel, prompts: Sequence[Sequence[int]], length: int) -> Batch:
    """The prompts' own tokens, behind a cache that holds the first ``length``."""
    prefix = Batch.of([prompts[0][:length]], input_device(model))
    prefix.forward(model)
    prefix.cache.batch_repeat_interleave(len(prompts))
    rest = Batch.of([prompt[length:] for prompt in prompts], input_device(model))
    read = rest.mask.new_ones(len(prompts), length)
    return Batch(rest.inputs, torch.cat([read, rest.mask], dim=1), rest.positions + length, prefix.cache)
