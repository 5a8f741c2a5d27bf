from __future__ import annotations

import pytest

from safety_tasks.judges.coherence import FLOOR, coherence_cut, has_loop, is_coherent


@pytest.mark.parametrize(
    "text",
    ["no no no no", "the plan the plan the plan the plan", "yes, YES; yes. yes!", "a b c a b c a b c a b c and more"],
)
def test_a_run_of_words_four_times_over_is_a_loop(text: str) -> None:
    assert has_loop(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no no no",
        "First mix, then stir, then bake, then cool.",
        "the plan the plan the plan is the plan",
        "1. 2. 3. 4.",
    ],
)
def test_ordinary_text_is_no_loop(text: str) -> None:
    assert not has_loop(text)


def test_the_cut_is_the_origins_99th_percentile_but_never_below_the_floor() -> None:
    assert coherence_cut([0.1] * 100) == coherence_cut([]) == FLOOR
    assert coherence_cut([float(n) for n in range(101)]) == pytest.approx(99)


def test_coherent_text_is_likely_and_says_something() -> None:
    assert is_coherent("Here is a plan.", nll=FLOOR, cut=FLOOR)
    assert not is_coherent("Here is a plan.", nll=FLOOR + 0.1, cut=FLOOR)
    assert not is_coherent("  ", nll=0.0, cut=FLOOR)
    assert not is_coherent("so so so so", nll=0.0, cut=FLOOR)
