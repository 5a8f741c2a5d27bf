"""Batches that fit the device: rows go through a model together, and by halves where its memory ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")
R = TypeVar("R")


def in_batches(
    run: Callable[[Sequence[T]], list[R]],
    rows: Sequence[T],
    size: int,
    halved: Callable[[int], None] = lambda size: None,
) -> list[R]:
    """``run`` on batches of ``size`` rows, each halved for as long as it does not fit the device's memory.

    ``halved`` is told the size of every batch that came of halving.
    """
    found: list[R] = []
    for start in range(0, len(rows), max(1, size)):
        batch = rows[start : start + size]
        try:
            found += run(batch)
            continue
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = (len(batch) + 1) // 2
        halved(half)
        found += in_batches(run, batch, half, halved)  # outside the handler, which holds the tensors
    return found


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the model wants its token ids."""
    return next(model.get_input_embeddings().parameters()).device
