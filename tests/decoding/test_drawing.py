"""Sampling against transformers' own warpers, and its draws against the distribution that they should follow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from safety_tasks.decoding import decode, encode
from safety_tasks.decoding.drawing import Sampler, invert, kept_probabilities, row_key
from safety_tasks.models import LoadedModel
from safety_tasks.noise import uniforms
from safety_tasks.sampling import Draw

PROMPTS = ["Tell me a story.", "Hi", "What is the plan for that thing, and what is it that I cannot help with?", "I"]
DRAW = Draw(0.9, 0.95, 60, 7, 0)


@pytest.fixture(scope="module")
def loaded(build_model: Callable[..., LoadedModel]) -> LoadedModel:
    return build_model(tied=False, seed=3)


def drawn(loaded: LoadedModel, texts: list[str] = PROMPTS, draw: Draw = DRAW, **kwargs: object) -> list[list[int]]:
    ids = [encode(loaded.tokenizer, text, is_rendered=True) for text in texts]
    options = {"max_new_tokens": 24, **kwargs}
    return [list(row.token_ids) for row in decode(*loaded, ids, draw=draw, texts=texts, **options)]  # type: ignore[arg-type]


def warped(logits: torch.Tensor, draw: Draw) -> torch.Tensor:
    """The independent reference: transformers' warpers in the order of its ``generate``."""
    found = TemperatureLogitsWarper(draw.temperature)(None, logits)
    if draw.top_k is not None:
        found = TopKLogitsWarper(draw.top_k)(None, found)
    if draw.top_p < 1:
        found = TopPLogitsWarper(draw.top_p)(None, found)
    return found.softmax(dim=-1)


@settings(max_examples=60)
@given(
    st.integers(0, 10_000),
    st.floats(0.05, 5),
    st.floats(0.01, 1),
    st.one_of(st.none(), st.integers(1, 400)),
)
def test_the_tokens_kept_and_their_probabilities_are_transformers(
    seed: int, temperature: float, top_p: float, top_k: int | None
) -> None:
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    draw = Draw(temperature, top_p, top_k, 0, 0)
    found, expected = kept_probabilities(logits, draw), warped(logits, draw)
    found = found / found.sum(dim=-1, keepdim=True)
    assert torch.equal(found > 0, expected > 0)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


def test_tokens_that_tie_with_the_last_one_kept_are_kept() -> None:
    logits = torch.tensor([[1.0, 2.0, 1.0, 0.0]])
    assert kept_probabilities(logits, Draw(1, 1, 2, 0, 0))[0].gt(0).tolist() == [True, True, True, False]
    assert kept_probabilities(logits, Draw(1, 0.6, None, 0, 0))[0].gt(0).tolist() == [True, True, True, False]


@pytest.mark.parametrize("draw", [Draw(1.0, 1.0, None, 3, 0), Draw(0.7, 0.9, 8, 3, 0)])
def test_the_draws_follow_the_distribution(draw: Draw) -> None:
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(1))
    rows = 20_000
    sampler = Sampler(draw, [row_key(draw, f"prompt {row}") for row in range(rows)])
    tokens, is_finite = sampler.choose(logits.expand(rows, -1), range(rows), 5)
    expected = warped(logits, draw)[0].numpy().astype(float)
    counts = np.bincount(tokens.numpy(), minlength=12)
    assert is_finite.all() and not counts[expected == 0].any()
    kept = expected > 0
    assert chisquare(counts[kept], expected[kept] / expected.sum() * rows).pvalue > 0.01


def test_the_numbers_are_uniform_and_a_function_of_key_and_position() -> None:
    numbers = uniforms(99, 0, 20_000)
    assert 0 <= numbers.min() and numbers.max() < 1 and kstest(numbers, "uniform").pvalue > 0.01
    for start, stop in ((0, 1), (5, 9), (4099, 5000)):
        assert np.array_equal(uniforms(99, start, stop), numbers[start:stop])


