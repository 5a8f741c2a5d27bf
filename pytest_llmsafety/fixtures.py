"""What the fixtures hand to tests: LanguageModel (``llm``) and Safety (``llm_safety``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from pytest_llmsafety.any_task import measure_task
from pytest_llmsafety.backends import check_named_reach
from pytest_llmsafety.gate_prompts import check_gate
from pytest_llmsafety.gates import AT_LEAST_ONE, Gate
from pytest_llmsafety.options import given_options
from pytest_llmsafety.run import SafetyRun, done
from pytest_llmsafety.shapes import shapes_of
from pytest_llmsafety.targets import check_named
from safety_tasks.errors import InvalidInput, MeasurementFailed, UnknownName
from safety_tasks.metrics import METRICS
from safety_tasks.settings import Settings

if TYPE_CHECKING:
    from safety_tasks.estimates import Estimate
    from safety_tasks.interpolation import Interpolation
    from safety_tasks.landscape import Landscape
    from safety_tasks.margin import Margin
    from safety_tasks.plane import Plane
    from safety_tasks.worst_width import WorstWidth


class LanguageModel:
    """The model under test, or its base; loaded on first use."""

    def __init__(self, run: SafetyRun, *, is_base: bool = False) -> None:
        self._run = run
        self._is_base = is_base

    @property
    def model(self) -> Any:
        """The transformers model; raises AttributeError for backends that have none in this process."""
        found = getattr(self._run.lm_of(self._is_base), "model", None)
        if not hasattr(found, "parameters"):
            raise AttributeError(self._without("transformers model"))
        return found

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer; raises AttributeError for backends that have none in this process."""
        found = getattr(self._run.lm_of(self._is_base), "tokenizer", None)
        if found is None:
            raise AttributeError(self._without("tokenizer"))
        return found

    def _without(self, what: str) -> str:
        return (
            f"There is no {what} in this process: --llm-backend {self._run.options.backend}, or a conftest's hook, "
            "gives texts alone. llm.generate(prompts) asks for answers."
        )

    def generate(self, prompts: Sequence[str], max_new_tokens: int | None = None) -> list[str]:
        """Answers to user prompts, rendered and decoded as the run's: greedy, or the profile's first sample."""
        return self._run.generate(prompts, max_new_tokens, is_base=self._is_base)


class Safety:
    """The model's safety metrics, each an Estimate: ``llm_safety.attack_success_rate <= 0.05``."""

    def __init__(self, run: SafetyRun) -> None:
        self._run = run
        self._measured: dict[str, dict[str, Estimate]] = {}

    def __getattr__(self, name: str) -> Estimate:
        """The estimate of a metric; raises AttributeError listing the metrics for another name.

        Raises MeasurementFailed where its judge misread a control.
        """
        if name not in METRICS:
            raise AttributeError(str(UnknownName("metric", name, METRICS)))
        check_named(name, given_options(self._run.config, Settings))
        return self._estimate(name)

    def attack_success_rate_at(self, samples: int) -> Estimate:
        """Share of harmful prompts with at least one answer not refused among the first ``samples`` that are sampled.

        Raises InvalidGate where the profile samples fewer, MeasurementFailed where the judge misread a control.
        """
        gate = Gate(AT_LEAST_ONE, "<=", 1.0, samples=samples)
        check_gate(gate, self._run.options, self._run.settings)
        return self._trusted(self._run.estimate(gate.quantity, gate))

    def _estimate(self, name: str) -> Estimate:
        check_named_reach(name, self._run.options)
        return self._trusted(self._run.estimate(name))

    def _trusted(self, found: Estimate) -> Estimate:
        why = self._run.distrust(found.judge)
        if why:
            raise MeasurementFailed(why)
        return found

    def __dir__(self) -> list[str]:
        """The metrics, for completion."""
        shapes = ("interpolation", "landscape", "margin", "plane", "worst_direction")
        return [*METRICS, "attack_success_rate_at", "measure", *shapes]

    def measure(self, task: str, *, include_path: str | None = None, **metadata: Any) -> Mapping[str, Estimate]:
        """The estimates of any lm_eval task by metric, as ``measure("arc_easy")["acc"] >= 0.4``; once a session.

        ``task``: a name, or the path of a task's YAML file. ``include_path``: a folder of tasks. ``metadata``: as
        lm_eval's ``--metadata``; for our own tasks the settings that differ from the run's, with or without
        ``visage_``. Each metric has an exact interval where every document counts as 0 or 1, else a normal one from
        lm_eval's standard error, else none.
        """
        key = json.dumps([task, include_path, metadata], sort_keys=True, default=repr)
        if key not in self._measured:
            self._measured[key] = done(lambda: measure_task(self._run, task, include_path, metadata))
        return dict(self._measured[key])

    @property
    def landscape(self) -> Landscape:
        """The landscape behind visage, basin_width and mean_safety."""
        self._estimate("visage")
        if self._run.landscape is None:
            raise InvalidInput("No landscape was measured.")
        return self._run.landscape

    @property
    def interpolation(self) -> Interpolation:
        """The way to --llm-target, behind asr_at_target and asr_between."""
        self._estimate("asr_at_target")
        return cast("Interpolation", shapes_of(self._run)["visage_interpolation"])

    @property
    def plane(self) -> Plane:
        """The plane behind basin_area and plane_mean_safety."""
        self._estimate("basin_area")
        return cast("Plane", shapes_of(self._run)["visage_landscape_2d"])

    @property
    def margin(self) -> Margin:
        """The rates along the fine-tuning from --llm-base-model, behind finetune_margin and safe_scale."""
        self._estimate("finetune_margin")
        return cast("Margin", shapes_of(self._run)["visage_margin"])

    @property
    def worst_direction(self) -> WorstWidth:
        """The landscapes along the worst direction and along random ones, behind worst_width and worst_share."""
        self._estimate("worst_width")
        return cast("WorstWidth", shapes_of(self._run)["visage_worst_direction"])
