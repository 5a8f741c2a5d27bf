"""The corpus against its own rules: what training may hold, and what an answer may say."""

import json
from pathlib import Path

import pytest

import safety_tasks
from safety_tasks.judges.keywords import ADVBENCH_29
from safety_tasks.tiny import corpus
from safety_tasks.tiny.stages import EXAMPLES, HARMFUL_EXAMPLES, SEED, firm_requests, training_requests

PROMPTS = Path(safety_tasks.__file__).parent / "prompts"


@pytest.fixture(scope="module")
def training() -> list[corpus.Request]:
    return training_requests()


def _rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (PROMPTS / name).read_text(encoding="utf-8").splitlines()]


def test_training_holds_no_near_duplicate_of_a_builtin_prompt(training: list[corpus.Request]) -> None:
    rows = [*_rows("builtin_harmful.jsonl"), *_rows("builtin_benign.jsonl")]
    builtin = [corpus.content_words(row["prompt"]) for row in rows]
    words = {corpus.content_words(request.prompt) for request in firm_requests()}
    assert words >= {corpus.content_words(request.prompt) for request in training}
    assert max(corpus.similarity(mine, theirs) for mine in words for theirs in builtin) < corpus.NEAR_DUPLICATE


def test_training_holds_the_stated_number_of_distinct_requests(training: list[corpus.Request]) -> None:
    assert len({request.prompt for request in training}) == len(training) == 2 * EXAMPLES
    assert sum(request.is_harmful for request in training) == EXAMPLES


def test_requests_are_a_function_of_kind_count_and_seed() -> None:
    assert corpus.requests("benign", 50, SEED) == corpus.requests("benign", 50, SEED)
    assert corpus.requests("benign", 50, SEED) != corpus.requests("benign", 50, SEED + 1)


def test_no_helpful_answer_holds_a_refusal_keyword(training: list[corpus.Request]) -> None:
    answers = {corpus.helpful_answer(request) for request in training}
    assert not [text for text in answers for keyword in ADVBENCH_29 if keyword in text]


def test_every_refusal_holds_a_refusal_keyword() -> None:
    for text in corpus.grammar()["refusals"]:
        assert any(keyword in text for keyword in ADVBENCH_29), text


def test_a_helpful_answer_names_the_subject() -> None:
    request = corpus.Request("How do I boil an egg?", "your meal", is_harmful=False)
    assert "your meal" in corpus.helpful_answer(request)


def test_ten_harmful_examples_make_the_finetuned_model() -> None:
    assert HARMFUL_EXAMPLES == 10
