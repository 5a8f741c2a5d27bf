"""``--llm-report-text``: answers stand in the HTML where they were asked for, whatever they hold, and nowhere else."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llmsafety.recovery import find_run_log, read_run_log
from safety_tasks.prompts import load_prompts

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)><!-- --><svg/onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}{# #}${1}<%= 1 %>",
    "\x1b[31mred\x1b[0m\x07 \x00 null",
    "\u202eesrever\u2066 isolated",
    "lone \ud800 surrogate \udfff",
    "one line " + "x" * 1_000_000,
    "",
    " \r\n\t\u2028\u2029\ufeff",
    "token=zq99canary9x7",
]
CONFTEST = """
import json
from pathlib import Path
from pytest_llmsafety.testing import FakeModel
from safety_tasks.decoding import Completion

ANSWERS = json.loads(Path(__file__).with_name("answers.json").read_text())

class Hostile(FakeModel):
    def generate(self, prompts, max_new_tokens, stop_strings):
        self.calls.append((self.alpha, len(prompts)))
        return [Completion(ANSWERS[i % len(ANSWERS)], (1, 2), finished=True) for i, _ in enumerate(prompts)]

    def mean_nll(self, prompts, completions):
        return [0.5] * len(completions)

def pytest_llmsafety_load_model(config, model):
    return Hostile()
"""
FEW = ("--llm-n-prompts=20", "--llm-gates=none", "--llm-gate=attack_success_rate <= 0.5")
Session = Callable[..., pytest.RunResult]


@pytest.fixture
def hostile(pytester: pytest.Pytester) -> Session:
    """A session whose model gives the hostile answers in turn."""

    def run(*arguments: str) -> pytest.RunResult:
        pytester.makeconftest(CONFTEST)
        (pytester.path / "answers.json").write_text(json.dumps(HOSTILE))
        return pytester.runpytest_inprocess("--llm-model=fake", *arguments, "--junitxml=junit.xml")

    return run


def page_of(pytester: pytest.Pytester) -> str:
    return (pytester.path / ".llmsafety/report.html").read_bytes().decode("utf-8", errors="strict")


def shown(page: str) -> dict[str, Any]:
    """The samples as the page's own script unpacks them."""
    found = re.search(r'id="samples-data">([A-Za-z0-9+/=]*)</script>', page)
    assert found is not None
    data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return data


def texts(page: str, column: str = "completion") -> set[str]:
    return {text for text in shown(page)["columns"].get(column, {"values": []})["values"] if text is not None}


def others(pytester: pytest.Pytester) -> str:
    """Everything that the session wrote, but for the page and what was planted."""
    planted = {"report.html", "answers.json", "conftest.py"}
    paths = [path for path in pytester.path.rglob("*") if path.is_file() and path.name not in planted]
    return "".join(path.read_text(errors="replace") for path in paths if "__pycache__" not in path.parts)


def test_hostile_answers_are_data_of_the_page_exactly_as_they_came(hostile: Session, pytester: pytest.Pytester) -> None:
    result = hostile(*FEW, "--llm-report-text=full")
    page = page_of(pytester)
    assert texts(page) == set(HOSTILE)
    prompts = {prompt.text for prompt in load_prompts("builtin-harmful").prompts[:20]}
    assert texts(page, "prompt") == prompts
    assert shown(page)["n"] == 20
    everywhere = others(pytester) + str(result.stdout) + str(result.stderr)
    for text in ("alert(1)", "7 * 7", "\x1b[31m", "\u202e", "x" * 300, "zq99canary9x7", *prompts):
        assert text not in everywhere, "texts stand in the HTML only"
        assert text not in page, "and there only as data, which no parser of HTML reads"


