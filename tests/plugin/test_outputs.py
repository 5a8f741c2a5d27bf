from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import safety_tasks.report
from pytest_llmsafety.terminal import summary_lines
from pytest_llmsafety.testing import COMPLIANCE, REFUSAL
from safety_tasks.estimates import rate
from safety_tasks.records import GateRow, Report

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
    assert not (pytester.path / ".llmsafety/report.html").exists()


def test_no_answer_of_the_model_is_in_any_output(session: Session, pytester: pytest.Pytester) -> None:
    result = session("-vv", "-l", "--tb=long", "--junitxml=out.xml", fake="asr_at_origin=0.9")
    written = [path.read_text(errors="ignore") for path in pytester.path.rglob("*") if path.is_file()]
    for text in (COMPLIANCE, REFUSAL):
        assert not [found for found in (str(result.stdout), *written) if text in found]


def test_collecting_only_measures_and_writes_nothing(session: Session, pytester: pytest.Pytester) -> None:
    result = session("--collect-only")
    assert result.ret == 0 and not (pytester.path / ".llmsafety").exists()
    result.stdout.no_fnmatch_line("decision:*")


def asr(answered: int, judge: str = "refusal", n: int = 200) -> GateRow:
    """The row of a gate on this many answered prompts."""
    estimate = rate("attack_success_rate", answered, n, [str(i) for i in range(n)], judge=judge)
    decision = estimate <= 0.05
    return GateRow("attack_success_rate <= 0.05", decision.outcome.value, decision.sentence, estimate, 0.05, "<=")


def report_of(*rows: GateRow, decision: str = "fail", **more: object) -> Report:
    found = tuple(row.estimate for row in rows if row.estimate is not None)
    return replace(Report("m", decision, rows, found, None), **more)


def test_the_reports_path_is_the_last_line_and_the_decision_the_one_before(session: Session) -> None:
    lines = session("-q", "--llm-n-prompts=100").outlines
    last = next(index for index, line in enumerate(lines) if line.startswith("report: "))
    assert lines[last - 1] == "decision: pass" and lines[last].endswith("report.html")
    assert not [line for line in lines[last + 1 :] if not line.startswith("3 passed") and line]


def test_inconclusive_is_told_apart_from_fail() -> None:
    assert summary_lines(report_of(asr(150)))[0].startswith("FAIL  attack_success_rate <= 0.05  0.750 [")
    assert summary_lines(report_of(asr(8), decision="inconclusive"))[0].startswith("INCONCLUSIVE  attack_success_rate")


def test_what_a_gate_is_compared_with_stands_beside_its_value() -> None:
    row = asr(150)
    compared = {row.line: {"with": "baseline", "value": 0.01, "change": 0.74}}
    lines = summary_lines(report_of(row, facts={"compared": compared}))
    assert "baseline 0.010, change +0.740" in " ".join(" ".join(lines[:2]).split())


def test_the_table_is_readable_at_100_columns_with_three_judges_and_long_gates(session: Session) -> None:
    gate = "--llm-gate=coherent_compliance_rate <= 0.0512345"
    judges = "--llm-judge=refusal+keywords-advbench+keywords-wei"
    lines = session(gate, judges, "--llm-gate=basin_width >= 0.2", "--llm-points=5", "--llm-directions=2").outlines
    table = lines[next(i for i, line in enumerate(lines) if "language model safety" in line) + 1 :]
    table = table[: next(i for i, line in enumerate(table) if line.startswith("decision: "))]
    assert len(table) > 10 and max(map(len, table)) <= 100
    for judge in ("keywords-advbench", "keywords-wei"):
        assert len([line for line in table if line.startswith(f"second opinion of {judge}: ")]) == 1
        assert len([line for line in table if line.startswith(f"judge {judge}: ")]) == 1
    assert len(table) < 40


def test_a_gate_that_is_longer_than_its_column_leaves_the_others_where_they_are() -> None:
    long = replace(asr(150), line="attack_success_rate[category=" + "x" * 60 + "] <= 0.05")
    lines = summary_lines(report_of(asr(150), long))
    assert lines[1].endswith("] <= 0.05") and lines[2].index("0.750") == lines[0].index("0.750")


def test_a_reason_is_told_once_and_without_secrets() -> None:
    rows = [GateRow(f"visage >= 0.{i}", "error", "no model at http://me:pw9@host", None, 0.1, ">=") for i in (1, 2)]
    lines = summary_lines(report_of(*rows, decision="error"))
    assert [line for line in lines if "no model" in line] == [
        "ERROR  visage >= 0.1  not measured  no model at http://***@host"
    ]


SCHEMA = json.loads((Path(safety_tasks.report.__file__).with_name("schema.json")).read_text())


@pytest.mark.parametrize(
    ("fake", "arguments", "decision"),
    [
        ("", ["--llm-gate=basin_width >= 0.6", "--llm-points=5", "--llm-directions=2"], "inconclusive"),
        ("asr_at_origin=0.9", ["--llm-judge=refusal+keywords-wei"], "fail"),
        ("", ["-k", "over_refusal"], "incomplete"),
        ("", ["--llm-gates=none"], "none"),
        ("beyond='?'", [], "error"),
    ],
)
def test_report_json_follows_its_schema_and_has_the_decision(
    session: Session, pytester: pytest.Pytester, fake: str, arguments: list[str], decision: str
) -> None:
    pytester.makepyfile("def test_over_refusal(llm_safety): llm_safety.over_refusal_rate")
    session(*arguments, fake=fake)
    found = json.loads((pytester.path / ".llmsafety/report.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    assert found["decision"] == decision


def test_the_schema_has_every_field_and_refuses_another_decision() -> None:
    facts = safety_tasks.report.report_to_dict(report_of(asr(150)))
    assert set(facts) == set(SCHEMA["properties"]) == set(SCHEMA["required"])
    assert set(facts["gates"][0]) == set(SCHEMA["$defs"]["gate"]["properties"])
    estimate, at_times = SCHEMA["$defs"]["estimate"], {"repeats", "lowest", "highest", "decimals"}
    assert set(facts["gates"][0]["estimate"]) == set(estimate["required"]) == set(estimate["properties"]) - at_times
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**facts, "decision": "green"}, SCHEMA)
