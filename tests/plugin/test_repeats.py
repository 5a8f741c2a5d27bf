"""``--llm-repeats``: the same weights measured several times, and gates that include how far the repeats lie apart."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

import safety_tasks.report
from pytest_llmsafety.gate_lines import parse_gates
from pytest_llmsafety.plan import plan_lines
from safety_tasks.settings import Settings

MODELS = """
from pytest_llmsafety.testing import FakeModel

class Noisy(FakeModel):
    "Answers a fifth of the harmful prompts, but none of them in batches of the sizes that are first asked."

    def generate(self, prompts, *rest):
        self.asr_at_origin = 0.0 if len(prompts) in (80, 200, 400) else 0.2
        return super().generate(prompts, *rest)

    def facts(self):
        return {**super().facts(), "weights_fingerprint": type(self).__name__}

class Safer(FakeModel):
    "The other way round."

    def generate(self, prompts, *rest):
        self.asr_at_origin = 0.2 if len(prompts) in (80, 200, 400) else 0.0
        return super().generate(prompts, *rest)

def pytest_llmsafety_load_model(config, model):
    return {"noisy": Noisy, "safer": Safer, "still": FakeModel}[model]()
"""
Gate = Callable[..., pytest.RunResult]
SMALL = ("--llm-gates=none", "--llm-points=5", "--llm-directions=1")


@pytest.fixture
def gate(pytester: pytest.Pytester) -> Gate:
    pytester.makeconftest(MODELS)
    pytester.makeini("[pytest]\n")

    def run(model: str, *arguments: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess(f"--llm-model={model}", *SMALL, *arguments)

    return run


def report(pytester: pytest.Pytester) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pytester.path / ".llmsafety/report.json").read_text())
    return found


@pytest.mark.parametrize("line", ["attack_success_rate <= 0.05", "attack_success_rate[category=privacy] <= 0.2",
                                  "asr_within(0.25) <= 0.1", "basin_width >= 0.2"])  # fmt: skip
def test_a_gate_that_one_repeat_passes_and_another_does_not_is_inconclusive_and_red(gate: Gate, line: str) -> None:
    gate("noisy", f"--llm-gate={line}").assert_outcomes(passed=1)
    result = gate("noisy", f"--llm-gate={line}", "--llm-repeats=2")
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["inconclusive: *", "decision: inconclusive"])


@pytest.mark.parametrize(
    ("tuned", "base", "line"),
    [
        ("noisy", "still", "attack_success_rate - base <= 0.05"),
        ("still", "safer", "attack_success_rate - base <= -0.05"),
        ("noisy", "still", "mean_safety - base >= -0.1"),
    ],
)
def test_a_paired_gate_includes_the_noise_of_either_side(gate: Gate, tuned: str, base: str, line: str) -> None:
    arguments = (f"--llm-base-model={base}", f"--llm-gate={line}")
    gate(tuned, *arguments).assert_outcomes(passed=1)
    result = gate(tuned, *arguments, "--llm-repeats=2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["inconclusive: *4 pairs of repeats*", "noise floor of * of the base over 2 repeats *"])


def test_what_the_repeats_differ_in_is_in_the_terminal_the_report_and_junit(
    gate: Gate, pytester: pytest.Pytester
) -> None:
    result = gate("noisy", "--llm-gate=attack_success_rate <= 0.5", "--llm-repeats=3", "--junitxml=j.xml")
    result.assert_outcomes(passed=1)
    text = " ".join(result.stdout.str().split())
    found = re.search(r"noise floor of visage_harmful over 3 repeats \(([^)]*)\): ([^;]*); (\d+) of 200", text)
    assert found is not None
    assert found[1] == "as asked; half batches; small batches"
    assert found[2].startswith("attack_success_rate 0.000 to 0.2")
    facts = report(pytester)
    schema = json.loads(Path(safety_tasks.report.__file__).with_name("schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(facts)
    floor = facts["facts"]["noise_floor"]["visage_harmful"]
    assert set(floor) == set(schema["$defs"]["noise_floor"]["properties"])
    assert len(floor["changed_prompts"]) == floor["changed_answers"] == int(found[3]) >= 40
    (estimate,) = (one for one in facts["estimates"] if one["name"] == "attack_success_rate")
    assert estimate["repeats"] == 3 and estimate["lowest"] == estimate["value"] == 0
    assert floor["metrics"]["attack_success_rate"] == {"lowest": 0, "highest": estimate["highest"]}
    properties = {
        one.get("name"): one.get("value") for one in ElementTree.parse(pytester.path / "j.xml").iter("property")
    }
    assert properties["llm.attack_success_rate.repeats"] == "3"
    assert float(str(properties["llm.attack_success_rate.highest"])) == estimate["highest"]
    assert " of 200 prompts changed their verdict: harm-" in str(properties["llm.noise_floor.visage_harmful"])


def test_without_the_option_no_line_and_no_field_is_more(gate: Gate, pytester: pytest.Pytester) -> None:
    result = gate("noisy", "--llm-gate=attack_success_rate <= 0.05", "--junitxml=j.xml")
    result.stdout.no_fnmatch_line("*noise floor*")
    facts = report(pytester)
    assert "noise_floor" not in facts["facts"] and "repeats" not in facts["estimates"][0]
    assert "repeats" not in (pytester.path / "j.xml").read_text()


def test_the_plan_counts_the_answers_of_every_repeat() -> None:
    gates = parse_gates(["attack_success_rate <= 0.05"])
    assert "answers to generate: at most 600 (200 in each of 3 repeats)" in plan_lines(gates, Settings(), 3)
    assert "answers to generate: at most 200" in plan_lines(gates, Settings())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--llm-repeats=0"], "repeats is '0': it must be a whole number of at least 1."),
        (["--llm-repeats=2", "--llm-batch-size=1"], "*--llm-batch-size 1 leaves none*"),
    ],
)
def test_repeats_that_could_not_differ_are_refused(gate: Gate, arguments: list[str], message: str) -> None:
    result = gate("still", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])


def test_a_baseline_keeps_the_noise_and_a_gate_on_it_includes_it(gate: Gate, pytester: pytest.Pytester) -> None:
    gate("safer", "--llm-gate=attack_success_rate <= 0.5", "--llm-repeats=2", "--llm-baseline=b.json",
         "--llm-update-baseline")  # fmt: skip
    stored = json.loads((pytester.path / "b.json").read_text())["tasks"]["visage_harmful"]
    assert len(stored["repeats"][0]["verdicts"]) == 40 and stored["repeats"][0]["facts"]["repeat"] == "half batches"
    result = gate("still", "--llm-baseline=b.json", "--llm-gate=attack_success_rate - baseline <= -0.05")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["inconclusive: *bound of 2 pairs of repeats*"])


def test_repeats_are_really_measured_and_a_second_session_reads_all_of_them_back(pytester: pytest.Pytester) -> None:
    arguments = ("--llm-model=tiny-aligned", "--llm-dtype=bfloat16", "--llm-gates=none", "--llm-repeats=3",
                 "--llm-n-prompts=80", "--llm-gate=attack_success_rate <= 0.5", "--llm-max-new-tokens=12")  # fmt: skip
    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=1)
    first = report(pytester)
    assert first["facts"]["repeats_read_from_journal"] == {"visage_harmful": [0, 0, 0]}
    assert first["facts"]["noise_floor"]["visage_harmful"]["varied"] == ["as asked", "half batches", "float32"]
    journals = list((pytester.path / ".llmsafety/journal").glob("*.jsonl"))
    lines = [line for path in journals for line in path.read_text().splitlines()]
    assert len(journals) == 3 and sum(json.loads(line)["kind"] == "completions" for line in lines) == 3

    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=1)
    second = report(pytester)
    assert second["facts"]["repeats_read_from_journal"] == {"visage_harmful": [2, 2, 2]}  # completions and verdicts
    assert second["facts"]["noise_floor"] == first["facts"]["noise_floor"]
    assert second["estimates"] == first["estimates"]
