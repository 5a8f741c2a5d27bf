"""visage_finetuning_attack through lm_eval's own entry points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.model import LM
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table

from safety_tasks import breaking_run
from safety_tasks.breaking_run import Grid
from safety_tasks.budget import Budget
from safety_tasks.errors import InvalidInput, InvalidSetting, NotPerturbable
from safety_tasks.finetuning import Recipe
from safety_tasks.fingerprints import fingerprint
from safety_tasks.harness.evaluation import evaluate_tasks
from safety_tasks.harness.finetuning_attack_task import FinetuningAttack, FinetuningAttackTask
from safety_tasks.settings import Settings
from safety_tasks.tiny import model_path

TASKS = Path(__file__).parents[2] / "safety_tasks" / "harness" / "tasks"
TASK, JUDGE = "visage_finetuning_attack", "refusal"
FEW = {"visage_n_prompts": 12, "visage_max_new_tokens": 24, "visage_harm_judge": "tiny-judge"}
OFF = {**FEW, "visage_journal": "off"}


def evaluated(lm: LM, metadata: dict[str, Any], **given: Any) -> Any:
    manager = TaskManager(include_defaults=False, include_path=str(TASKS), metadata=metadata)
    return simple_evaluate(lm, tasks=[TASK], task_manager=manager, log_samples=False, **given)


@pytest.fixture(scope="module")
def lm() -> HFLM:
    return HFLM(pretrained=str(model_path("tiny-aligned")), device="cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed, two numbers, one rate."""
    grid = Grid(numbers=(1, 2), rates=(3e-3,), seeds=1, recipe=Recipe(steps=12))
    monkeypatch.setattr(FinetuningAttack, "GRID", grid)


def test_the_table_has_the_number_the_weights_are_back_and_a_second_run_reads_the_attacks_back(
    lm: HFLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(lm.model)
    metadata = {**FEW, "visage_journal": str(tmp_path), "visage_asr_limit": 0.1}
    found = evaluated(lm, metadata)
    results, config = found["results"][TASK], json.loads(json.dumps(found["configs"][TASK], default=str))
    assert results[f"examples_to_break,{JUDGE}"] in (1, 2) and "|examples_to_break" in make_table(found)
    assert config["visage_estimates"]["examples_to_break"]["judge"] == "tiny-judge"
    shape = config["visage_shape"]
    assert shape["kind"] == "BreakingPoint" and shape["limit"] == 0.1 and shape["control"]["is_broken"]
    assert shape["facts"]["data"] == "tiny" and shape["facts"]["harm_judge"] == "tiny-judge"
    assert fingerprint(lm.model) == before and all(one.grad is None for one in lm.model.parameters())
    monkeypatch.setattr(breaking_run, "attacked", None)
    monkeypatch.setattr(breaking_run, "measure_harm", None)
    again = evaluated(lm, metadata)
    assert again["results"][TASK] == results
    lines = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert {line["n"] for line in lines if line["kind"] == "attack"} >= {0, 1, 2}, "numbers alone are kept of attacks"


def test_where_nothing_is_learnt_there_is_no_number_but_a_reason(
    lm: HFLM, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weak = Grid(numbers=(1,), rates=(1e-7,), seeds=1, recipe=Recipe(steps=1))
    monkeypatch.setattr(FinetuningAttack, "GRID", weak)
    task = evaluate_tasks(lm, [TASK], Settings.from_metadata({**OFF, "visage_n_prompts": 3}))[TASK]
    assert isinstance(task, FinetuningAttackTask) and not task.estimates and not task.unfinished
    assert (
        "positive control" in task.doubt
        and task.doubt in caplog.text
        and "inconclusive: the positive control" in str(task.shape)
    )


def test_where_the_time_is_spent_it_is_unfinished(lm: HFLM) -> None:
    settings = Settings.from_metadata({**OFF, "visage_n_prompts": 2})
    task = evaluate_tasks(lm, [TASK], settings, budget=Budget(1e-9))[TASK]
    assert "Not measured within --llm-budget" in task.unfinished and not task.estimates
    budget = Budget()
    with budget.at_origin_only():
        assert evaluate_tasks(lm, [TASK], settings, budget=budget)[TASK].unfinished


def test_models_that_cannot_be_attacked_are_refused_before_a_prompt_is_asked(lm: HFLM) -> None:
    class TextOnlyLM(LM):
        def generate_until(self, requests: Any) -> list[str]:
            raise AssertionError("nothing is to be generated")

        loglikelihood = loglikelihood_rolling = generate_until

    with pytest.raises(NotPerturbable, match="TextOnlyLM gives no access to its weights"):
        evaluated(TextOnlyLM(), OFF)
    quantised = HFLM(pretrained=str(model_path("tiny-aligned")), device="cpu")
    layer = quantised.model.model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(NotPerturbable, match="int8"):
        evaluated(quantised, OFF)


def test_data_are_asked_for_of_every_other_model_and_looked_at_before_it_loads(
    lm: HFLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm.model.config, "_name_or_path", "someone/model")
    monkeypatch.setattr(lm.model, "name_or_path", "someone/model")
    with pytest.raises(InvalidInput, match="name beavertails or a file .* --llm-attack-data"):
        evaluated(lm, OFF)
    with pytest.raises(InvalidInput, match="There is no harmful pairs 'absent.jsonl'"):
        FinetuningAttackTask(config={"task": TASK, "metadata": {**OFF, "visage_attack_data": "absent.jsonl"}})
    few = tmp_path / "few.jsonl"
    few.write_text("".join(json.dumps({"prompt": f"p{i}", "response": "r"}) + "\n" for i in range(20)))
    with pytest.raises(InvalidInput, match="holds 10 harmful pairs, and n=100"):
        FinetuningAttackTask(config={"task": TASK, "metadata": {**OFF, "visage_attack_data": str(few)}})


def test_processes_that_share_the_prompts_are_refused() -> None:
    task = FinetuningAttackTask(config={"task": TASK, "metadata": OFF})
    with pytest.raises(InvalidSetting, match="start it without accelerate launch"):
        task.build_all_requests(rank=0, world_size=2)
