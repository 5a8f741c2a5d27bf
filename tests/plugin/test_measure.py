"""llm_safety.measure: any lm_eval task as Estimates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy.stats import binomtest

Session = Callable[..., pytest.RunResult]

TASK = """
task: tiny_qa
dataset_path: json
dataset_kwargs:
  data_files: {data}
output_type: multiple_choice
test_split: train
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: brier_score
    aggregation: brier_score
    higher_is_better: false
"""
GRADED = """
task: tiny_graded
class: !function graded.Graded
"""
GRADED_PY = """
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask

class Graded(ConfigurableTask):
    "Marks of 0.25 and 0.75, whatever the model answers, and a metric that is always the same."

    def __init__(self, config=None):
        super().__init__(config={"task": "tiny_graded", "output_type": "loglikelihood", "test_split": "test",
            "doc_to_text": "{{q}}", "doc_to_target": "a", "metric_list": [], "metadata": {"version": 1}})

    def download(self, *args, **kwargs):
        self.dataset = {"test": Dataset.from_list([{"q": f"Question {i}?"} for i in range(16)])}

    def process_results(self, doc, results):
        number = int(doc["q"].split()[1][:-1])
        return {"mark": 0.25 + 0.5 * (number % 2), "same": 0.5}

    def aggregation(self):
        from lm_eval.api.metrics import mean
        return {"mark": mean, "same": mean}

    def higher_is_better(self):
        return {"mark": True, "same": True}
"""
DOCUMENTS = [
    {"q": f"Is {number} an even number?", "choices": ["yes", "no"], "gold": number % 3 // 2} for number in range(12)
]


@pytest.fixture
def tasks(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two small tasks of lm_eval's own kinds."""
    monkeypatch.setenv("HF_HOME", str(pytester.path / "hub"))
    folder = pytester.mkdir("tasks")
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, DOCUMENTS)))
    (folder / "tiny_qa.yaml").write_text(TASK.format(data=folder / "data.jsonl"))
    (folder / "tiny_graded.yaml").write_text(GRADED)
    (folder / "graded.py").write_text(GRADED_PY)
    return folder


def test_a_task_of_lm_eval_gives_estimates_with_intervals(pytester: pytest.Pytester, tasks: Path) -> None:
    pytester.makepyfile(
        """
        import math

        def test_accuracy(llm_safety):
            found = llm_safety.measure("tasks/tiny_qa.yaml")
            assert set(found) == {"acc", "brier_score"}
            assert found["acc"] >= 0.0
            assert found["acc"].n == 12 and "exact" in found["acc"].method
            print("FOUND", found["acc"].value, found["acc"].low, found["acc"].high)
            assert math.isinf(found["brier_score"].high) and "no standard error" in found["brier_score"].note

        def test_unbounded_is_red(llm_safety):
            assert llm_safety.measure("tasks/tiny_qa.yaml")["brier_score"] <= 2

        def test_by_name_in_a_folder(llm_safety):
            found = llm_safety.measure("tiny_graded", include_path="tasks")
            assert found["mark"].value == 0.5 and "normal" in found["mark"].method
            # sd of 8 times 0.25 and 8 times 0.75 is 0.2582, over the root of 16
            assert abs(found["mark"].stderr - 0.2582 / 4) < 1e-4
            assert math.isinf(found["same"].high), "no spread is no certainty"

        def test_what_was_measured_is_not_measured_again(llm_safety, monkeypatch):
            import safety_tasks.harness.any_task as any_task

            monkeypatch.setattr(any_task, "evaluate", None)
            assert llm_safety.measure("tiny_graded", include_path="tasks")["mark"].n == 16
        """
    )
    result = pytester.runpytest_inprocess("--llm-model=tiny-aligned", "--llm-gates=none", "-rP", "-p", "no:randomly")
    result.assert_outcomes(passed=3, failed=1)
    line = next(line for line in result.outlines if line.startswith("FOUND"))
    value, low, high = map(float, line.split()[1:])
    exact = binomtest(round(value * 12), 12).proportion_ci(method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    result.stdout.fnmatch_lines(["E *Inconclusive: brier_score is *limit <= 2: inconclusive*"])
    report = json.loads((pytester.path / ".llmsafety" / "report.json").read_text())
    assert {"tasks/tiny_qa.yaml/acc", "tiny_graded/mark"} == {found["name"] for found in report["estimates"]}


def test_a_name_that_is_no_task_is_an_error(pytester: pytest.Pytester, tasks: Path) -> None:
    pytester.makepyfile("def test_it(llm_safety): llm_safety.measure('visage_safty')")
    result = pytester.runpytest_inprocess("--llm-model=tiny-aligned", "--llm-gates=none")
    result.stdout.fnmatch_lines(["E *There is no safety task 'visage_safty'. There are: *visage_landscape*"])


def test_our_own_tasks_take_settings_of_their_own(session: Session, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_settings(llm_safety):
            few = llm_safety.measure("visage_harmful", n_prompts=20, visage_judge="keywords-advbench")
            assert few["attack_success_rate"].n == 20 and few["attack_success_rate"].judge == "keywords-advbench"
            assert llm_safety.attack_success_rate.n == 200

        def test_the_group_and_what_the_run_measured_anyway(llm_safety):
            whole = llm_safety.measure("visage_safety", points=3, directions=1)
            assert {"basin_width", "attack_success_rate", "over_refusal_rate"} <= set(whole)
            same = llm_safety.measure("visage_harmful")
            assert same["attack_success_rate"] is llm_safety.attack_success_rate

        def test_a_wrong_setting(llm_safety):
            llm_safety.measure("visage_harmful", n_promts=20)
        """
    )
    result = session("--llm-gates=none", "-p", "no:randomly")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E *There is no option 'n_promts'. There are: *"])
    result.stdout.fnmatch_lines(["*attack_success_rate[[]judge=keywords-advbench, n_prompts=20[]]*"])


def test_the_fixture_lists_it() -> None:
    from pytest_llmsafety.fixtures import Safety

    assert "measure" in dir(Safety(None))  # type: ignore[arg-type]
