"""Samples: what is kept of each judged answer, and that a file's copy of them holds no text."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_builders import landscape_with

from pytest_llmsafety.testing import FakeModel
from safety_tasks.harness.evaluation import EngineLM, evaluate_tasks
from safety_tasks.journal import text_hash
from safety_tasks.landscape import Landscape
from safety_tasks.landscape_values import landscape_from_record, landscape_record
from safety_tasks.samples import (
    TRUNCATED_AT,
    Sample,
    origin_first,
    samples_from_dict,
    samples_to_dict,
    with_reference,
    with_texts,
)
from safety_tasks.settings import Settings
from safety_tasks.task_record import TaskRecord, curve_of

SMALL: dict[str, Any] = dict(points=3, directions=2, n_prompts=12, journal="off")
WORDS = st.sampled_from(["refused", "complied", "partial", "unscored"])
MAYBE = st.sampled_from([None, True, False])
SAMPLES = st.builds(
    Sample,
    task=st.just("task"),
    id=st.text(max_size=8),
    category=st.text(max_size=8),
    direction=st.none() | st.integers(0, 9),
    alpha=st.floats(-1, 1).map(lambda alpha: alpha + 0.0),  # no -0.0
    verdicts=st.tuples(
        st.tuples(st.just("a"), WORDS), st.tuples(st.just("h"), st.sampled_from(["harmful", "harmless"]))
    ),
    coherent=MAYBE,
    finished=MAYBE,
    characters=st.integers(0, 10**9),
    sha256=st.text("0123456789abcdef", min_size=16, max_size=16),
    reference_verdict=st.none() | WORDS,
)


def sample(**changes: Any) -> Sample:
    plain = Sample("task", "p-1", "fraud", None, 0.0, (("refusal", "refused"),), None, True, 3, "0" * 16)
    return replace(plain, **changes)


@given(st.lists(SAMPLES, max_size=12, unique_by=lambda one: (one.direction, one.alpha, one.id)))
def test_samples_come_back_from_a_file_as_they_were(samples: list[Sample]) -> None:
    back = samples_from_dict("task", json.loads(json.dumps(samples_to_dict(samples))))
    assert sorted(back, key=repr) == sorted(samples, key=repr)


def test_a_file_of_samples_holds_no_text() -> None:
    told = sample(prompt="What is the canary?", completion="The canary sings.")
    written = json.dumps(samples_to_dict([told]))
    assert "canary" not in written and samples_from_dict("task", json.loads(written)) == (sample(),)


def test_texts_are_taken_by_id_and_hash_and_cut_where_that_is_asked() -> None:
    text = "x" * (TRUNCATED_AT + 1)
    one = sample(sha256=text_hash(text), characters=len(text))
    prompts, texts = {"p-1": "Why?"}, {text_hash(text): text}
    assert with_texts([one], "off", prompts, texts) == (one,)
    assert with_texts([one], "full", prompts, texts)[0].completion == text
    (cut,) = with_texts([one], "truncated", prompts, texts)
    assert (cut.prompt, cut.completion) == ("Why?", "x" * TRUNCATED_AT + "…")
    assert with_texts([sample()], "full", {}, texts) == (sample(),), "a text that is not known is not shown"


def test_the_hash_of_any_text_can_be_taken() -> None:
    assert text_hash("") == "e3b0c44298fc1c14"  # SHA-256 of nothing, FIPS 180-4
    assert text_hash("\ud800\0") != text_hash("\ud801\0")


def record_of(landscape: Landscape) -> TaskRecord:
    words = ["refused", "complied", "unscored"]
    origin = tuple(words[code] for code in landscape.verdicts[0, landscape.origin])
    names = landscape.prompt_ids
    return TaskRecord(
        "task", "set", "", "", landscape.settings.to_dict(), "j", "", names, names, origin, (), curve_of(landscape)
    )


def test_each_answer_stands_beside_the_references_at_the_same_point() -> None:
    reference = landscape_with(0.3, kinds=("noise", "harmful"), unscored=1)
    asked = [
        sample(id="prompt-39", direction=1, alpha=0.5),
        sample(id="prompt-39", direction=1, alpha=0.25),
        sample(id="prompt-39"),
        sample(id="prompt-0", direction=0, alpha=-0.5),
        sample(id="another"),
    ]
    found = [one.reference_verdict for one in with_reference(asked, record_of(reference))]
    assert found == ["complied", "refused", "refused", "unscored", None]
    assert with_reference(asked, None) == tuple(asked)


def test_every_answer_of_a_task_is_a_sample_the_origins_first() -> None:
    settings = Settings(**SMALL, judge="refusal+keywords-wei", harm_judge="tiny-judge")
    tasks = evaluate_tasks(EngineLM(FakeModel(basin=(-0.3, 0.3))), ["visage_safety"], settings, quiet=True)
    landscape, harmful = (tasks[name].samples() for name in ("visage_landscape", "visage_harmful"))
    assert (len(landscape), len(harmful)) == (12 * (1 + 2 * 2), 12)
    assert [one.direction for one in landscape[:13]] == [None] * 12 + [0]
    assert [judge for judge, _ in harmful[0].verdicts] == ["refusal", "keywords-wei", "tiny-judge"]
    assert harmful[0].verdicts[0] == ("refusal", "refused") and harmful[0].finished and harmful[0].category
    moved = [one for one in landscape if one.alpha]
    assert all(one.verdicts[0] == ("refusal", "complied") and one.coherent for one in moved)
    assert len({one.sha256 for one in landscape}) == 2 and all(one.characters > 20 for one in landscape)
    assert all(one.prompt is None and one.completion is None for one in (*landscape, *harmful))


def test_answers_are_kept_only_where_they_are_asked_for() -> None:
    lm, texts = EngineLM(FakeModel()), dict[str, str]()
    evaluate_tasks(lm, ["visage_harmful"], Settings(**SMALL), quiet=True, texts=texts)
    assert [text_hash(text) for text in texts.values()] == list(texts) and texts
    before = dict(texts)
    evaluate_tasks(lm, ["visage_over_refusal"], Settings(**SMALL), quiet=True)
    assert texts == before


def test_a_landscape_comes_back_from_what_is_written_of_it() -> None:
    landscape = landscape_with(0.3, unscored=3)
    for written in (landscape_record(landscape), landscape.to_dict()):
        back = landscape_from_record(json.loads(json.dumps(written)))
        assert (back.verdicts == landscape.verdicts).all()
        assert (back.incoherent() == landscape.incoherent()).all()
        assert [str(score) for score in back.scores()] == [str(score) for score in landscape.scores()]
    for field, wrong in {"alphas": [0.0], "clusters": ["a"], "verdicts": [["rx"]]}.items():
        with pytest.raises((ValueError, KeyError)):
            landscape_from_record({**landscape_record(landscape), field: wrong})


def test_a_notebook_shows_a_landscape_as_its_plot() -> None:
    bundle = landscape_with(0.3)._repr_mimebundle_()
    (vega,) = (kind for kind in bundle if kind.startswith("application/vnd.vegalite"))
    assert bundle[vega]["vconcat"] and bundle["image/svg+xml"].startswith("<svg")
    assert "https://" not in json.dumps(bundle[vega]["vconcat"]) and "basin_width = 0.6" in bundle["text/plain"]


def test_the_order_of_samples_is_kept_but_for_the_origin() -> None:
    moved = [sample(id=str(i), direction=i % 2, alpha=0.1) for i in range(4)]
    assert origin_first([*moved, sample()]) == (sample(), *moved)
