"""Answers that are begun: how chat templates render them, and what the model goes on with."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.huggingface import HFLM

from safety_tasks.chat import render
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidModel
from safety_tasks.harness.text_engine import TextEngine
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.prompts import Message, load_prompts
from safety_tasks.settings import Settings

ASKED = [Message("system", "Be brief."), Message("user", "Hi")]
BEGUN = [*ASKED, Message("assistant", "Sure, here is")]
OPENS = "{% if add_generation_prompt %}"
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}" + OPENS + "<assistant>{% endif %}"
# Qwen3's: past answers of the last turn have an empty thinking block, and the model opens its own
QWEN = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}{% endfor %}"
    + OPENS
    + "<assistant>"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
EMPTY = "<think>\n\n</think>\n\n"
CHANNEL = "<|channel|>final<|message|>"
HEAD = "<system>Be brief.<user>Hi<assistant>"
TEMPLATES = {
    "plain": (TURNS, HEAD),
    "opens thinking (DeepSeek-R1)": (TURNS.replace("<assistant>", "<assistant><think>\n"), HEAD + EMPTY),
    "empty block in past turns (Qwen3)": (QWEN, HEAD + EMPTY),
    "names a channel (gpt-oss)": (
        TURNS.replace("{{ m.content }}", f"{{% if m.role == 'assistant' %}}{CHANNEL}{{% endif %}}{{{{ m.content }}}}"),
        HEAD + CHANNEL,
    ),
    "one turn only": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('one turn') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}{% endfor %}" + OPENS + "<assistant>{% endif %}",
        HEAD,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model("tiny-aligned", dtype="float32", device="cpu")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_beginning_stands_behind_the_opened_turn_and_thinking_is_closed(tiny: LoadedModel, name: str) -> None:
    template, opening = TEMPLATES[name]
    tokenizer = type(tiny.tokenizer)(tokenizer_object=tiny.tokenizer.backend_tokenizer)
    tokenizer.chat_template = template
    assert render(tokenizer, BEGUN, Settings()).text == opening + "Sure, here is"
    assert render(tokenizer, ASKED, Settings()).text in (HEAD, HEAD + "<think>\n"), "without a beginning as ever"


@pytest.mark.parametrize("thinking", ["on", "off"])
def test_the_thinking_block_stands_once_however_the_switch_is_set(tiny: LoadedModel, thinking: str) -> None:
    tokenizer = type(tiny.tokenizer)(tokenizer_object=tiny.tokenizer.backend_tokenizer)
    tokenizer.chat_template = QWEN
    assert render(tokenizer, BEGUN, Settings(thinking=thinking)).text == HEAD + EMPTY + "Sure, here is"


def test_it_is_transformers_continued_final_message(tiny: LoadedModel) -> None:
    turns = [message._asdict() for message in BEGUN]
    theirs = tiny.tokenizer.apply_chat_template(turns, tokenize=False, continue_final_message=True)
    assert render(tiny.tokenizer, BEGUN, Settings()).text == theirs


def test_on_plain_text_it_stands_below_the_prompt(tiny: LoadedModel) -> None:
    assert render(tiny.tokenizer, BEGUN, Settings(chat="off")).text == "Be brief.\n\nHi\n\nSure, here is"


def conversations() -> list[Sequence[Message]]:
    prompts = load_prompts("builtin-harmful").head(4).prompts
    return [(*prompt.messages, Message("assistant", "Sure, here is what you asked for.")) for prompt in prompts]


def test_the_completion_is_what_the_model_goes_on_with_without_the_beginning(tiny: LoadedModel) -> None:
    engine, expected = HuggingFaceEngine(tiny), []
    for turns in conversations():
        given = tiny.tokenizer.apply_chat_template(
            [turn._asdict() for turn in turns], continue_final_message=True, return_tensors="pt", return_dict=True
        )
        out = tiny.model.generate(**given, max_new_tokens=12, do_sample=False)[0, given["input_ids"].shape[1] :]
        expected.append(tiny.tokenizer.decode(out, skip_special_tokens=True))
    found = engine.generate([engine.render(turns, Settings()) for turns in conversations()], 12, ())
    assert [one.text for one in found] == expected


def test_behind_lm_evals_generate_until_it_is_the_same(tiny: LoadedModel) -> None:
    ours, theirs = HuggingFaceEngine(tiny), TextEngine(HFLM(pretrained=tiny.model, tokenizer=tiny.tokenizer))
    prompts = [ours.render(turns, Settings()) for turns in conversations()]
    assert [theirs.render(turns, Settings()) for turns in conversations()] == prompts
    limit = tiny.model.generation_config.max_new_tokens or 64  # which in transformers goes before lm_eval's
    answers = [[one.text for one in engine.generate(prompts, limit, ())] for engine in (ours, theirs)]
    assert answers[0] == answers[1]


def test_a_server_that_takes_messages_is_refused_in_a_sentence() -> None:
    class Chat:
        def apply_chat_template(self, turns: list[dict[str, str]], add_generation_prompt: bool = True) -> JsonChatStr:
            return JsonChatStr(str(turns))

    engine = TextEngine(Chat())  # type: ignore[arg-type]
    assert engine.render(ASKED, Settings()).is_templated
    with pytest.raises(InvalidModel, match="this model takes conversations as messages.*local-completions"):
        engine.render(BEGUN, Settings())
