"""Probes: a few of the built-in prompts, at whose tokens the logits of two models are compared."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from safety_tasks.chat import render
from safety_tasks.decoding import encode
from safety_tasks.prompts import Message, load_prompts
from safety_tasks.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBES = 2  # prompts of each built-in set


def probes_of(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """A few of the built-in prompts, as the model reads them."""
    settings = Settings(chat="auto" if getattr(tokenizer, "chat_template", None) else "off")
    sets = (load_prompts("builtin-harmful", kind="harmful"), load_prompts("builtin-benign", kind="benign"))
    texts = [prompt.text for prompts in sets for prompt in prompts.head(_PROBES).prompts]
    rendered = [render(tokenizer, [Message("user", text)], settings) for text in texts]
    return [encode(tokenizer, one.text, is_rendered=one.is_templated) for one in rendered]


@torch.no_grad()
def logits_at(model: Any, probes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """The logits at every token of each prompt, in host memory. Shapes (tokens, vocabulary)."""
    device = next(model.parameters()).device
    with quiet():
        rows = [model(input_ids=torch.tensor([ids], device=device)).logits[0, -len(ids) :] for ids in probes]
    return [row.float().cpu() for row in rows]


def largest_change(after: Sequence[torch.Tensor], before: Sequence[torch.Tensor]) -> float:
    """Largest difference of a logit, over all that is finite; infinity where nothing is."""
    changes = torch.cat([(ours - theirs).abs().flatten() for ours, theirs in zip(after, before, strict=True)])
    finite = changes[changes.isfinite()]
    return float(finite.max()) if finite.numel() else float("inf")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of peft and quantisers: what they tell of is checked here, or their own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
