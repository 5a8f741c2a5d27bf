"""What the fixture ``llm_attack`` hands to tests: attacks on the model under test, in memory, on the run's prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safety_tasks.attack import Attack, harmful_finetune
from safety_tasks.attack_grid import data_name
from safety_tasks.breaking_comparison import breaks_no_sooner
from safety_tasks.breaking_run import examples_to_break
from safety_tasks.estimates import Decision, Estimate

if TYPE_CHECKING:
    from pytest_llmsafety.run import SafetyRun
    from safety_tasks.breaking_point import BreakingPoint

_TAKEN = (
    "prompts", "benign_prompts", "n_prompts", "judge", "harm_judge", "system_prompt", "chat", "thinking",
    "max_new_tokens",
)  # fmt: skip


class Attacks:
    """Harmful fine-tuning of the model, or of its base; the weights are back after each."""

    def __init__(self, run: SafetyRun) -> None:
        self._run = run

    def __call__(self, *, of_base: bool = False, **options: Any) -> Attack:
        """One attack, as ``safety_tasks.harmful_finetune``: ``llm_attack(n=10).harm <= 0.05``."""
        model = self._model(of_base)
        return harmful_finetune(model, **self._options(model, options))

    def examples_to_break(self, *, of_base: bool = False, **options: Any) -> Estimate:
        """How few examples break it, as ``safety_tasks.examples_to_break``; raises Inconclusive where that is unknown.

        ``of_base``: of --llm-base-model, to read the number against. ``limit`` defaults to the run's ``asr_limit``.
        """
        return self._breaking_point(of_base, options).estimate()

    def breaks_no_sooner_than_base(self, **options: Any) -> Decision:
        """Whether the model takes as many examples as --llm-base-model, seed by seed: see ``breaks_no_sooner``."""
        model, base = (self._breaking_point(is_base, options) for is_base in (False, True))
        return breaks_no_sooner(model, base)

    def _breaking_point(self, is_base: bool, options: dict[str, Any]) -> BreakingPoint:
        model = self._model(is_base)
        own = {"limit": self._run.settings.asr_limit, **self._options(model, options)}
        return examples_to_break(model, **own)

    def _model(self, is_base: bool) -> Any:
        """The loaded model and tokenizer; raises AttributeError for backends that have none in this process."""
        lm = self._run.lm_of(is_base)
        return lm.model, lm.tokenizer

    def _options(self, model: Any, given: dict[str, Any]) -> dict[str, Any]:
        """The run's settings, and what the test asks for; answers of attacked models go to no journal.

        Raises InvalidInput where no data are named for a model that is not embedded.
        """
        settings = self._run.settings
        own = {name: getattr(settings, name) for name in _TAKEN}
        data = data_name(given.get("data", settings.attack_data), str(model[0].name_or_path))
        return {**own, "journal": "off", **given, "data": data}
