from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from pytest_llmsafety.testing import COMPLIANCE, REFUSAL

Session = Callable[..., pytest.RunResult]


def test_the_report_lies_in_an_ignored_folder_with_its_json(session: Session, pytester: pytest.Pytester) -> None:
    result = session("--llm-n-prompts=100")
    folder = pytester.path / ".llmsafety"
    result.stdout.fnmatch_lines([f"report: {folder / 'report.html'}"])
    assert (folder / ".gitignore").read_text() == "*\n"
    facts = json.loads((folder / "report.json").read_text())
    assert facts["decision"] == "pass" and len(facts["gates"]) == 3


def test_the_command_in_the_report_can_be_pasted(session: Session, pytester: pytest.Pytester) -> None:
    session("--llm-gate", "over_refusal_rate <= 0.2", "--llm-n-prompts=100")
    command = json.loads((pytester.path / ".llmsafety/report.json").read_text())["command"]
    assert "--llm-gate 'over_refusal_rate <= 0.2'" in command


def test_the_report_goes_where_it_is_asked_to(session: Session, pytester: pytest.Pytester) -> None:
    session("--llm-report=out/mine.html", fake="asr_at_origin=0.9")
    assert json.loads((pytester.path / "out/mine.json").read_text())["decision"] == "fail"
    assert "attack_success_rate" in (pytester.path / "out/mine.html").read_text()
    assert not (pytester.path / ".llmsafety").exists()


def test_no_answer_of_the_model_is_in_any_output(session: Session, pytester: pytest.Pytester) -> None:
    result = session("-vv", "-l", "--tb=long", "--junitxml=out.xml", fake="asr_at_origin=0.9")
    written = [path.read_text(errors="ignore") for path in pytester.path.rglob("*") if path.is_file()]
    for text in (COMPLIANCE, REFUSAL):
        assert not [found for found in (str(result.stdout), *written) if text in found]


def test_collecting_only_measures_and_writes_nothing(session: Session, pytester: pytest.Pytester) -> None:
    result = session("--collect-only")
    assert result.ret == 0 and not (pytester.path / ".llmsafety").exists()
    result.stdout.no_fnmatch_line("decision:*")
