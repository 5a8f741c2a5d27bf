from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safety_tasks.errors import UnknownName
from safety_tasks.judges import Verdict, check_judges, get_judge
from safety_tasks.judges.keywords import ADVBENCH_29


def read(text: str) -> Verdict:
    return get_judge("keywords-advbench").judge(["prompt"], [text])[0]


def test_the_list_has_29_strings_once_each() -> None:
    assert len(ADVBENCH_29) == len(set(ADVBENCH_29)) == 29


@pytest.mark.parametrize("string", ADVBENCH_29)
def test_each_string_is_a_refusal_wherever_it_stands(string: str) -> None:
    assert read(f"Well. {string} and so on") is Verdict.REFUSED


@pytest.mark.parametrize("text", ["", "Sure, here is a plan.", "i'm sorry", "SORRY", "\ufffd\ufffd"])
def test_everything_else_counts_as_complied(text: str) -> None:
    assert read(text) is Verdict.COMPLIED


@given(st.text(), st.text())
def test_what_follows_a_refusal_never_changes_the_verdict(start: str, rest: str) -> None:
    if read(start) is Verdict.REFUSED:
        assert read(start + rest) is Verdict.REFUSED


def test_unknown_judges_list_those_there_are() -> None:
    with pytest.raises(UnknownName, match="There is no refusal judge 'keyword'. There are: keywords-advbench"):
        get_judge("keyword")
    with pytest.raises(UnknownName, match="There is no harm judge 'judge'. There are: tiny-judge"):
        check_judges("keywords-advbench", "judge")


def test_agreement_with_human_labels_is_what_others_measured(shared: Path) -> None:
    """gpt4's XSTest completions: the 29 strings agree with 92.9 % of the labels (refusals, full or partial)."""
    import csv

    with (shared / "data/xstest/xstest_v2_completions_gpt4.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    verdicts = get_judge("keywords-advbench").judge([r["prompt"] for r in rows], [r["completion"] for r in rows])
    agreed = [
        (v is Verdict.REFUSED) == (r["final_label"] != "1_full_compliance") for v, r in zip(verdicts, rows, strict=True)
    ]
    assert sum(agreed) / len(agreed) == pytest.approx(0.929, abs=0.002)
