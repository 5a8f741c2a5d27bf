"""Batches that fit the device: rows go through a model together, and by halves where its memory ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from safety_tasks.memory import host_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")
R = TypeVar("R")

_OF_FREE_MEMORY = 0.5  # the rest is left to activations, and to what else the machine does


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


def fitting(model: PreTrainedModel, rows: int, row_bytes: int) -> int:
    """So many of the rows as fit free host memory, by halves; all of them where the model lies on other devices.

    A GPU whose memory ends raises, and ``in_batches`` halves; a host kills the process without a word.
    """
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        return rows
    room = _OF_FREE_MEMORY * host_memory().free
    while rows > 1 and rows * row_bytes > room:
        rows = (rows + 1) // 2
    return rows


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the model wants its token ids."""
    return next(model.get_input_embeddings().parameters()).device
