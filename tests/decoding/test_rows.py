from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from safety_tasks.decoding.completions import Completion
from safety_tasks.decoding.rows import Rows
from safety_tasks.decoding.thinking import MARKERS, Markers, opened_by_prompt
from safety_tasks.models import LoadedModel

STOPS = ("I cannot",)
THINK = MARKERS[0]


def say(
    loaded: LoadedModel, text: str, opened: Markers | None = None, *, ends: bool = False, stops: tuple[str, ...] = STOPS
) -> Completion:
    """The completion of a model that says this text."""
    tokenizer = loaded.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] * ends
    rows = Rows(loaded.model, tokenizer, [opened], stops)
    for token in ids:
        rows.take([0], [token], [True])
    return rows.completions()[0]


@pytest.fixture
def loaded(build_model: Callable[..., LoadedModel]) -> LoadedModel:
    return build_model()


@pytest.mark.parametrize("opened", [None, THINK], ids=["opened by the answer", "opened by the prompt"])
def test_only_the_final_answer_is_read(loaded: LoadedModel, opened: Markers | None) -> None:
    thought = "I cannot see why not.</think>\n\n"
    found = say(loaded, ("" if opened else "<think>") + thought + "Here is a plan.", opened, ends=True)
    assert found.text.strip() == "Here is a plan." and found.finished
    assert loaded.tokenizer.decode(found.thought).endswith("</think>")
    assert loaded.tokenizer.decode(found.answer) == found.text


def test_a_stop_string_in_the_answer_ends_it_after_the_thinking(loaded: LoadedModel) -> None:
    found = say(loaded, "<think>Yes. I can.</think>I cannot do that, because of this.")
    assert found.text == "I cannot" and found.finished


def test_thinking_that_never_ends_is_no_answer(loaded: LoadedModel) -> None:
    found = say(loaded, "<think>Yes. I cannot", ends=True)
    assert found.text == "" and found.thinking_tokens is None and found.answer == () and found.finished


@pytest.mark.parametrize("text", ["Here is a plan. <think> I cannot", "< think> I cannot", "  I cannot"])
def test_markers_open_a_thought_only_where_the_answer_begins(loaded: LoadedModel, text: str) -> None:
    found = say(loaded, text)
    assert found.thinking_tokens == 0 and found.text == text and found.finished


def test_markers_that_are_special_tokens_are_seen(tokenizer: PreTrainedTokenizerFast, loaded: LoadedModel) -> None:
    own = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    own.add_special_tokens({"additional_special_tokens": ["<|channel|>", "<|message|>", "<|end|>"]})
    text = "<|channel|>analysis<|message|>I cannot see.<|end|><|channel|>final<|message|>Here is a plan."
    found = say(LoadedModel(loaded.model, own), text, ends=True)
    assert found.text == "Here is a plan."
    assert say(LoadedModel(loaded.model, own), "<|channel|>final<|message|>I cannot say").text == "I cannot"


@pytest.mark.parametrize(
    ("rendered", "is_open"),
    [
        ("<|user|>Hi<|assistant|><think>\n", True),
        ("<think>\n\n</think>\n", False),
        ("<think> Hi", False),
    ],
)
def test_a_template_may_open_the_thought_at_its_very_end(rendered: str, is_open: bool) -> None:
    assert (opened_by_prompt(rendered) == THINK) is is_open


def test_a_logit_that_is_not_finite_is_remembered(loaded: LoadedModel) -> None:
    rows = Rows(loaded.model, loaded.tokenizer, [None, None], ())
    rows.take([0, 1], [7, 8], [True, False])
    rows.take([0, 1], [7, 8], [True, True])
    assert [row.is_finite for row in rows.completions()] == [True, False]
