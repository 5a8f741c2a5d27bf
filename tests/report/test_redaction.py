"""What a report writes down of a command line and of facts."""

from __future__ import annotations

import pytest

from safety_tasks.report.redaction import plain, without_secrets


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("--model_args pretrained=m,token=abc,dtype=float32", "--model_args pretrained=m,token=***,dtype=float32"),
        ("HF_TOKEN=abc pytest", "HF_TOKEN=*** pytest"),
        ("--api-key abc --llm-model m", "--api-key *** --llm-model m"),
        ("--password='a b' x", "--password=*** x"),
        ('{"api_key": "abc", "n": 1}', '{"api_key": ***, "n": 1}'),
        ("Authorization: Bearer abcdef123", "Authorization: *** ***"),
        ("https://user:pw@host/v1", "https://***@host/v1"),
        ("https://user:p@w@host/v1,a=b@c", "https://***@host/v1,a=b@c"),
        ("http://host/v1?key=abc&v=2&sig=a%2Fb,n=1", "http://host/v1?key=***&v=2&sig=***,n=1"),
        ("openai_api_key = abc", "openai_api_key = ***"),
        ("m hf_abcdefghijk and sk-abcdefghijk", "m *** and ***"),
    ],
)
def test_values_that_name_a_secret_are_hidden(written: str, shown: str) -> None:
    assert without_secrets(written) == shown


@pytest.mark.parametrize(
    "text", ["max_new_tokens=512", "200 tokens: none", "basin_width >= 0.2", "a@b.c", "/tmp/token/x"]
)
def test_other_text_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_keys_hide_their_values_however_deep() -> None:
    found = plain({"args": [{"token": "abc", "HF_TOKEN": 7, "token_budgets": [512], "password": None, "secret": ""}]})
    assert found == {
        "args": [{"token": "***", "HF_TOKEN": "***", "token_budgets": [512], "password": None, "secret": ""}]
    }


@pytest.mark.timeout(60)  # a pattern that backtracks takes hours
def test_long_lines_do_not_make_patterns_backtrack() -> None:
    for line in ("a" * 300_000, "token" * 60_000, "-" * 300_000, "x=" * 150_000, "://" * 100_000):
        assert without_secrets(line) == line
