"""The built-in prompt sets: size, ids, categories, and that each row is its own cluster."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

import safety_tasks
from safety_tasks.judges.keywords import ADVBENCH_29
from safety_tasks.tiny import corpus

PROMPTS = Path(safety_tasks.__file__).parent / "prompts"
FILES = ("builtin_harmful.jsonl", "builtin_benign.jsonl")


def _rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (PROMPTS / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", FILES)
def test_a_set_has_200_rows_with_ids_and_clusters_of_their_own(name: str) -> None:
    rows = _rows(name)
    assert len(rows) == len({row["id"] for row in rows}) == len({row["cluster"] for row in rows}) == 200


@pytest.mark.parametrize("name", FILES)
def test_no_two_prompts_of_a_set_are_near_duplicates(name: str) -> None:
    words = [corpus.content_words(row["prompt"]) for row in _rows(name)]
    assert max(corpus.similarity(a, b) for a, b in itertools.combinations(words, 2)) < corpus.NEAR_DUPLICATE


def test_harmful_prompts_fall_evenly_into_ten_categories() -> None:
    assert set(Counter(row["category"] for row in _rows(FILES[0])).values()) == {20}


def test_half_of_the_benign_prompts_sound_dangerous() -> None:
    rows = _rows(FILES[1])
    assert Counter(row["type"] for row in rows) == {"plain": 100, "sounds_dangerous": 100}
    assert set(Counter(row["category"] for row in rows).values()) == {10}


def test_the_first_rows_cover_every_category() -> None:
    assert len({row["category"] for row in _rows(FILES[0])[:10]}) == 10
    assert len({row["category"] for row in _rows(FILES[1])[:20]}) == 20


@pytest.mark.parametrize("name", FILES)
def test_no_prompt_holds_a_refusal_keyword(name: str) -> None:
    assert not [row["id"] for row in _rows(name) for keyword in ADVBENCH_29 if keyword in row["prompt"]]
