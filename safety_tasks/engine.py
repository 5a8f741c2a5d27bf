"""Engine: what a measurement needs of a model, and the engine of Hugging Face models in this process."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Protocol

from safety_tasks.chat import Rendered, render
from safety_tasks.decoding import (
    Completion,
    DecodingLog,
    Scored,
    decode,
    encode,
    mean_nll,
    opened_by_prompt,
    shares_exactly,
)
from safety_tasks.directions import NOISE_VERSION, Direction
from safety_tasks.errors import InvalidPrompts
from safety_tasks.models import LoadedModel, display_name
from safety_tasks.prompts import Message
from safety_tasks.settings import Settings
from safety_tasks.weights import Weights, fingerprint

_NLL_BATCH = 32


class Mover(Protocol):
    """Moves an engine's model from point to point; valid inside the engine's ``moving()``."""

    def move_to(self, direction: Direction, alpha: float) -> None:
        """Set the weights to theta + alpha d."""

    def restore(self) -> None:
        """Set the weights to theta."""


class Engine(Protocol):
    """A model that answers prompts, and may be moved."""

    def render(self, messages: Sequence[Message], settings: Settings) -> Rendered:
        """The text of a conversation, by the settings' ``chat`` and ``thinking``."""

    def token_budget(self, prompts: Sequence[Rendered], wanted: int) -> int:
        """The most new tokens that fit behind the longest prompt, at most ``wanted``."""

    def moving(self) -> AbstractContextManager[Mover]:
        """The context in which the weights may move; leaving it brings them back, or raises WeightsChanged."""

    def generate(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...]
    ) -> list[Completion]:
        """One greedy completion a prompt, at the current point."""

    def mean_nll(self, prompts: Sequence[Rendered], completions: Sequence[Completion]) -> list[float] | None:
        """Mean negative log-likelihood of each completion at the current point; None where out of reach."""

    def facts(self) -> dict[str, Any]:
        """What identifies the model and the way it decodes."""


class HuggingFaceEngine:
    """A transformers causal model in this process."""

    def __init__(self, loaded: LoadedModel, batch_size: int | None = None) -> None:
        self.model, self.tokenizer = loaded
        self.batch_size = batch_size
        self.log = DecodingLog()

    def render(self, messages: Sequence[Message], settings: Settings) -> Rendered:
        """The conversation by the tokenizer's chat template."""
        return render(self.tokenizer, messages, settings)

    def token_budget(self, prompts: Sequence[Rendered], wanted: int) -> int:
        """Cut to the model's own limit on answers, and to the room that its positions leave.

        The own limit is ``max_new_tokens`` of the generation configuration, where a model sets one. Raises
        InvalidPrompts when a prompt fills all positions.
        """
        wanted = min(wanted, self.model.generation_config.max_new_tokens or wanted)
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if positions is None:
            return wanted
        room = int(positions) - max(len(ids) for ids in self._encode(prompts))
        if room < 1:
            raise InvalidPrompts(f"A prompt fills all {positions} positions of the model: no room for an answer.")
        return min(wanted, room)

    def moving(self) -> Weights:
        """The model's weights, brought back on leaving."""
        _ = self._shares_prefix  # asked before any weight moves
        return Weights(self.model)

    def generate(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...]
    ) -> list[Completion]:
        """Batched greedy decoding, see decoding.py."""
        return decode(
            self.model,
            self.tokenizer,
            self._encode(prompts),
            max_new_tokens=max_new_tokens,
            stop_strings=stop_strings,
            batch_size=self.batch_size,
            thinking=[opened_by_prompt(prompt.text) for prompt in prompts],
            shares_prefix=self._shares_prefix,
            log=self.log,
        )

    def mean_nll(self, prompts: Sequence[Rendered], completions: Sequence[Completion]) -> list[float]:
        """One prefill a completion; of a reasoning model, the likelihood of the final answer."""
        contexts = self._encode(prompts)
        rows = [Scored([*ids, *row.thought], row.answer) for ids, row in zip(contexts, completions, strict=True)]
        return mean_nll(self.model, rows, batch_size=self.batch_size or _NLL_BATCH)

    def facts(self) -> dict[str, Any]:
        """Path, class, dtype, device, fingerprint of the weights, versions."""
        parameter = next(self.model.parameters())
        return {
            "model": display_name(str(self.model.name_or_path)),
            "architecture": type(self.model).__name__,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "device": str(parameter.device),
            "weights_fingerprint": None if self._is_offloaded() else fingerprint(self.model),
            "noise": NOISE_VERSION,
            "batch_size": self.batch_size or "all",
            "batch_size_after_halving": self.log.smallest_batch,
            "answers_with_logits_not_finite": self.log.not_finite,
            **{name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        }

    @cached_property
    def _shares_prefix(self) -> bool:
        return shares_exactly(self.model)

    def _is_offloaded(self) -> bool:
        return any(parameter.device.type == "meta" for parameter in self.model.parameters())

    def _encode(self, prompts: Sequence[Rendered]) -> list[list[int]]:
        return [encode(self.tokenizer, prompt.text, is_rendered=prompt.is_templated) for prompt in prompts]