def test_seed_prompt_and_number_of_the_answer_each_change_the_numbers() -> None:
    keys = {row_key(Draw(1, 1, None, seed, sample), text) for seed in (0, 1) for sample in (0, 1) for text in "ab"}
    assert len(keys) == 8
    assert row_key(Draw(0.1, 0.5, 3, 0, 0), "a") in keys, "temperature and cuts leave the numbers as they are"


def test_the_number_of_a_row_is_that_of_its_position_on_both_sides_of_a_piece() -> None:
    sampler = Sampler(DRAW, [1, 2])
    for step in (0, 255, 256, 700, 3):
        assert sampler._numbers(step).tolist() == [uniforms(key, step, step + 1)[0] for key in (1, 2)]


def test_the_ends_of_the_unit_interval_draw_kept_tokens() -> None:
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]], dtype=torch.float64).expand(4, -1)
    numbers = torch.tensor([0.0, 0.2499, 0.25, 1 - 2**-53], dtype=torch.float64)
    assert invert(probabilities, numbers).tolist() == [1, 1, 3, 3]


def test_logits_that_are_no_numbers_forbid_a_token_and_are_told() -> None:
    bad = float("nan"), float("inf"), float("-inf")
    logits = torch.tensor([[bad[0], 0.0, bad[1]], [bad[2], 1.0, bad[2]], [bad[0]] * 3, [bad[2]] * 3])
    tokens, is_finite = Sampler(DRAW, [1, 2, 3, 4]).choose(logits, range(4), 0)
    assert tokens.tolist() == [1, 1, 0, 0] and is_finite.tolist() == [False, True, False, False]


def test_work_in_pieces_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    sampler = Sampler(DRAW, list(range(7)))
    whole = sampler.choose(logits, range(7), 0)[0]
    monkeypatch.setattr("safety_tasks.decoding.drawing._ENTRIES", 100)
    assert torch.equal(sampler.choose(logits, range(7), 0)[0], whole)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_neither_batch_size_nor_company_changes_an_answer(loaded: LoadedModel, batch_size: int) -> None:
    whole = drawn(loaded)
    assert drawn(loaded, batch_size=batch_size) == whole
    assert drawn(loaded, PROMPTS[2:]) == whole[2:] and drawn(loaded, PROMPTS[::-1]) == whole[::-1]
    assert drawn(loaded, max_new_tokens=10) == [row[:10] for row in whole]


def test_answers_to_one_prompt_differ_by_number_and_repeat_by_number(loaded: LoadedModel) -> None:
    every = [drawn(loaded, draw=DRAW._replace(sample=sample)) for sample in range(3)]
    assert every[0] != every[1] != every[2] and drawn(loaded, draw=DRAW._replace(sample=1)) == every[1]


def test_top_k_1_is_greedy(loaded: LoadedModel) -> None:
    ids = [encode(loaded.tokenizer, text, is_rendered=True) for text in PROMPTS]
    greedy = [list(row.token_ids) for row in decode(*loaded, ids, max_new_tokens=24)]
    assert drawn(loaded, draw=Draw(1.0, 1.0, 1, 0, 0)) == greedy
    assert drawn(loaded, draw=Draw(1.0, 1e-9, None, 0, 0)) == greedy
    assert drawn(loaded, draw=Draw(1e-4, 1.0, None, 0, 0)) == greedy


def test_stopping_early_changes_no_sampled_answer_before_its_stop(loaded: LoadedModel) -> None:
    ids = [encode(loaded.tokenizer, text, is_rendered=True) for text in PROMPTS]
    whole = decode(*loaded, ids, max_new_tokens=24, draw=DRAW, texts=PROMPTS)
    stop = whole[0].text[2:4]
    found = decode(*loaded, ids, max_new_tokens=24, stop_strings=(stop,), draw=DRAW, texts=PROMPTS)
    assert len(found[0].token_ids) < len(whole[0].token_ids)
    for row, reference in zip(found, whole, strict=True):
        assert reference.token_ids[: len(row.token_ids)] == row.token_ids
        assert (stop in row.text) == (stop in reference.text)
