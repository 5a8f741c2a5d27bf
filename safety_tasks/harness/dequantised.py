"""A quantised model of lm_eval's, and beside it one with dequantised weights for the tasks that move weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.models import LoadedModel
from safety_tasks.quantisation import dequantised

if TYPE_CHECKING:
    from lm_eval.api.model import LM


@contextmanager
def dequantised_lm(lm: Any, engine: HuggingFaceEngine) -> Iterator[LM]:
    """The context in which there is a second model like ``lm``, with plain weights; raises NotPerturbable."""
    other: Any = copy.copy(lm)
    other._model = dequantised(LoadedModel(engine.model, engine.tokenizer)).model
    try:
        yield other
    finally:
        other._model = None  # the weights go, whoever else still holds the lm
