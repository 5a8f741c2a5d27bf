"""Layout: how the rows of one batch may stand together in a model, found by asking it.

Rows of different lengths are padded on the left, and a prefix that all share may be read once for all. Both are exact
where attention sees tokens by their positions, and silently wrong elsewhere: some architectures ignore position ids,
measure distances in the padded row, or run a recurrence through the padding (transformers' own padded ``generate`` is
wrong for them too). So the model is asked, on random tokens, before its weights move: rows that it answers
differently in a batch are decoded with rows of their own length only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from safety_tasks.decoding.forward import keeps_plain_rows
from safety_tasks.decoding.prefill import SHORTEST_PREFIX, prefill

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_OWN_LENGTHS = (1, 5, 12)
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


@torch.inference_mode()
def layout_of(model: PreTrainedModel) -> Layout:
    """The layout that leaves the logits of every row as they are without other rows, up to rounding."""
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


def groups(layout: Layout, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of prompts that may stand in one batch."""
    by_length: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        by_length.setdefault(0 if layout.pads else len(prompt), []).append(index)
    return list(by_length.values())
