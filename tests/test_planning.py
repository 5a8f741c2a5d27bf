from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from safety_tasks import planning
from safety_tasks.estimates import Estimate, rate
from safety_tasks.landscape import Landscape
from safety_tasks.planning import Sample
from safety_tasks.settings import Settings

LIMITS = st.floats(0.005, 0.6)
CONFIDENCES = st.sampled_from([0.8, 0.95, 0.99])


def reference(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    found = binomtest(k, n).proportion_ci(confidence, method="exact")
    return float(found.low), float(found.high)


def clusters(n: int, size: int = 1) -> list[str]:
    return [str(index // size) for index in range(n)]


def flat(n: int, sizes: int = 1, **given: object) -> Landscape:
    settings = Settings(points=5, directions=2, judge="keywords-advbench", **given)  # type: ignore[arg-type]
    shape = (2, 5, n)
    return Landscape(
        settings.alphas,
        np.zeros(shape, dtype=np.int8),
        np.ones(shape, dtype=np.bool_),
        tuple(map(str, range(n))),
        tuple(clusters(n, sizes)),
        settings,
    )


@given(st.integers(1, 400), LIMITS, CONFIDENCES, st.sampled_from(["<=", "<"]))
def test_allowed_failures_are_the_most_that_scipys_interval_lets_pass(
    n: int, limit: float, confidence: float, sign: str
) -> None:
    allowed = planning.allowed_failures(Sample(n), sign, limit, confidence)
    most = -1 if allowed is None else allowed
    assert most < 0 or reference(most, n, confidence)[1] <= limit
    assert most == n or reference(most + 1, n, confidence)[1] > limit


@given(st.integers(2, 400), st.floats(0.05, 1), LIMITS)
def test_what_passes_at_k_failures_passes_at_k_minus_1_with_near_duplicates_too(
    n: int, share: float, limit: float
) -> None:
    told = [planning.passes(k, Sample(n, share), "<=", limit) for k in range(n + 1)]
    assert told == sorted(told, reverse=True)


@given(LIMITS, CONFIDENCES)
def test_the_prompts_needed_pass_with_0_failures_and_one_prompt_fewer_does_not(limit: float, confidence: float) -> None:
    needed = planning.prompts_needed("<=", limit, confidence)
    assert needed is not None
    assert reference(0, needed, confidence)[1] <= limit
    assert needed == 1 or reference(0, needed - 1, confidence)[1] > limit


@given(LIMITS, st.floats(0.1, 1))
def test_near_duplicates_need_more_prompts_by_their_share(limit: float, share: float) -> None:
    needed = planning.prompts_needed("<=", limit, share=share)
    assert needed is not None
    assert planning.passes(0, Sample(needed, share), "<=", limit)
    assert needed == 1 or not planning.passes(0, Sample(needed - 1, share), "<=", limit)


def test_the_numbers_of_the_readme() -> None:
    assert planning.upper_bound(0, Sample(100)) == pytest.approx(0.0362, abs=5e-5)
    assert planning.prompts_needed("<=", 0.01) == 368
    assert planning.prompts_needed("<=", 0.05) == 72
    assert planning.allowed_failures(Sample(100), "<=", 0.05) == 0
    assert planning.allowed_failures(Sample(200), "<=", 0.05) == 3
    assert planning.allowed_failures(Sample(200), "<=", 0.10) == 11


def test_a_limit_of_0_is_out_of_reach_of_any_number_and_a_limit_of_1_of_none() -> None:
    assert planning.prompts_needed("<=", 0.0) is None and planning.prompts_needed("<", 0.0) is None
    assert planning.prompts_needed("<=", 1.0) == 1
    assert planning.allowed_failures(Sample(7), "<=", 1.0) == 7


@given(st.integers(10, 300), st.integers(0, 1000), LIMITS)
def test_the_chance_of_green_is_the_binomials(n: int, per_mille: int, limit: float) -> None:
    rate_ = per_mille / 1000
    allowed = planning.allowed_failures(Sample(n), "<=", limit)
    expected = 0.0 if allowed is None else sum(binom.pmf(k, n, rate_) for k in range(allowed + 1))
    assert planning.chance_of_green(Sample(n), allowed, rate_) == pytest.approx(expected, abs=1e-9)


def test_wrong_green_at_the_limit_is_at_most_half_of_5_percent() -> None:
    for n in range(20, 400, 7):
        for limit in (0.02, 0.05, 0.1, 0.25):
            sample = Sample(n)
            allowed = planning.allowed_failures(sample, "<=", limit)
            assert planning.chance_of_green(sample, allowed, limit) <= 0.025


def test_a_sample_counts_near_duplicates_as_one() -> None:
    sample = Sample.of(clusters(100, 2))
    assert sample.effective == pytest.approx(50) and sample.n == 100
    assert planning.upper_bound(0, sample) == pytest.approx(reference(0, 50)[1])
    with pytest.raises(ValueError, match="at least one prompt"):
        Sample.of([])


@given(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.integers(0, 20),
    st.sampled_from([1, 2, 5]),
    CONFIDENCES,
)
def test_another_confidence_gives_the_interval_that_the_counts_give(
    counts: tuple[int, int], unknown: int, size: int, confidence: float
) -> None:
    k, n = counts
    total = n + unknown
    estimate = rate("attack_success_rate", k, n, clusters(total, size), unknown=unknown)
    found = planning.at_confidence(estimate, confidence)
    share = estimate.n_effective / total
    assert found.low == pytest.approx(planning.exact_rate_interval(k * share, total * share, confidence).low, abs=1e-9)
    assert found.high == pytest.approx(planning.upper_bound(k + unknown, Sample(total, share), confidence), abs=1e-9)
    assert found.value == estimate.value and planning.at_confidence(estimate, None) is estimate


def test_another_confidence_is_told_in_the_method() -> None:
    found = planning.at_confidence(rate("attack_success_rate", 2, 100, clusters(100)), 0.99)
    assert (found.low, found.high) == pytest.approx(reference(2, 100, 0.99)) and "99%" in found.method


@given(st.integers(20, 300).flatmap(lambda n: st.tuples(st.integers(0, n // 2), st.just(n))), LIMITS, st.integers(1, 3))
def test_the_prompts_that_settle_it_decide_and_one_fewer_does_not(
    counts: tuple[int, int], limit: float, size: int
) -> None:
    k, n = counts
    estimate = rate("attack_success_rate", k, n, clusters(n, size))
    if estimate.high <= limit or estimate.low > limit:
        return
    sample = Sample(n, estimate.n_effective / n)
    needed = planning.prompts_to_settle(planning.counts_behind(estimate), sample, "<=", limit)
    if needed is None:
        assert abs(k / n - limit) < 0.01
        return

    def decides(m: int) -> bool:
        low, high = planning.exact_rate_interval(k / n * m * sample.share, m * sample.share)
        return high <= limit or low > limit

    assert needed > n and decides(needed) and not decides(needed - 1)


@pytest.mark.parametrize(
    ("k", "n", "unknown", "limit", "told"),
    [
        (8, 200, 0, 0.05, "about 1,637 more prompts (1,837 in all) would settle it: pass."),
        (20, 200, 0, 0.08, "would settle it: fail."),
        (10, 200, 0, 0.05, "The observed rate sits on the limit: no number of prompts would settle it"),
        (5, 190, 10, 0.05, "It depends on the unscored answers: more prompts do not settle it, a judge"),
        (0, 0, 50, 0.05, "No answer could be scored: more prompts do not settle it, a judge"),
        (5001, 100_000, 0, 0.05, "so near to the limit that more than 1,000,000 prompts would be needed"),
    ],
)
def test_the_sentence_says_what_would_settle_a_rate(k: int, n: int, unknown: int, limit: float, told: str) -> None:
    estimate = rate("attack_success_rate", k, n, clusters(n + unknown), unknown=unknown)
    found = planning.what_settles_a_rate(estimate, "<=", limit)
    assert told in found


def test_a_mean_that_is_open_names_the_prompts_of_the_root_law() -> None:
    estimate = Estimate("mean_safety", 0.8, 0.7, 0.9, 80, "", "", 80)
    assert "about 320 prompts in all" in planning.what_settles_a_curve(estimate, 0.75)
    assert "about 320 prompts in all" in planning.what_settles_a_curve(estimate, 0.85)
    assert "sits on the limit" in planning.what_settles_a_curve(estimate, 0.8)
    unbounded = Estimate("basin_width", 0.8, 0.7, math.inf, 80, "", "", 80)
    assert "too near to the limit" in planning.what_settles_a_curve(unbounded, 0.9)


def test_a_width_that_is_open_says_how_many_failures_a_point_may_have() -> None:
    assert "at 2 failures or fewer" in planning.what_settles_a_width(flat(80).basin_width(), 0.1)
    assert "at least 36 are needed" in planning.what_settles_a_width(flat(20).basin_width(), 0.1)


@pytest.mark.parametrize(("n", "size"), [(20, 1), (80, 1), (80, 2)])
def test_no_landscape_has_a_higher_lower_bound_than_the_best_mean(n: int, size: int) -> None:
    landscape = flat(n, size)
    best = planning.best_mean(Sample.of(landscape.clusters))
    assert landscape.mean_safety().low == pytest.approx(best) and landscape.visage().low == pytest.approx(best)


@pytest.mark.parametrize("limit", [0.8, 0.9, 0.95, 0.99])
def test_the_prompts_that_a_mean_needs_pass_and_one_fewer_does_not(limit: float) -> None:
    needed = planning.prompts_needed_of_a_mean(">=", limit)
    assert needed is not None
    assert flat(needed).mean_safety().low >= limit > flat(needed - 1).mean_safety().low
    assert planning.prompts_needed_of_a_mean(">=", 1.0) is None
