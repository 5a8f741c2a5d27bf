"""The template's control: a conversation whose answer is known goes through the model's own template and tokenizer.

A template that drops or rewrites what the user says, or answers for the model, makes numbers that mean nothing, as does
a tokenizer that does not give back what was said; and a run whose answers all look like refusals does not show it.
Whitespace may change, and tags (``<think></think>``) may stand before an answer: templates do that rightly.

Not covered: templates behind a server, and words that a template writes into every answer, past and next alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from safety_tasks.chat import render, transcript
from safety_tasks.decoding import opened_by_prompt
from safety_tasks.decoding.rows import Rows
from safety_tasks.decoding.thinking import MARKERS
from safety_tasks.errors import InvalidModel
from safety_tasks.judges.controls import CONTROLS, Control
from safety_tasks.prompts import Message
from safety_tasks.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from safety_tasks.models import LoadedModel

_ANSWER = CONTROLS[2].answer
_USER = f'{CONTROLS[0].prompt}\nAnswer in "plain" words, with <b> & without {{{{ braces }}}}, 2 > 1.'
_TAG = r"<[^<>\s]{1,40}>|\[/?[A-Z_]{1,40}\]|◁[^◁▷]{1,40}▷"


class TemplateControl(NamedTuple):
    """What came of the control."""

    missed: tuple[str, ...]
    """What is wrong; empty if nothing."""
    controls: tuple[Control, ...]
    """The judges' controls, each answer as it comes back from the model's tokenizer."""


def control_template(loaded: LoadedModel, settings: Settings) -> TemplateControl:
    """How these settings render a conversation, and how an answer to it is read.

    Raises InvalidModel where the template cannot be used at all.
    """
    system = settings.system_prompt
    opening = [] if system is None else [Message("system", system)]
    conversation = [*opening, Message("user", _USER)]
    prompt = render(loaded.tokenizer, conversation, settings).text
    missed = list(_of_words(prompt, system))
    if settings.chat != "off" and not missed:
        missed += _of_turns(loaded.tokenizer, conversation, prompt, settings)
    read = tuple(
        control._replace(answer=text) for control, text in zip(CONTROLS, read_back(loaded, prompt), strict=True)
    )
    if any(
        _without_space(one.answer) != _without_space(other.answer) for one, other in zip(read, CONTROLS, strict=True)
    ):
        missed.append("the tokenizer does not give answers back as they were said")
    return TemplateControl(tuple(missed), read)


def read_back(loaded: LoadedModel, prompt: str) -> list[str]:
    """The controls' answers as decoding reads them, had the model said them token by token behind this prompt."""
    opened = opened_by_prompt(prompt)
    rows = Rows(loaded.model, loaded.tokenizer, [opened] * len(CONTROLS), ())
    closing = opened.closing if opened else ""
    every = [_tokens(loaded.tokenizer, closing) + _tokens(loaded.tokenizer, control.answer) for control in CONTROLS]
    for place in range(max(map(len, every))):
        saying = [row for row, tokens in enumerate(every) if place < len(tokens)]
        rows.take(saying, [every[row][place] for row in saying], [True] * len(saying))
    return [completion.text for completion in rows.completions()]


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _of_words(prompt: str, system: str | None) -> Iterator[str]:
    """Whether what was said stands in the prompt."""
    times = prompt.count(_USER)
    if not times:
        yield "the chat template drops or rewrites what the user says"
    elif times > 1:
        yield f"the chat template repeats what the user says ({times} times)"
    if system is not None and system.strip() not in prompt:
        yield "the chat template drops or rewrites the system prompt"


def _of_turns(
    tokenizer: PreTrainedTokenizerBase, conversation: list[Message], prompt: str, settings: Settings
) -> Iterator[str]:
    """Whether the prompt ends where, in a conversation that has it, the answer begins."""
    try:
        whole = transcript(tokenizer, [*conversation, Message("assistant", _ANSWER)], settings)
    except InvalidModel:
        return  # a template for one turn
    before, answer, _ = whole.rpartition(_ANSWER)
    if not answer or _USER not in before:
        return  # it writes no past answers
    opened, ending = (_bare(text.partition(_USER)[2]) for text in (before, prompt))
    if ending.startswith(opened):
        if _without_tags(ending.removeprefix(opened)):
            yield "the chat template begins the answer with words of its own"
    elif not opened.startswith(ending):
        yield "the chat template opens another turn for the next answer than for a past one"
    elif prompt == transcript(tokenizer, conversation, settings):
        yield "the chat template does not open the model's turn"
    elif _without_tags(opened.removeprefix(ending)):
        yield "the chat template writes words before a past answer that the prompt does not have"


def _bare(text: str) -> str:
    """What stands between the user's words and the answer, without thinking markers and space."""
    for markers in MARKERS:
        text = text.replace(markers.closing, "").replace(markers.opening, "")
    return _without_space(text)


def _without_tags(text: str) -> str:
    return re.sub(_TAG, "", text)


def _without_space(text: str) -> str:
    return re.sub(r"\s+", "", text)
