"""One forward pass of a causal model over the tokens of a batch, and the state that the next pass needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from safety_tasks.errors import InvalidModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Cache layers whose rows are independent tensors; those of state-space layers are not cut.
_ROW_LAYERS = {"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"}


@dataclass(slots=True)
class Batch:
    """Tokens still to be read by the model, and what it has read: the rows' left-padded mask and its cache."""

    inputs: torch.Tensor
    """Token ids. Shape (rows, new tokens)."""
    mask: torch.Tensor
    """1 for tokens, 0 for padding, of everything read and to be read. Shape (rows, all tokens)."""
    positions: torch.Tensor
    """Position of each new token in its own row. Shape (rows, new tokens)."""
    cache: Any = None

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], device: torch.device) -> Batch:
        """The prompts, padded on the left."""
        longest = max(len(prompt) for prompt in prompts)
        inputs = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
        return cls(inputs, mask, (mask.cumsum(dim=1) - 1).clamp(min=0))

    def forward(self, model: PreTrainedModel) -> torch.Tensor:
        """Read the new tokens; the logits after the last one. Shape (rows, vocabulary)."""
        soft = soft_tokens(model)
        out = self._behind_soft_prompt(model, soft) if soft else self._read(model, self.mask, self.positions)
        self.cache = getattr(out, "past_key_values", None)
        if self.cache is None:
            raise InvalidModel(
                f"{type(model).__name__} keeps no key-value cache, which our decoder needs: models of this kind "
                "are not supported."
            )
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def _read(self, model: Any, mask: torch.Tensor, positions: torch.Tensor | None) -> Any:
        return model(
            input_ids=self.inputs,
            attention_mask=mask,
            **({} if positions is None else {"position_ids": positions}),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )

    def _behind_soft_prompt(self, model: Any, soft: int) -> Any:
        """As peft puts the soft prompt before whatever it reads, it reads the prompts, and its base model the rest."""
        if self.cache is None:
            return self._read(model, self.mask, None)
        mask = torch.cat([self.mask.new_ones(len(self.mask), soft), self.mask], dim=1)
        return self._read(model.get_base_model(), mask, self.positions + soft)

    def append(self, tokens: torch.Tensor) -> None:
        """One more token for each row. Shape (rows,)."""
        self.inputs = tokens[:, None]
        self.positions = self.positions[:, -1:] + 1
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)

    def can_drop_rows(self) -> bool:
        """Whether every layer of the cache keeps its rows apart."""
        layers = {type(layer).__name__ for layer in getattr(self.cache, "layers", [None])}
        return type(self.cache).__name__ == "DynamicCache" and layers <= _ROW_LAYERS

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        for layer in self.cache.layers:  # each on the device of its part of the model
            keys = getattr(layer, "keys", None)
            layer.batch_select_indices(torch.tensor(rows, device=self.inputs.device if keys is None else keys.device))
        index = torch.tensor(rows, device=self.inputs.device)
        self.inputs, self.positions, self.mask = self.inputs[index], self.positions[index], self.mask[index]


def soft_tokens(model: Any) -> int:
    """Virtual tokens of a soft prompt (prompt tuning, prefix tuning) that an adapter puts before all others."""
    found = getattr(model, "active_peft_config", None)
    return int(found.num_virtual_tokens) if found is not None and found.is_prompt_learning else 0


def keeps_plain_rows(cache: Any) -> bool:
    """Whether the cache is transformers' own and keeps every token of every row, so that a row may be copied."""
    layers = {type(layer).__name__ for layer in getattr(cache, "layers", [None])}
    return type(cache).__name__ == "DynamicCache" and layers == {"DynamicLayer"}
