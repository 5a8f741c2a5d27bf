"""GPU memory: whether it is free again after a model. Nothing here imports torch, and nothing is said of a CPU."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

TOLERANCE = 64 << 20
"""Bytes; the workspaces of CUDA's libraries stay allocated as long as the process lives."""
_OURS = __name__.partition(".")[0]


def allocated() -> int:
    """Bytes that torch's tensors hold on this process's GPUs; 0 as long as none was used."""
    cuda = _cuda()
    if cuda is None or not cuda.is_initialized():
        return 0
    return sum(cuda.memory_allocated(index) for index in range(cuda.device_count()))


def collect() -> None:
    """Let go of what nobody refers to, and give the GPU's memory back."""
    gc.collect()
    cuda = _cuda()
    if cuda is not None and cuda.is_initialized():
        cuda.empty_cache()


def what_stayed(before: int, event: str, model: object) -> str:
    """A sentence on what more than ``before`` bytes is still allocated, and who may hold it; empty where it is free.

    ``event``: what should have freed it. ``model``: what is left of the model; None where nobody refers to it.
    """
    left = allocated() - before
    if left <= TOLERANCE:
        return ""
    if model is None:
        why = "its weights are gone, but a test, a fixture or a judge holds tensors or another model"
    else:
        holders = ", ".join(sorted(set(_holders(model))))
        why = f"{type(model).__name__} is still referred to{f' by {holders}' if holders else ''}"
    return (
        f"GPU memory: {left / 2**30:.1f} GiB stayed allocated after {event}: {why}. Keep llm, and let "
        "llm.model go when a test ends."
    )


def _holders(model: object) -> Iterator[str]:
    """Names for a reader: variables of modules, functions whose frames are alive (a failed test's traceback)."""
    for referrer in gc.get_referrers(model):
        for name, module in list(sys.modules.items()):
            if referrer is getattr(module, "__dict__", _OURS):
                yield from (f"{name}.{key}" for key, value in vars(module).items() if value is model)
        if isinstance(referrer, FrameType) and not str(referrer.f_globals.get("__name__")).startswith(_OURS):
            yield f"the frame of {referrer.f_code.co_name}"


def _cuda() -> Any:
    """The CUDA module of torch, if that was imported."""
    return getattr(sys.modules.get("torch"), "cuda", None)
