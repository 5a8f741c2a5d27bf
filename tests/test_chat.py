from __future__ import annotations

from collections.abc import Callable

import pytest

from safety_tasks.chat import render
from safety_tasks.errors import InvalidModel, InvalidSetting
from safety_tasks.models import LoadedModel
from safety_tasks.prompts import Message
from safety_tasks.settings import Settings

TALK = [Message("system", "Be brief."), Message("user", "Hi")]


def with_template(build_model: Callable[..., LoadedModel], template: str) -> LoadedModel:
    loaded = build_model()
    tokenizer = type(loaded.tokenizer)(tokenizer_object=loaded.tokenizer.backend_tokenizer)
    tokenizer.chat_template = template
    return LoadedModel(loaded.model, tokenizer)


def test_the_template_opens_the_models_turn(build_model: Callable[..., LoadedModel]) -> None:
    rendered = render(build_model().tokenizer, TALK, Settings())
    assert rendered == ("<s><|system|>Be brief.</s><|user|>Hi</s><|assistant|>", True)


def test_plain_text_is_asked_for_by_name(build_model: Callable[..., LoadedModel]) -> None:
    assert render(build_model().tokenizer, TALK, Settings(chat="off")) == ("Be brief.\n\nHi", False)


@pytest.mark.parametrize("template", ["{{ strftime_now('%Y') }}", "{{ date_string }}"])
def test_a_template_that_prints_the_date_prints_the_same_one_every_day(
    build_model: Callable[..., LoadedModel], template: str
) -> None:
    assert "2024" in render(with_template(build_model, template).tokenizer, TALK, Settings()).text


def test_a_template_that_takes_no_system_prompt_says_so(build_model: Callable[..., LoadedModel]) -> None:
    loaded = with_template(build_model, "{{ raise_exception('System role not supported') }}")
    with pytest.raises(InvalidModel, match="does not take the roles system, user: System role not supported"):
        render(loaded.tokenizer, TALK, Settings())


QWEN3 = "{{ messages[-1].content }}{% if enable_thinking is defined and not enable_thinking %} /no_think{% endif %}"


@pytest.mark.parametrize(("thinking", "text"), [("auto", "Hi"), ("on", "Hi"), ("off", "Hi /no_think")])
def test_thinking_is_switched_by_the_templates_own_variable(
    build_model: Callable[..., LoadedModel], thinking: str, text: str
) -> None:
    tokenizer = with_template(build_model, QWEN3).tokenizer
    assert render(tokenizer, TALK, Settings(thinking=thinking)).text == text


def test_a_template_without_the_switch_is_an_error(build_model: Callable[..., LoadedModel]) -> None:
    with pytest.raises(InvalidModel, match="no switch for thinking"):
        render(build_model().tokenizer, TALK, Settings(thinking="off"))


def test_a_template_that_only_speaks_of_thinking_has_no_switch(build_model: Callable[..., LoadedModel]) -> None:
    loaded = with_template(build_model, "Begin with your thinking process. {{ messages[-1].content }}")
    with pytest.raises(InvalidModel, match="no switch for thinking"):
        render(loaded.tokenizer, TALK, Settings(thinking="off"))


def test_the_switch_needs_a_template() -> None:
    with pytest.raises(InvalidSetting, match="the switch is in the chat template"):
        Settings(chat="off", thinking="on")
