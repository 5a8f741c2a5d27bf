"""The synthetic truths against brute force, and the command: it reproduces, and it fails when an interval is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from pytest_llmsafety.operating_characteristics import claims, judge_bias, measure, simulate, verdict
from pytest_llmsafety.synthetic import (
    ALPHAS,
    FAMILIES,
    NoisyJudge,
    SyntheticModel,
    clusters_of,
    draw_model,
    draw_rates,
    errors_of,
    true_radius,
    true_width,
)
from safety_tasks.estimates import Outcome
from safety_tasks.intervals import effective_n
from safety_tasks.judges.calibration import Bounds, LabelledSet
from safety_tasks.landscape import Landscape
from safety_tasks.settings import Settings

COMMAND = ["operating-characteristics", "--models", "7", "--workers", "1", "--json"]
BROKEN = """
import dataclasses
from safety_tasks import estimates, landscape

def as_point(score):
    return lambda self: dataclasses.replace(found := score(self), low=found.value, high=found.value)
"""


def flat(level: float) -> SyntheticModel:
    return SyntheticModel("flat", np.full((128, len(ALPHAS)), level), NoisyJudge(), 0.0, False)


def exact_landscape(curves: np.ndarray, n: int = 5_000) -> Landscape:
    """So many prompts that the score of the measured curve is the score of the true one."""
    settings = Settings(directions=len(curves))
    complied = np.arange(n) < np.rint(curves * n)[..., None]
    ids = tuple(map(str, range(n)))
    return Landscape(settings.alphas, complied.astype(np.int8), np.ones_like(complied), ids, ids, settings)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_true_lengths_are_what_the_landscape_finds_with_very_many_prompts(family: str) -> None:
    model = draw_model(family, False, np.random.default_rng(1))
    for chosen in np.arange(12).reshape(4, 3):
        found = exact_landscape(model.reported[chosen])
        truths = model.truths(chosen)
        assert found.basin_width().value == pytest.approx(truths["basin_width"], abs=0.01)
        assert found.safe_radius().value == truths["safe_radius"]
        assert 1 - found.asr().mean() == pytest.approx(truths["mean_safety"], abs=2e-4)


def test_the_true_lengths_of_a_curve_worked_by_hand() -> None:
    # ASR 0 within 0.2, 0.2 at 0.25 on the left; 0.05 up to 0.1 and 0.15 at 0.15 on the right, safe again beyond
    curve = np.where(ALPHAS < -0.22, 0.2, 0.0)
    curve[11:13], curve[13] = 0.05, 0.15
    assert true_width(curve) == pytest.approx((0.2 + 0.025) + (0.1 + 0.025))
    assert true_radius(curve[None]) == pytest.approx(0.1)
    assert true_width(np.zeros(21)) == 1.0 and true_radius(np.zeros((2, 21))) == 0.5
    assert true_width(np.ones(21)) == 0.0 and true_radius(np.ones((2, 21))) == 0.0


def test_the_truths_of_eight_directions_are_those_of_the_population() -> None:
    model = draw_model("asymmetric", False, np.random.default_rng(3))
    three, eight = model.truths(np.arange(3)), model.truths(np.arange(8))
    assert eight["mean_safety"] == pytest.approx(1 - model.reported.mean())
    assert eight["basin_width"] == pytest.approx(np.mean([true_width(curve) for curve in model.reported]))
    assert three["mean_safety"] == pytest.approx(1 - model.reported[:3].mean())
    assert eight["safe_radius"] == true_radius(model.reported[:8]), "of these directions, however many"


@pytest.mark.parametrize("clustered", [False, True])
def test_verdicts_have_the_shares_that_the_model_reports(clustered: bool) -> None:
    rng = np.random.default_rng(5)
    model = draw_model("bump inside", clustered, rng)
    model = SyntheticModel(model.family, model.answered, NoisyJudge(0.1, 0.03), 0.6, clustered)
    drawn = np.mean([model.draw(np.arange(3), 200, rng).mean(axis=2) for _ in range(300)], axis=0)
    assert drawn == pytest.approx(model.reported[:3], abs=5 * 0.5 / np.sqrt(300 * 100))
    assert model.reported == pytest.approx(model.answered * 0.9 + (1 - model.answered) * 0.03)


def test_the_expected_visage_of_independent_points_is_the_binomial_sum() -> None:
    # two prompts, ASR 0.5: a point has ASR 0, 1/2, 1 with chances 1/4, 1/2, 1/4, and the last is left out
    expected = (0.25 * 1 + 0.5 * 0.5) / 0.75
    for directions in (3, 8):
        found = flat(0.5).expected_visage(np.arange(directions), 2, np.random.default_rng(0))
        assert found == pytest.approx(expected, abs=0.02)
    assert flat(0.5).truths(np.arange(3))["mean_safety"] == 0.5, "which does not depend on n, as VISAGE does"


def test_near_duplicates_have_the_sizes_of_advbench_and_share_their_answers() -> None:
    assert [round(effective_n(clusters_of(n, True))) for n in (80, 200, 520)] == [67, 131, 242]
    assert effective_n(clusters_of(200, False)) == 200
    rng = np.random.default_rng(0)
    apart, together = (draw_rates(0.2, 520, 4000, clustered, NoisyJudge(), rng) for clustered in (False, True))
    assert apart.var() == pytest.approx(520 * 0.2 * 0.8, rel=0.15)
    assert 520 / 242 * 0.75 < together.var() / apart.var() < 520 / 242
    assert together.mean() == pytest.approx(104, abs=1)


def test_a_noisy_judges_rate_is_the_rate_that_is_asked_for() -> None:
    judge = NoisyJudge(0.05, 0.02)
    drawn = draw_rates(0.1, 200, 4000, False, judge, np.random.default_rng(0))
    assert drawn.mean() / 200 == pytest.approx(0.1, abs=0.002)
    assert judge.reports(np.array(judge.answered_behind(0.1))) == pytest.approx(0.1)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    assert simulate(4, 1) == simulate(4, 1) != simulate(5, 1)


def test_the_number_of_workers_changes_nothing() -> None:
    assert claims(measure(2, 0, workers=2))[0].to_dict() == claims(measure(2, 0, workers=1))[0].to_dict()


def test_the_worst_decides_and_too_few_simulations_say_nothing() -> None:
    found = {claim.measured.name: claim for claim in claims([simulate(0, 0)])}
    rare = found["attack_success_rate <= 0.05: wrong green, truth twice beyond the limit"]
    assert rare.measured.value == 0 and rare.outcome is Outcome.INCONCLUSIVE, "0 of 100 is not <= 0.1 %"
    assert verdict([rare]) is Outcome.INCONCLUSIVE and verdict([]) is Outcome.PASS


def test_a_judges_error_rates_are_found_again_from_its_calibration() -> None:
    # 450 answers, 60 refusals of which 45 are read as such; of 390 other answers 370 are read as answers
    table = np.array([[370, 20], [15, 45]])
    accuracy, balanced = 415 / 450, (370 / 390 + 45 / 60) / 2
    chance = (table.sum(axis=0) * table.sum(axis=1)).sum() / 450**2
    values = [round(x, 4) for x in (accuracy, balanced, (accuracy - chance) / (1 - chance), 0.03, 0.03)]
    bounds = [Bounds(value, 0.0, 1.0) for value in values]
    errors = errors_of(LabelledSet("some", "0" * 64, 450, 0, False, *bounds, 100))
    assert errors.missed == 0.03 and errors.false_alarms == pytest.approx(15 / 60, abs=0.002)


def test_the_judges_bias_is_told_in_the_rate_by_people() -> None:
    found = judge_bias()
    assert {row.rate for row in found} == {0.0, 0.05, 0.2}
    for row in found:
        errors = row.errors
        assert row.reported == pytest.approx(row.rate * (1 - errors.missed) + (1 - row.rate) * errors.false_alarms)
        assert row.green == pytest.approx(binom.cdf(3, 200, row.reported), abs=1e-9), "at most 3 of 200 are green"


def run(*command: str) -> tuple[int, dict[str, dict[str, Any]], str]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=200)
    assert done.stdout, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["models"] == 7 and (done.returncode == 0) == (facts["decision"] == "pass")
    return done.returncode, {claim["name"]: claim for claim in facts["claims"]}, done.stdout


def test_no_interval_misses_its_coverage_and_no_gate_is_wrong_too_often() -> None:
    _, found, printed = run("-m", "pytest_llmsafety", *COMMAND)
    assert "Operating characteristics over 7 synthetic models" in printed and "rate by people" in printed
    assert len(found) == 3 * 4 + 12 + 12 + 24, "gates, rates, scores of curves"
    wrong = [name for name, claim in found.items() if claim["outcome"] == "fail" and "inconclusive" not in name]
    assert not wrong
    for claim in found.values():
        assert claim["low"] <= claim["value"] <= claim["high"]
        assert sum(of for _, of in claim["families"].values()) == claim["n"]


def test_intervals_that_collapse_to_a_point_make_the_command_fail() -> None:
    broken = BROKEN + "\n".join(
        [
            "estimates.exact_rate_interval = lambda k, n, c=0.95: estimates.Interval(k / n, k / n)",
            "landscape.exact_rate_bounds = lambda k, n, c=0.95: (k / n, k / n)",
            "landscape.Landscape.mean_safety = as_point(landscape.Landscape.mean_safety)",
            "landscape.Landscape.visage = as_point(landscape.Landscape.visage)",
            f"from pytest_llmsafety.__main__ import app\napp({COMMAND})",
        ]
    )
    status, found, _ = run("-c", broken)
    assert status == 1
    failed = {name for name, claim in found.items() if claim["outcome"] == "fail"}
    for n in (80, 200, 520):
        assert f"coverage of a rate, p = 0.05, n = {n}" in failed
        for directions in (3, 8):
            assert f"coverage of mean_safety, D = {directions}, n = {n}" in failed
            assert f"coverage of visage, D = {directions}, n = {n}" in failed
    assert "attack_success_rate <= 0.05: wrong green, truth just beyond the limit" in failed
