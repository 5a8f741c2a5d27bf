from __future__ import annotations

from collections.abc import Callable

import pytest

from safety_tasks.chat import render
from safety_tasks.errors import InvalidModel
from safety_tasks.models import LoadedModel
from safety_tasks.prompts import Message

TALK = [Message("system", "Be brief."), Message("user", "Hi")]


def with_template(build_model: Callable[..., LoadedModel], template: str) -> LoadedModel:
    loaded = build_model()
    tokenizer = type(loaded.tokenizer)(tokenizer_object=loaded.tokenizer.backend_tokenizer)
    tokenizer.chat_template = template
    return LoadedModel(loaded.model, tokenizer)


def test_the_template_opens_the_models_turn(build_model: Callable[..., LoadedModel]) -> None:
    rendered = render(build_model().tokenizer, TALK, "auto")
    assert rendered == ("<s><|system|>Be brief.</s><|user|>Hi</s><|assistant|>", True)


def test_plain_text_is_asked_for_by_name(build_model: Callable[..., LoadedModel]) -> None:
    assert render(build_model().tokenizer, TALK, "off") == ("Be brief.\n\nHi", False)


@pytest.mark.parametrize("template", ["{{ strftime_now('%Y') }}", "{{ date_string }}"])
def test_a_template_that_prints_the_date_prints_the_same_one_every_day(
    build_model: Callable[..., LoadedModel], template: str
) -> None:
    assert "2024" in render(with_template(build_model, template).tokenizer, TALK, "auto").text


def test_a_template_that_takes_no_system_prompt_says_so(build_model: Callable[..., LoadedModel]) -> None:
    loaded = with_template(build_model, "{{ raise_exception('System role not supported') }}")
    with pytest.raises(InvalidModel, match="does not take the roles system, user: System role not supported"):
        render(loaded.tokenizer, TALK, "auto")
