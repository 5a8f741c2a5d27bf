"""The interval of a rate over several answers a prompt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety_tasks.estimates import rate
from safety_tasks.intervals import effective_n, exact_rate_interval

Rows = list[tuple[int, int]]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=30), st.integers(1, 9))
def test_samples_that_are_all_alike_have_the_interval_of_one_answer_a_prompt(rows: Rows, samples: int) -> None:
    clusters = [str(cluster) for _, cluster in rows]
    hits, unknown = sum(kind == 1 for kind, _ in rows), sum(kind == 2 for kind, _ in rows)
    scored = len(rows) - unknown
    one = rate("r", hits, scored, clusters, unknown=unknown)
    many = rate("r", hits * samples, scored * samples, clusters, unknown=unknown * samples, samples=samples)
    found, expected = ((e.value, e.low, e.high, e.n_effective) for e in (many, one))
    assert found == pytest.approx(expected, abs=1e-9)
    assert many.n == one.n


@given(st.integers(1, 40), st.integers(1, 9), st.data())
def test_more_samples_never_count_as_more_prompts(prompts: int, samples: int, data: st.DataObject) -> None:
    clusters = [str(data.draw(st.integers(0, prompts))) for _ in range(prompts)]
    hits = data.draw(st.integers(0, prompts * samples))
    found = rate("r", hits, prompts * samples, clusters, samples=samples)
    assert found.n == prompts and found.n_effective == pytest.approx(effective_n(clusters))
    bounds = exact_rate_interval(hits / samples * found.n_effective / prompts, effective_n(clusters))
    assert (found.low, found.high) == pytest.approx(bounds, abs=1e-9)


def test_one_answer_that_was_read_is_not_nothing() -> None:
    assert rate("r", 0, 1, ["a", "b"], unknown=9, samples=5).n == 1
    assert rate("r", 0, 0, ["a", "b"], unknown=10, samples=5).n == 0


def test_answers_that_do_not_fit_their_prompts_are_an_error() -> None:
    with pytest.raises(ValueError, match="9 rows but 2 clusters"):
        rate("r", 0, 9, ["a", "b"], samples=5)


@pytest.mark.parametrize("mean", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("spread", [0.05, 1.0, 50.0])
def test_the_interval_holds_the_truth_however_a_prompts_answers_hang_together(mean: float, spread: float) -> None:
    """A prompt's own rate is Beta(mean, spread): from all answers of a prompt alike to all of them independent."""
    draw = np.random.default_rng(0)
    rates = draw.beta(mean * spread, (1 - mean) * spread, size=(800, 100))
    hits = draw.binomial(5, rates).sum(axis=1)
    intervals = {int(k): rate("r", int(k), 500, [str(i) for i in range(100)], samples=5) for k in set(hits)}
    covered = np.mean([intervals[int(k)].low <= mean <= intervals[int(k)].high for k in hits])
    assert covered >= 0.94
