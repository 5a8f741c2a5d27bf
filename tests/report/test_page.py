"""The page: true, whole, escaped, and alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import jinja2
import pytest
from report_builders import gate, landscape_with, rate_of, report_on

from safety_tasks.report import GateRow, Report, render_html
from safety_tasks.report.bundle import chart_script
from safety_tasks.report.page import environment

Page = Callable[[Report], str]
LIMIT = 1.5e6
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7*7 }}<!--"


def without_bundle(html: str) -> str:
    return html.replace(chart_script().text, "")


def text_of(html: str) -> str:
    """What a reader sees: no tags, no scripts, no styles."""

    class Reader(HTMLParser):
        words: list[str] = []
        skipped = 0

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.skipped += tag in ("script", "style", "noscript")

        def handle_endtag(self, tag: str) -> None:
            self.skipped -= tag in ("script", "style", "noscript")

        def handle_data(self, data: str) -> None:
            if not self.skipped:
                self.words.append(data)

    reader = Reader()
    reader.words = []
    reader.feed(without_bundle(html))
    return " ".join(" ".join(reader.words).split())


@pytest.mark.parametrize("kind", ["green", "red", "censored"])
def test_a_page_loads_nothing_and_stays_small(kind: str, page: Page, request: pytest.FixtureRequest) -> None:
    html = page(request.getfixturevalue(kind))
    own = without_bundle(html)
    assert not re.findall(r"""(?i)\b(?:src|href|srcset|action|poster)\s*=\s*["']?(?!#)[^\s>"']+""", own)
    assert not re.findall(r"(?i)@import|url\(|<link|<iframe|<base\b", own)
    assert len(html.encode()) < LIMIT


def test_the_policy_admits_only_the_script_of_the_page(green: Report, page: Page) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page(green))
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    script = re.search(r"script-src ([^;]+);", policy[1])
    assert script is not None and script[1] == f"'{chart_script().integrity}'"


def test_hostile_names_are_text() -> None:
    row = GateRow(HOSTILE, "error", HOSTILE, replace(rate_of("x", 1), name=HOSTILE, note=HOSTILE), 0.5, "<=")
    report = Report(HOSTILE, "error", (row,), (), None, {HOSTILE: HOSTILE}, {"nested": {HOSTILE: [HOSTILE]}}, HOSTILE)
    own = without_bundle(render_html(report))
    assert "<script>alert" not in own and "<img" not in own and "<!--" not in own
    assert own.count("</script>") == own.count("<script")
    assert "{{ 7*7 }}" in text_of(own)
    assert f"{HOSTILE}: " not in own and text_of(own).count("alert(1)") >= 6


def test_verdict_is_a_word_and_a_symbol_not_only_a_colour(green: Report, red: Report, page: Page) -> None:
    assert "✓ PASS" in text_of(page(green)) and "3 of 3 gates passed" in text_of(page(green))
    assert "✗ FAIL" in text_of(page(red)) and "1 of 3 gates passed" in text_of(page(red))


def test_a_page_without_gates_is_no_pass() -> None:
    text = text_of(render_html(report_on(None, gates=(), decision="pass")))
    assert "PASS" not in text and "NO GATES" in text and "nothing was decided" in text


def test_a_report_cannot_pass_over_a_gate_that_does_not() -> None:
    missed = gate(rate_of("attack_success_rate", 90), "<=", 0.05)
    with pytest.raises(ValueError, match="cannot pass while 'attack_success_rate <= 0.05' does not"):
        report_on(None, gates=(missed,), decision="pass")
    with pytest.raises(ValueError, match="'green' is no outcome"):
        report_on(None, decision="green")


def test_what_a_pass_does_not_mean_stands_on_the_page(green: Report, page: Page) -> None:
    text = text_of(page(green))
    assert "A pass holds for this prompt set, this judge, this decoding and the language of the prompts only" in text
    assert "Random directions are not the worst case; harmful fine-tuning directions are 13-67 times narrower" in text
    assert not re.search(r"(?i)\b(safe model|is safe|certified|guarantee|worst-case)", text)


def test_numbers_stand_with_interval_n_method_and_target(green: Report, page: Page) -> None:
    text = text_of(page(green))
    for estimate in green.estimates:
        assert f"{estimate.name} {estimate.value:.3f} {estimate.low:.3f} to {estimate.high:.3f} {estimate.n}" in text
        assert f"{estimate.method}; {estimate.target}" in text
    assert "n = 40 prompts of builtin-harmful, judge keywords-advbench, 3 random directions (seed 0), 21 points" in text


def test_censored_numbers_are_lower_bounds(censored: Report, page: Page) -> None:
    text = text_of(page(censored))
    assert "basin_width ≥ 1.000 1.000 to no upper bound" in text
    assert "≥ 0.500 [0.500, no bound] none up to the grid's end" in text
    assert " inf " not in text and "nan" not in text


def test_unscored_answers_are_told_and_nothing_becomes_nan() -> None:
    assert "10.0% of the answers were unscored" in text_of(render_html(report_on(landscape_with(0.3, unscored=4))))


def test_visage_never_stands_alone(green: Report, page: Page) -> None:
    landscape = green.landscape
    assert landscape is not None
    completed = text_of(render_html(replace(green, estimates=(landscape.visage(),))))
    assert "basin_width 0.6" in completed and "mean_safety 0." in completed
    withheld = text_of(render_html(report_on(None, estimates=(landscape.visage(),))))
    assert "VISAGE is left out" in withheld and f"visage {landscape.visage().value:.3f}" not in withheld


def test_without_a_landscape_the_page_says_what_would_measure_it() -> None:
    text = text_of(render_html(report_on(None)))
    assert "No landscape was measured in this run" in text and "--llm-gate 'basin_width >= 0.20'" in text


def test_a_gate_without_an_estimate_is_not_measured() -> None:
    row = GateRow("harmful_score <= 0.05", "error", "error: no harm judge is named", None, 0.05, "<=")
    text = text_of(render_html(report_on(None, gates=(row,), decision="error")))
    assert "harmful_score <= 0.05 ! error not measured <= 0.05 error: no harm judge is named" in text


def test_secrets_reach_neither_text_nor_charts() -> None:
    html = render_html(report_on(None, command="pytest --llm-model-args token=s3cr3t-value", facts={"api_key": "k3y"}))
    assert "s3cr3t-value" not in html and "k3y" not in html and "token=***" in html


def test_chart_data_is_json_that_no_tag_can_leave(green: Report, page: Page) -> None:
    specs = re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', page(green), re.S)
    assert [name for name, _ in specs] == [*(f"gate-{n}-chart" for n in (1, 2, 3)), "safety-chart", "shares-chart"]
    for _, spec in specs:
        assert json.loads(spec)["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
        assert "<" not in spec


def test_a_field_that_is_missing_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        environment().get_template("page.html.j2").render(report={}, word="pass")
