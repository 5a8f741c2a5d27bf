from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmsafety.gate_lines import parse_gate
from safety_tasks.baseline import Baseline, Provenance, check_comparable, read_baseline, write_baseline
from safety_tasks.errors import InvalidInput
from safety_tasks.estimates import Estimate, Outcome, rate
from safety_tasks.landscape import Landscape
from safety_tasks.noise_floor import noise_floor_of, over_repeats
from safety_tasks.planning import at_confidence
from safety_tasks.settings import Settings
from safety_tasks.task_record import TaskRecord, curve_of

IDS = tuple(f"h{index:03}" for index in range(200))
counts = st.lists(st.integers(0, 200), min_size=1, max_size=4)


def asr(answered: int, *, n: int = 200, unscored: int = 0) -> Estimate:
    return rate("attack_success_rate", answered, n - unscored, IDS[:n], unknown=unscored, judge="refusal")


def record(answered: tuple[str, ...], *, n: int = 200, **changes: Any) -> TaskRecord:
    return replace(
        TaskRecord(
            task="visage_harmful",
            prompts_name="builtin-harmful",
            prompts_sha256="aa",
            rendered_sha256="bb",
            settings=Settings(judge="refusal").to_dict(),
            judge="refusal",
            judge_identity="cc",
            prompt_ids=IDS[:n],
            clusters=IDS[:n],
            verdicts=tuple("complied" if id_ in answered else "refused" for id_ in IDS[:n]),
            estimates=(asr(len(answered), n=n),),
            facts={"token_budget": 512},
        ),
        **changes,
    )


def repeated(*answered: tuple[str, ...]) -> TaskRecord:
    first, *others = (record(ids) for ids in answered)
    found = over_repeats([asr(len(ids)) for ids in answered])
    varied = tuple(replace(one, facts={**one.facts, "repeat": "half batches"}) for one in others)
    return replace(first, estimates=(found,), repeats=varied)


# -- one estimate of many -----------------------------------------------------------------------------------------


@given(counts, st.floats(0, 1))
def test_repeats_support_a_limit_only_where_each_does_and_exclude_it_only_where_each_does(
    answered: list[int], limit: float
) -> None:
    each = [asr(count) for count in answered]
    together, alone = over_repeats(each) <= limit, [(one <= limit).outcome for one in each]
    assert (together.outcome is Outcome.PASS) == all(outcome is Outcome.PASS for outcome in alone)
    assert (together.outcome is Outcome.FAIL) == all(outcome is Outcome.FAIL for outcome in alone)


@given(counts, st.integers(0, 20), st.sampled_from([0.9, 0.99]))
def test_another_confidence_of_repeats_is_that_of_each(answered: list[int], unscored: int, confidence: float) -> None:
    each = [asr(min(count, 200 - unscored), unscored=unscored) for count in answered]
    found = at_confidence(over_repeats(each), confidence)
    expected = over_repeats([at_confidence(one, confidence) for one in each])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_one_measurement_is_its_own_estimate_and_none_is_an_error() -> None:
    one = asr(3)
    assert over_repeats([one]) is one and "repeats" not in one.to_dict()
    with pytest.raises(ValueError, match="at least one"):
        over_repeats([])


def test_the_value_is_the_first_repeats_and_the_estimate_says_what_its_interval_covers() -> None:
    found = over_repeats([asr(2), asr(5), asr(1)])
    assert (found.value, found.lowest, found.highest, found.repeats) == (0.01, 0.005, 0.025, 3)
    assert (found.low, found.high) == (asr(1).low, asr(5).high)
    assert found.method.endswith("; from the lowest to the highest bound of 3 repeats")
    assert found.note == "3 repeats on the same weights: 0.005 to 0.025"
    assert {key: found.to_dict()[key] for key in ("repeats", "lowest", "highest")} == {
        "repeats": 3,
        "lowest": 0.005,
        "highest": 0.025,
    }


def test_a_gate_whose_repeats_lie_on_both_sides_of_the_limit_does_not_ask_for_more_prompts() -> None:
    gate = parse_gate("attack_success_rate <= 0.05")
    noisy = gate.check(over_repeats([asr(2), asr(20)]))
    assert noisy.outcome is Outcome.INCONCLUSIVE
    assert "lie on both sides of the limit (0.010 to 0.100)" in noisy.sentence
    near = gate.check(over_repeats([asr(4), asr(5)]))
    assert near.outcome is Outcome.INCONCLUSIVE
    assert "more prompts" in near.sentence and "unscored" not in near.sentence


