"""Likelihood of completions that are already there: one prefill each, no decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from safety_tasks.decoding.batches import fitting, in_batches, input_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Scored(NamedTuple):
    """Tokens given, and tokens whose likelihood is wanted."""

    context: Sequence[int]
    answer: Sequence[int]


@torch.inference_mode()
def mean_nll(model: PreTrainedModel, rows: Sequence[Scored], *, batch_size: int) -> list[float]:
    """Mean negative log-likelihood of each answer given its context, in nats a token; 0.0 for an empty one.

    Batches are smaller where the logits of all their tokens would not fit the memory.
    """
    longest = max((len(row.context) + len(row.answer) for row in rows), default=0)
    a_row = longest * int(model.config.get_text_config().vocab_size) * model.dtype.itemsize
    return in_batches(lambda batch: _batch_nll(model, batch), rows, fitting(model, batch_size, a_row))


def _batch_nll(model: PreTrainedModel, rows: Sequence[Scored]) -> list[float]:
    longest = max(len(row.context) + len(row.answer) for row in rows)
    device = input_device(model)
    padding = [[0] * (longest - len(row.context) - len(row.answer)) for row in rows]
    ids = [[*row.context, *row.answer, *pad] for row, pad in zip(rows, padding, strict=True)]
    mask = [[1] * (longest - len(pad)) + pad for pad in padding]
    inputs, seen = torch.tensor(ids, device=device), torch.tensor(mask, device=device)
    logits = model(input_ids=inputs, attention_mask=seen, use_cache=False).logits[:, -longest:]  # behind a soft prompt
    return [_row_nll(logits[index], row) for index, row in enumerate(rows)]


def _row_nll(logits: torch.Tensor, row: Scored) -> float:
    """Logits of shape (tokens, vocabulary); each token is foretold at the one before it."""
    if not row.answer:
        return 0.0
    span = slice(len(row.context) - 1, len(row.context) + len(row.answer) - 1)
    target = torch.tensor(list(row.answer), device=logits.device)
    return float(torch.nn.functional.cross_entropy(logits[span].float(), target))
