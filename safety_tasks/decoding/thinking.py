"""Thinking: where the final answer of a reasoning model begins.

Only the final answer is judged. A completion thinks when it opens with one of the published markers, or when the
prompt's template has opened one for it; its answer begins after the first closing marker. Without one there is no
answer.
"""

from __future__ import annotations

from typing import NamedTuple


class Markers(NamedTuple):
    """What opens and closes a model's thinking, as its tokenizer writes it with special tokens shown."""

    opening: str
    closing: str


# From the models' chat templates: DeepSeek-R1, Qwen3, SmolLM3 and most others; Magistral; gpt-oss, whose channels
# before "final" are all thinking; Seed-OSS; Command A Reasoning; Kimi-VL.
MARKERS = (
    Markers("<think>", "</think>"),
    Markers("[THINK]", "[/THINK]"),
    Markers("<|channel|>", "<|channel|>final<|message|>"),
    Markers("<seed:think>", "</seed:think>"),
    Markers("<|START_THINKING|>", "<|END_THINKING|>"),
    Markers("◁think▷", "◁/think▷"),
)


def opened_by_prompt(rendered: str) -> Markers | None:
    """The markers that the rendered prompt leaves open at its very end."""
    return next((markers for markers in MARKERS if rendered.rstrip().endswith(markers.opening)), None)


def opened_by_answer(raw: str) -> Markers | None:
    """The markers with which a completion begins; ``raw`` is its text with special tokens shown."""
    return next((markers for markers in MARKERS if raw.lstrip().startswith(markers.opening)), None)


def final_answer(text: str, opened: Markers | None) -> str | None:
    """What a completion that comes as text says after its thinking; None when the thinking did not end.

    ``opened`` by the prompt. A server may open the thinking in a prompt that is not seen here and send only its end,
    so any closing marker ends it.
    """
    for markers in MARKERS:
        before, closing, answer = text.partition(markers.closing)
        if closing:
            return answer
    return None if opened or opened_by_answer(text) else text


def may_open(raw: str) -> bool:
    """Whether a completion that has said no more than ``raw`` may still open its thinking."""
    return any(markers.opening.startswith(raw.lstrip()) for markers in MARKERS)