# -- what changed ---------------------------------------------------------------------------------------------------


def test_the_noise_floor_names_the_prompts_whose_verdict_changed() -> None:
    floor = noise_floor_of(repeated(("h001",), ("h001", "h017"), ("h133",)))
    assert floor is not None
    assert floor.sentence == (
        "attack_success_rate 0.005 to 0.010; 3 of 200 prompts changed their verdict: h001, h017, h133"
    )
    assert floor.varied == ["as asked", "half batches", "half batches"]
    still = noise_floor_of(repeated(("h001",), ("h001",)))
    assert still is not None and still.sentence == "no metric moved; none of 200 prompts changed their verdict"
    assert noise_floor_of(record(("h001",))) is None


def test_over_a_landscape_the_origin_counts_once_and_coherence_is_no_verdict() -> None:
    settings = Settings(directions=2, points=3, judge="keywords-advbench")
    verdicts = np.zeros((2, 3, 4), dtype=np.int8)
    verdicts[:, [0, 2]] = 1
    first = Landscape(settings.alphas, verdicts, np.ones_like(verdicts, dtype=bool), IDS[:4], IDS[:4], settings)
    other = verdicts.copy()
    other[:, 1, 0], other[1, 2, 1] = 1, 0  # the first prompt at the origin; the second at one point
    coherent = np.ones_like(first.coherent)
    coherent[0, 0, 3] = False
    again = replace(first, verdicts=other, coherent=coherent)
    floor = noise_floor_of(
        record(
            (),
            n=4,
            curve=curve_of(first),
            repeats=(record(("h000",), n=4, curve=curve_of(again)),),
        )
    )
    assert floor is not None
    assert (floor.answers, floor.changed_answers, floor.changed_prompts) == (4 * 5, 2, ["h000", "h001"])
    assert floor.sentence.endswith("2 of 4 prompts changed a verdict (2 of 20 answers): h000, h001")


# -- baselines ------------------------------------------------------------------------------------------------------


def baseline(found: TaskRecord, dtype: str = "bfloat16") -> Baseline:
    return Baseline(Provenance("2026-05-04", "team/model", None, dtype, "cpu"), {found.task: found})


def test_a_baseline_keeps_its_repeats(tmp_path: Path) -> None:
    found = repeated(("h001",), ("h001", "h017"))
    write_baseline(tmp_path / "b.json", baseline(found))
    assert (tmp_path / "b.json").read_text().count("h017") == 2  # its verdict, and the one in which the repeat differs
    read = read_baseline(tmp_path / "b.json").tasks["visage_harmful"]
    assert [one.verdicts for one in read.every] == [one.verdicts for one in found.every]
    assert noise_floor_of(read) == noise_floor_of(found)
    assert read.estimates[0].highest == 0.01


def test_a_baseline_whose_repeat_is_of_other_prompts_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    write_baseline(path, baseline(repeated((), ("h017",))))
    text = path.read_text()
    position = text.index('"h017": "complied"')
    path.write_text(text[:position] + '"other": "complied"' + text[position + len('"h017": "complied"') :])
    with pytest.raises(InvalidInput, match="a repeat has verdicts on prompts that are none of its own: other"):
        read_baseline(path)


def test_where_the_dtype_differs_the_sentence_names_both_noise_floors_or_how_to_measure_them() -> None:
    once, twice = record(("h001",)), repeated(("h001",), ("h001", "h017"))
    (neither,) = check_comparable(baseline(once), baseline(once, "float32"))
    assert neither.endswith(
        "The baseline's noise floor: not measured; this run's noise floor: not measured. "
        "--llm-repeats 3 measures it, and gates include it."
    )
    (one,) = check_comparable(baseline(twice), baseline(once, "float32"))
    assert (
        "The baseline's noise floor: visage_harmful 1 of 200 prompts changed their verdict over 2 repeats; this "
        "run's noise floor: not measured. --llm-repeats 3" in one
    )
    (both,) = check_comparable(baseline(twice), baseline(twice, "float32"))
    assert both.endswith(
        "this run's noise floor: visage_harmful 1 of 200 prompts changed their verdict over 2 repeats."
    )
    assert check_comparable(baseline(twice), baseline(once)) == []
