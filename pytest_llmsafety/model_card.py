"""A run's numbers as the ``model-index`` block of a Hugging Face model card.

Source: huggingface/hub-docs, modelcard.md. Its fields know no interval: bounds, n, judge and what the interval is
about stand in each metric's ``args``, and in short in its name.
"""

from __future__ import annotations

import re
from typing import Any

from safety_tasks.estimates import figure
from safety_tasks.metrics import METRICS
from safety_tasks.records import Report
from safety_tasks.report import report_to_dict

_SET = {"visage_over_refusal": "benign_prompts"}
"""The setting that names a task's prompts, where it is not ``prompts``."""


def model_index(report: Report) -> str:
    """YAML for the head of a README.md, between its two lines of ``---``; empty where nothing was measured."""
    from huggingface_hub import EvalResult, ModelCardData

    facts = report_to_dict(report)
    if not facts["estimates"]:
        return ""
    results = [
        EvalResult(
            task_type="text-generation",
            task_name=" and ".join(tasks) or None,
            metric_type=found["name"],
            metric_name=_name(found),
            metric_value=found["value"],
            metric_args={key: found[key] for key in _ARGUMENTS if found[key] not in ("", None)},
            dataset_type=_prompts(facts, tasks),
            dataset_name=_prompts(facts, tasks),
            dataset_revision=_hashes(facts, tasks),
        )
        for found in facts["estimates"]
        for tasks in [_tasks(found["name"])]
        if not re.match(r"\S+/", found["name"])  # tasks that are not ours have prompts of their own
    ]
    name = re.split(r"[/\\]", facts["model"].rstrip("/\\"))[-1]
    text: str = ModelCardData(model_name=name, eval_results=results).to_yaml()
    return text + "\n"


_ARGUMENTS = ("low", "high", "n", "n_effective", "judge", "method", "target", "note")


def _name(found: dict[str, Any]) -> str:
    """Such as ``attack_success_rate [0.010, 0.073] (n = 160, judge refusal)``."""
    high = "inf)" if found["high"] is None else f"{figure(found, 'high')}]"
    judge = f", judge {found['judge']}" if found["judge"] else ""
    return f"{found['name']} [{figure(found, 'low')}, {high} (n = {found['n']}{judge})"


def _tasks(name: str) -> tuple[str, ...]:
    """The tasks of a metric, or of the metric within a longer name such as ``visage - base``."""
    metric = re.match(r"\w*", name)
    return METRICS[metric[0]].tasks if metric and metric[0] in METRICS else ()


def _prompts(facts: dict[str, Any], tasks: tuple[str, ...]) -> str:
    """The names of the prompt sets behind a metric."""
    settings = [_SET.get(task, "prompts") for task in tasks] or ["prompts"]
    return " and ".join(dict.fromkeys(facts["settings"].get(setting) or "unnamed" for setting in settings))


def _hashes(facts: dict[str, Any], tasks: tuple[str, ...]) -> str | None:
    """The sha256 of the tasks' prompts, which ``facts["prompt_sets"]`` has by task."""
    known = facts["facts"].get("prompt_sets", {})
    return " ".join(dict.fromkeys(known[task]["sha256"] for task in tasks if task in known)) or None
