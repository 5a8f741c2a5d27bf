"""Placement: where a judge's weights go, and making room for those that do not fit beside the model under test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from enum import Enum

from safety_tasks.memory import Memory

SMALL = 1 << 28
"""Bytes; a judge below this stays on the CPU, where its numbers are the same on every machine."""
RESERVE = 2 << 30
"""Bytes that reading a batch needs beside the weights: activations, key-value cache, logits."""


class Place(str, Enum):
    """Where a judge's weights go."""

    HOST = "host"
    """The CPU: there is no GPU, or they would not fit one even alone, or they are small."""
    BESIDE = "beside"
    """A GPU as it is now."""
    AFTER = "after"
    """A GPU, after the model under test is off it."""


def place(needed: int, gpus: Sequence[Memory]) -> Place:
    """The place of weights of ``needed`` bytes."""
    if needed < SMALL:
        return Place.HOST
    if any(needed + RESERVE <= gpu.free for gpu in gpus):
        return Place.BESIDE
    return Place.AFTER if any(needed + RESERVE <= gpu.total for gpu in gpus) else Place.HOST


@contextmanager
def room_for(judge: object, engine: object) -> Iterator[None]:
    """The context in which a judge may read: a large one has the GPU to itself, and is off it at the end.

    The judge's ``model`` is a JudgeModel; one without weights reads as it is. The model under test is put aside and
    brought back by the engine's ``aside()``; without one it stays where it is.
    """
    weights = getattr(judge, "model", None)
    if not getattr(weights, "wants_device", False):
        yield
        return
    with getattr(engine, "aside", nullcontext)():
        try:
            yield
        finally:
            weights.leave_device()  # type: ignore[union-attr]
