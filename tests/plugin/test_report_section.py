"""pytest_llmsafety_report_section: what a project adds to the report, as plain data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safety_tasks.records import Report, Section
from safety_tasks.report import render_html, report_to_dict

CONFTEST = """
from pytest_llmsafety.testing import FakeModel

def pytest_llmsafety_load_model(config, model):
    return FakeModel()

def pytest_llmsafety_report_section(config, report):
    {body}
"""
ONE_GATE = ("--llm-model=fake", "--llm-n-prompts=90", "--llm-gates=none", "--llm-gate=attack_success_rate <= 0.05")


def run(pytester: pytest.Pytester, body: str) -> pytest.RunResult:
    pytester.makeconftest(CONFTEST.format(body=body))
    return pytester.runpytest_inprocess(*ONE_GATE)


def report_in(folder: Path) -> tuple[str, dict[str, object]]:
    page = folder / ".llmsafety" / "report.html"
    return page.read_text(encoding="utf-8"), json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))


def test_a_section_is_shown_escaped_and_kept_in_the_json(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "return {'title': 'Data <cards>', 'lines': [f'{report.model}: <script>alert(1)</script>', 'token=abcdefgh123'],"
        " 'columns': ['set', 'size'], 'rows': [['our & theirs', 12], ['none', None]]}",
    )
    result.assert_outcomes(passed=1)
    page, facts = report_in(pytester.path)
    assert "<h2>Data &lt;cards&gt;</h2>" in page and "fake: &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<td>our &amp; theirs</td><td>12</td>" in page and '<th scope="col">size</th>' in page
    assert "abcdefgh123" not in page + json.dumps(facts)
    assert facts["sections"] == [
        {
            "title": "Data <cards>",
            "lines": ["fake: <script>alert(1)</script>", "token=***"],
            "columns": ["set", "size"],
            "rows": [["our & theirs", 12], ["none", None]],
        }
    ]


def test_nothing_returned_adds_nothing(pytester: pytest.Pytester) -> None:
    run(pytester, "return None").assert_outcomes(passed=1)
    assert report_in(pytester.path)[1]["sections"] == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "return '<b>bold</b>'",
            "TypeError: it must return a dict with title, and lines, or columns and rows; found str",
        ),
        ("return {'title': 'x', 'html': '<b>'}", "TypeError: it must return a dict *; found keys 'title', 'html'"),
        ("return {'title': 'x', 'lines': 'one'}", "TypeError: lines must be a list, not str"),
        ("raise RuntimeError('no network, token=abcdefgh123')", "RuntimeError: no network, token=[*][*][*]"),
    ],
)
def test_what_is_no_section_is_told_and_turns_the_session_red_but_loses_no_report(
    pytester: pytest.Pytester, body: str, told: str
) -> None:
    result = run(pytester, body)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["PASS *", f"pytest_llmsafety_report_section of *conftest.py: {told}", "report: *"])
    page, facts = report_in(pytester.path)
    assert facts["decision"] == "pass" and facts["sections"] == [] and "attack_success_rate" in page


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"title": 3, "lines": ("x",)}, "title, lines and columns must be text, not int"),
        ({"title": " ", "lines": ("x",)}, "needs a title, and lines or rows"),
        ({"title": "x"}, "needs a title, and lines or rows"),
        ({"title": "x", "lines": (b"x",)}, "must be text, not bytes"),
        ({"title": "x", "rows": (("a", ["b"]),)}, "a cell must be text, a number or None, not list"),
        ({"title": "x", "rows": (("a", "b"), ("a",))}, "of one length: 2"),
        ({"title": "x", "columns": ("a",), "rows": (("a", "b"),)}, "of one length: 1"),
    ],
)
def test_a_section_holds_plain_data_only(fields: dict[str, object], told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        Section(**fields)  # type: ignore[arg-type]


def test_a_report_without_sections_has_an_empty_list_and_no_heading() -> None:
    report = Report("m", "pass", (), (), None)
    assert report_to_dict(report)["sections"] == []
    with_one = Report("m", "pass", (), (), None, sections=(Section("Of ours", ("line",)),))
    assert "<h2>Of ours</h2>" in render_html(with_one) and "Of ours" not in render_html(report)
