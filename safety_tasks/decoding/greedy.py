"""Batched decoding of a Hugging Face causal model, greedy or sampled, with an exact early stop.

A row ends at the end-of-sequence token, at the token limit, or as soon as its answer holds one of ``stop_strings``.
The strings are ASCII and token texts are concatenated bytes, so text that is already decoded never changes: a row
that holds a string now would hold it at its end. Finished rows leave the batch where that is exact (fp32); in half
precision they stay, since a matrix product may round differently at another batch size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from safety_tasks.decoding.batches import fitting, in_batches
from safety_tasks.decoding.cache_size import row_bytes
from safety_tasks.decoding.completions import Completion
from safety_tasks.decoding.drawing import Sampler, row_key
from safety_tasks.decoding.layout import Layout, groups
from safety_tasks.decoding.prefill import prefill
from safety_tasks.decoding.rows import Rows
from safety_tasks.decoding.thinking import Markers
from safety_tasks.sampling import Draw

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_PADDED = Layout()
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class DecodingLog:
    """What decoding met, for a run's record."""

    smallest_batch: int | None = None
    """Rows in the smallest batch, where not all that were wanted fitted memory."""


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, is_rendered: bool) -> list[int]:
    """Token ids of a prompt: a rendered chat template brings its own special tokens, plain text gets them."""
    ids: list[int] = tokenizer(text, add_special_tokens=not is_rendered)["input_ids"]
    return ids


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_strings: tuple[str, ...] = (),
    batch_size: int | None = None,
    thinking: Sequence[Markers | None] | None = None,
    layout: Layout = _PADDED,
    log: DecodingLog | None = None,
    draw: Draw | None = None,
    texts: Sequence[str] = (),
) -> list[Completion]:
    """One completion for each tokenised prompt, in their order: greedy, or drawn as ``draw`` says.

    ``batch_size`` None takes all prompts at once, of a model on the CPU as many as its free memory holds; batches that
    do not fit a GPU's memory are halved.
    ``thinking`` holds the markers that each prompt's template left open: stop strings count in final answers only.
    ``layout`` is what the model allows (``layout_of``); by default, rows are padded. ``texts`` are the prompts as they
    were rendered, of which each row's random numbers are a function; only a draw needs them.
    Edge: rows whose logits are not finite take the largest finite logit, or token 0 when none is.
    """
    log = log if log is not None else DecodingLog()
    size = min(batch_size or _fitting(model, prompts, max_new_tokens, log), len(prompts))

    def run(indices: Sequence[int]) -> list[Completion]:
        opened = [thinking[i] if thinking else None for i in indices]
        rows = Rows(model, tokenizer, opened, stop_strings)
        choose = Sampler(draw, [row_key(draw, texts[i]) for i in indices]).choose if draw else _greedy
        _generate(model, rows, [prompts[i] for i in indices], max_new_tokens, layout, choose)
        return rows.completions()

    def halved(half: int) -> None:
        log.smallest_batch = min(half, log.smallest_batch or half)

    found: dict[int, Completion] = {}
    for group in groups(layout, prompts, max_new_tokens):
        found.update(zip(group, in_batches(run, group, size, halved), strict=True))
    return [found[index] for index in range(len(prompts))]


def _fitting(model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, log: DecodingLog) -> int:
    """How many of the prompts stand in a batch where nobody says it; fewer than all are logged, and said once."""
    tokens = max(map(len, prompts), default=0) + max_new_tokens
    size = fitting(model, len(prompts), row_bytes(model.config, tokens, model.dtype.itemsize))
    if size < len(prompts):
        if log.smallest_batch is None:
            _log.warning("batches of %d: all %d prompts at once would not fit free memory", size, len(prompts))
        log.smallest_batch = min(size, log.smallest_batch or size)
    return size


def _generate(
    model: PreTrainedModel,
    rows: Rows,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    layout: Layout,
    choose: Callable[[torch.Tensor, Sequence[int], int], tuple[torch.Tensor, torch.Tensor]],
) -> None:
    """Step until every row is finished or has ``max_new_tokens`` tokens."""
    batch, logits = prefill(model, prompts, shares_prefix=layout.shares_prefix)
    removes_rows = next(model.parameters()).dtype == torch.float32 and batch.can_drop_rows()
    active = list(range(len(prompts)))  # the row of each line of the tensors
    for step in range(max_new_tokens):
        tokens, is_finite = choose(logits, active, step)
        rows.take(active, tokens.tolist(), is_finite.tolist())
        if all(rows.finished) or step == max_new_tokens - 1:
            return
        batch.append(tokens)
        if removes_rows:
            kept = [line for line, row in enumerate(active) if not rows.finished[row]]
            if len(kept) < len(active):
                batch.keep(kept)
                active = [active[line] for line in kept]
        logits = batch.forward(model)


def _greedy(logits: torch.Tensor, rows: Sequence[int], step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest token of each row, and whether the row's logits were finite. Two tensors of shape (rows,)."""
    best, tokens = logits.max(dim=-1)  # NaN, like +inf, is its own maximum; -inf only forbids a token
    is_finite = best.isfinite()
    if not bool(is_finite.all()):
        tokens = torch.nan_to_num(logits.float(), nan=-torch.inf, posinf=-torch.inf).argmax(dim=-1)
    return tokens, is_finite
