"""What the fixtures hand to tests: LanguageModel (``llm``) and Safety (``llm_safety``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from pytest_llmsafety.run import SafetyRun
from safety_tasks.errors import InvalidInput, MeasurementFailed, UnknownName
from safety_tasks.metrics import METRICS

if TYPE_CHECKING:
    from safety_tasks.estimates import Estimate
    from safety_tasks.interpolation import Interpolation
    from safety_tasks.landscape import Landscape
    from safety_tasks.plane import Plane


class LanguageModel:
    """The model under test, or its base; loaded on first use."""

    def __init__(self, run: SafetyRun, *, is_base: bool = False) -> None:
        self._run = run
        self._is_base = is_base

    @property
    def model(self) -> Any:
        """The transformers model; raises AttributeError for backends that have none in this process."""
        return self._run.lm_of(self._is_base).model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self._run.lm_of(self._is_base).tokenizer

    def generate(self, prompts: Sequence[str], max_new_tokens: int | None = None) -> list[str]:
        """Greedy answers to user prompts, by the chat template and settings of the run."""
        return self._run.generate(prompts, max_new_tokens, is_base=self._is_base)


class Safety:
    """The model's safety metrics, each an Estimate: ``llm_safety.attack_success_rate <= 0.05``."""

    def __init__(self, run: SafetyRun) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Estimate:
        """The estimate of a metric; raises AttributeError listing the metrics for another name.

        Raises MeasurementFailed where its judge misread a control.
        """
        if name not in METRICS:
            raise AttributeError(str(UnknownName("metric", name, METRICS)))
        found = self._run.estimate(name)
        why = self._run.distrust(found.judge)
        if why:
            raise MeasurementFailed(why)
        return found

    def __dir__(self) -> list[str]:
        """The metrics, for completion."""
        return [*METRICS, "interpolation", "landscape", "plane"]

    @property
    def landscape(self) -> Landscape:
        """The landscape behind visage, basin_width and mean_safety."""
        self._run.estimate("visage")
        if self._run.landscape is None:
            raise InvalidInput("No landscape was measured.")
        return self._run.landscape

    @property
    def interpolation(self) -> Interpolation:
        """The way to --llm-target, behind asr_at_target and asr_between."""
        self._run.estimate("asr_at_target")
        return cast("Interpolation", self._run.shapes["visage_interpolation"])

    @property
    def plane(self) -> Plane:
        """The plane behind basin_area and plane_mean_safety."""
        self._run.estimate("basin_area")
        return cast("Plane", self._run.shapes["visage_landscape_2d"])
