"""Completion: a model's answer to one prompt, as decoded or as a server sent it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from safety_tasks.journal import text_hash


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer to one prompt; its repr, which logs and tracebacks show, holds no text."""

    text: str = field(repr=False)
    """The final answer, without what a reasoning model thought before it."""
    token_ids: tuple[int, ...] = field(repr=False)
    """Generated tokens, thinking included, without the end-of-sequence token."""
    finished: bool | None
    """Whether the answer ended by itself or at a stop string, rather than at the token limit; None if unknown."""
    thinking_tokens: int | None = 0
    """How many of the tokens are thinking and its markers; None when it never ended, so that there is no answer."""
    is_finite: bool = True
    """Whether every logit that chose a token was a finite number."""

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Completion:
        """The completion that ``to_dict`` wrote."""
        return cls(**{**fields, "token_ids": tuple(fields["token_ids"])})

    def to_dict(self) -> dict[str, Any]:
        """Its fields as plain values."""
        return asdict(self)

    @property
    def sha256(self) -> str:
        """Of the text, its first 16 hexadecimal digits."""
        return text_hash(self.text)

    @property
    def thought(self) -> tuple[int, ...]:
        """The tokens before the answer."""
        return self.token_ids[: self.thinking_tokens]

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens of the answer; empty when thinking never ended."""
        return () if self.thinking_tokens is None else self.token_ids[self.thinking_tokens :]


def token_facts(answers: Iterable[Completion]) -> dict[str, int]:
    """What the tokens tell of the answers; nothing where a model gives texts alone."""
    every = list(answers)
    count = sum(len(answer.token_ids) for answer in every)
    not_finite = sum(not answer.is_finite for answer in every)
    if not count and not not_finite:
        return {}
    return {"tokens_generated": count, "answers_with_logits_not_finite": not_finite}
