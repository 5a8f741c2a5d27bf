"""Batched greedy decoding of a Hugging Face causal model, with an exact early stop.

A row ends at the end-of-sequence token, at the token limit, or as soon as its text holds one of ``stop_strings``.
The strings are ASCII and token texts are concatenated bytes, so text that is already decoded never changes: a row
that holds a string now would hold it at its end. Finished rows leave the batch where that is exact (fp32); in half
precision they stay, since a matrix product may round differently at another batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from safety_tasks.errors import InvalidModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
R = TypeVar("R")
# Cache layers whose rows are independent tensors; those of state-space layers are not cut.
_ROW_LAYERS = {"DynamicLayer", "DynamicSlidingWindowLayer"}


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer to one prompt; its repr, which logs and tracebacks show, holds no text."""

    text: str = field(repr=False)
    token_ids: tuple[int, ...] = field(repr=False)
    """Generated tokens, without the end-of-sequence token."""
    finished: bool | None
    """Whether the answer ended by itself or at a stop string, rather than at the token limit; None if unknown."""


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
) -> list[Completion]:
    """One greedy completion for each tokenised prompt, in their order.

    ``batch_size`` None takes all prompts at once. Batches that do not fit the device's memory are halved.
    Edge: rows whose logits are not finite take the largest finite logit, or token 0 when none is.
    """

    def run(rows: Sequence[Sequence[int]]) -> list[Completion]:
        return _Batch(model, tokenizer, rows, stop_strings).run(max_new_tokens)

    return _in_batches(run, prompts, batch_size or len(prompts))


def _in_batches(run: Callable[[Sequence[T]], list[R]], rows: Sequence[T], size: int) -> list[R]:
    """``run`` on batches of ``size`` rows, each halved for as long as it does not fit the device's memory."""
    found: list[R] = []
    for start in range(0, len(rows), max(1, size)):
        batch = rows[start : start + size]
        try:
            found += run(batch)
            continue
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        found += _in_batches(run, batch, (len(batch) + 1) // 2)  # outside the handler, which holds the tensors
    return found


class _Batch:
    """The rows that are decoded together: ``ids`` by row, ``active`` rows of the tensors."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
        stop_strings: tuple[str, ...],
    ) -> None:
        self.model, self.tokenizer, self.stop_strings = model, tokenizer, stop_strings
        self.ids: list[list[int]] = [[] for _ in prompts]
        self.finished = [False] * len(prompts)
        self.active = list(range(len(prompts)))
        self.ends = end_tokens(model, tokenizer)
        self.removes_rows = next(model.parameters()).dtype == torch.float32
        longest = max(len(prompt) for prompt in prompts)
        device = input_device(model)
        self.inputs = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=device)
        self.mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
        self.positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)
        self.cache: Any = None

    def run(self, max_new_tokens: int) -> list[Completion]:
        """Step until every row is finished or has ``max_new_tokens`` tokens."""
        for _ in range(max_new_tokens):
            tokens = self._step()
            self._take(tokens.tolist())
            if all(self.finished):
                break
            self._advance(tokens)
        return [self._completion(row) for row in range(len(self.ids))]

    def _step(self) -> torch.Tensor:
        """The next token of every active row. Shape (active,)."""
        out = self.model(
            input_ids=self.inputs,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = getattr(out, "past_key_values", None)
        if self.cache is None:
            raise InvalidModel(
                f"{type(self.model).__name__} keeps no key-value cache, which our decoder needs: models of this kind "
                "are not supported."
            )
        logits = torch.nan_to_num(out.logits[:, -1].float(), nan=-torch.inf, posinf=-torch.inf)
        return logits.argmax(dim=-1)

    def _take(self, tokens: list[int]) -> None:
        """Append each row's token, and mark rows that ended."""
        taken = []
        for row, token in zip(self.active, tokens, strict=True):
            if self.finished[row]:
                continue
            if token in self.ends:
                self.finished[row] = True
            else:
                self.ids[row].append(token)
                taken.append(row)
        for row in self._stopped(taken):
            self.finished[row] = True

    def _stopped(self, rows: list[int]) -> list[int]:
        """Those rows whose text holds a stop string."""
        if not self.stop_strings or not rows:
            return []
        # Every token adds at least one byte save special ones, so a string that ends in the newest token lies in
        # this many tokens of text; a hit is confirmed on the whole text.
        window = 2 * max(len(string) for string in self.stop_strings) + 8
        tails = self.tokenizer.batch_decode([self.ids[row][-window:] for row in rows], skip_special_tokens=True)
        hits = [row for row, tail in zip(rows, tails, strict=True) if self._holds_stop(tail)]
        return [row for row in hits if self._holds_stop(self._text(row))]

    def _holds_stop(self, text: str) -> bool:
        return any(string in text for string in self.stop_strings)

    def _text(self, row: int) -> str:
        return str(self.tokenizer.decode(self.ids[row], skip_special_tokens=True))

    def _advance(self, tokens: torch.Tensor) -> None:
        """Prepare the next step: one token a row, without the finished rows where that is exact."""
        self.inputs = tokens[:, None]
        self.positions = self.positions[:, -1:] + 1
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        layers = getattr(self.cache, "layers", None)
        if not self.removes_rows or not layers or {type(layer).__name__ for layer in layers} - _ROW_LAYERS:
            return
        keep = [i for i, row in enumerate(self.active) if not self.finished[row]]
        if len(keep) == len(self.active):
            return
        index = torch.tensor(keep, device=self.inputs.device)
        self.cache.batch_select_indices(index)
        self.inputs, self.positions, self.mask = self.inputs[index], self.positions[index], self.mask[index]
        self.active = [self.active[i] for i in keep]

    def _completion(self, row: int) -> Completion:
        return Completion(self._text(row), tuple(self.ids[row]), self.finished[row])


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the model wants its token ids."""
    return next(model.get_input_embeddings().parameters()).device


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end an answer: the generation configuration's and the tokenizer's."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends = set(configured) if isinstance(configured, list) else {configured}
    return frozenset(int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None)


@torch.inference_mode()
def mean_nll(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    batch_size: int,
) -> list[float]:
    """Mean negative log-likelihood of each completion given its prompt, in nats a token; 0.0 for an empty one."""
    pairs = [(list(prompt), list(answer)) for prompt, answer in zip(prompts, completions, strict=True)]
    return _in_batches(lambda batch: _batch_nll(model, batch), pairs, batch_size)


def _batch_nll(model: PreTrainedModel, pairs: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    device = input_device(model)
    rows = [prompt + answer + [0] * (longest - len(prompt) - len(answer)) for prompt, answer in pairs]
    mask = [[1] * (len(p) + len(a)) + [0] * (longest - len(p) - len(a)) for p, a in pairs]
    inputs = torch.tensor(rows, device=device)
    logits = model(input_ids=inputs, attention_mask=torch.tensor(mask, device=device), use_cache=False).logits
    losses = []
    for row, (prompt, answer) in enumerate(pairs):
        if not answer:
            losses.append(0.0)
            continue
        span = slice(len(prompt) - 1, len(prompt) + len(answer) - 1)
        target = torch.tensor(answer, device=logits.device)
        losses.append(float(torch.nn.functional.cross_entropy(logits[row, span].float(), target)))
    return losses
