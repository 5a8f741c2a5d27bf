"""Rows: what each row of a batch has said so far, where its answer begins, and whether it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safety_tasks.decoding.completions import Completion
from safety_tasks.decoding.stopping import stop_finder
from safety_tasks.decoding.thinking import Markers, may_open, opened_by_answer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Rows:
    """The completions of one batch while they are being generated."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        opened: Sequence[Markers | None],
        stop_strings: tuple[str, ...],
    ) -> None:
        count = len(opened)
        self.tokenizer, self.stop_strings = tokenizer, stop_strings
        self.ends = end_tokens(model, tokenizer)
        self.finished = [False] * count
        self._ids: list[list[int]] = [[] for _ in range(count)]
        self._is_finite = [True] * count
        self._thinking = list(opened)
        self._may_think = [markers is None for markers in opened]
        self._answers_from: list[int | None] = [None if markers else 0 for markers in opened]
        self._stops = stop_finder(tokenizer, stop_strings, count) if stop_strings else None

    def take(self, rows: Sequence[int], tokens: Sequence[int], is_finite: Sequence[bool]) -> None:
        """One new token for each of these rows; those that are finished ignore it."""
        said: list[int] = []
        for row, token, finite in zip(rows, tokens, is_finite, strict=True):
            if self.finished[row]:
                continue
            self._is_finite[row] &= finite
            if token in self.ends:
                self.finished[row] = True
            else:
                self._ids[row].append(token)
                said.append(row)
        answering = [row for row in said if self._is_answering(row)]
        for row in self._stopped(answering):
            self.finished[row] = True

    def completions(self) -> list[Completion]:
        """All rows as they stand."""
        return [
            Completion(self._answer(row), tuple(ids), self.finished[row], self._answers_from[row], self._is_finite[row])
            for row, ids in enumerate(self._ids)
        ]

    def _is_answering(self, row: int) -> bool:
        """Whether the row's newest token belongs to its final answer."""
        if self._may_think[row]:
            raw = self._raw(row, 0)
            self._thinking[row] = opened_by_answer(raw)
            self._may_think[row] = self._thinking[row] is None and may_open(raw)
            if self._thinking[row] is not None:
                self._answers_from[row] = None
        markers = self._thinking[row]
        if markers is None:
            return True
        window = 2 * len(markers.closing.encode()) + 2
        if markers.closing in self._raw(row, -window):
            self._answers_from[row] = len(self._ids[row])
            self._thinking[row] = None
            if self._stops is not None:
                self._stops.restart(row)
        return False

    def _stopped(self, rows: Sequence[int]) -> list[int]:
        """Those rows whose answer holds a stop string."""
        if self._stops is None or not rows:
            return []
        hits = self._stops.feed(rows, [self._ids[row][-1] for row in rows])
        return [row for row in hits if any(string in self._answer(row) for string in self.stop_strings)]

    def _answer(self, row: int) -> str:
        """The final answer so far; empty while the row thinks."""
        start = self._answers_from[row]
        return "" if start is None else str(self.tokenizer.decode(self._ids[row][start:], skip_special_tokens=True))

    def _raw(self, row: int, start: int) -> str:
        """Text with special tokens shown, which is where some models' markers are."""
        return str(self.tokenizer.decode(self._ids[row][start:], skip_special_tokens=False))


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end an answer: the generation configuration's and the tokenizer's."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends = set(configured) if isinstance(configured, list) else {configured}
    return frozenset(int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None)
