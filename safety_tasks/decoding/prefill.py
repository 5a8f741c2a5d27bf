"""Prefill: reading a batch's prompts, once for the prefix that all of them share.

Chat templates and system prompts open every prompt with the same tokens. They are read in one row, whose cache is
then copied to all rows; the rest follows, padded between the prefix and itself. Layout says where that is exact.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from safety_tasks.decoding.batches import input_device
from safety_tasks.decoding.forward import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHORTEST_PREFIX = 16
"""Tokens; a shorter prefix is not worth the second pass."""


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


def _behind_prefix(model: PreTrainedModel, prompts: Sequence[Sequence[int]], length: int) -> Batch:
    """The prompts' own tokens, behind a cache that holds the first ``length``."""
    prefix = Batch.of([prompts[0][:length]], input_device(model))
    prefix.forward(model)
    prefix.cache.batch_repeat_interleave(len(prompts))
    rest = Batch.of([prompt[length:] for prompt in prompts], input_device(model))
    read = rest.mask.new_ones(len(prompts), length)
    return Batch(rest.inputs, torch.cat([read, rest.mask], dim=1), rest.positions + length, prefix.cache)