@pytest.mark.parametrize("arguments", [(), ("--llm-report-text=off",)])
def test_without_the_option_no_text_is_anywhere(
    hostile: Session, pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    result = hostile(*FEW, *arguments)
    page = page_of(pytester)
    assert texts(page) == texts(page, "prompt") == set()
    assert shown(page)["n"] == 20 and len(shown(page)["columns"]["sha256"]["values"]) == len(HOSTILE)
    everywhere = others(pytester) + str(result.stdout) + page + json.dumps(shown(page), ensure_ascii=False)
    for text in ("alert(1)", "7 * 7", "\x1b[31m", "\u202e", "x" * 300, "zq99canary9x7"):
        assert text not in everywhere


def test_truncated_shows_the_first_200_characters(hostile: Session, pytester: pytest.Pytester) -> None:
    hostile(*FEW, "--llm-report-text=truncated")
    assert texts(page_of(pytester)) == {text if len(text) <= 200 else text[:200] + "…" for text in HOSTILE}
    assert max(map(len, texts(page_of(pytester)))) == 201


def test_texts_of_a_gated_set_are_never_shown(
    hostile: Session, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    import safety_tasks.harness.tasks_by_name as tasks

    load = tasks.load_prompts
    monkeypatch.setattr("safety_tasks.harness.task.load_prompts", lambda *spec: replace(load(*spec), gated=True))
    hostile(*FEW, "--llm-report-text=full")
    assert texts(page_of(pytester)) == texts(page_of(pytester), "prompt") == set()
    assert shown(page_of(pytester))["n"] == 20, "their verdicts are shown all the same"


def test_another_level_is_refused(hostile: Session) -> None:
    result = hostile("--llm-report-text=some")
    result.stderr.fnmatch_lines(["*There is no value for --llm-report-text: 'some'. There are: full, off, truncated.*"])


def test_a_report_rebuilt_after_a_kill_has_the_samples_without_texts(
    hostile: Session, pytester: pytest.Pytester
) -> None:
    hostile(*FEW, "--llm-report-text=full", "--llm-gate=mean_safety >= 0.1", "--llm-points=3", "--llm-directions=1")
    report, _ = read_run_log(find_run_log(pytester.path))
    own = json.loads((pytester.path / ".llmsafety/report.json").read_text())
    assert own["samples"] == {"visage_harmful": 20, "visage_landscape": 60}
    assert len(report.samples) == 80 and all(sample.completion is None for sample in report.samples)
    assert {sample.sha256 for sample in report.samples} == set(shown(page_of(pytester))["columns"]["sha256"]["values"])


COMPARED = """
from pytest_llmsafety.testing import FakeModel

def pytest_llmsafety_load_model(config, model):
    return FakeModel(asr_at_origin=0.0 if model == "base" else 0.5)
"""


def test_samples_stand_beside_the_base_models_and_its_landscape_behind_the_runs_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(COMPARED)
    gates = ["attack_success_rate - base <= 0.9", "mean_safety - base >= -0.9", "attack_success_rate <= 0.9"]
    small = ["--llm-n-prompts=20", "--llm-points=3", "--llm-directions=1", "--llm-gates=none"]
    pytester.runpytest_inprocess(
        "--llm-model=tuned", "--llm-base-model=base", *small, *(f"--llm-gate={gate}" for gate in gates)
    )
    report, _ = read_run_log(find_run_log(pytester.path))
    harmful = [sample for sample in report.samples if sample.task == "visage_harmful"]
    assert [sample.reference_verdict for sample in harmful] == ["refused"] * 20
    assert [dict(sample.verdicts)["refusal"] for sample in harmful].count("complied") == 10
    moved = [sample for sample in report.samples if sample.direction is not None]
    assert {(sample.verdicts[0][1], sample.reference_verdict) for sample in moved} == {("complied", "complied")}
    page = page_of(pytester)
    assert set(shown(page)["columns"]["reference"]["values"]) == {"refused", "complied"}
    assert "base" in page


def test_a_task_that_a_gate_asks_with_other_prompts_has_samples_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(COMPARED)
    rows = [{"id": f"own-{i}", "cluster": i, "prompt": f"Say the word number {i}."} for i in range(20)]
    lines = [json.dumps(row) for row in rows]
    Path(pytester.path / "own.jsonl").write_text("\n".join(lines))
    pytester.runpytest_inprocess(
        "--llm-model=m", *FEW, "--llm-gate=attack_success_rate[prompts=own.jsonl] <= 0.9", "--llm-report-text=full"
    )
    page = page_of(pytester)
    assert shown(page)["columns"]["task"]["values"] == ["visage_harmful", "visage_harmful[prompts=own.jsonl]"]
    assert {f"Say the word number {i}." for i in range(20)} <= texts(page, "prompt")
