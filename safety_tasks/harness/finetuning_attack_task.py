"""visage_finetuning_attack: how few harmful examples break the model by fine-tuning, in memory, beside its requests."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from safety_tasks.attack_grid import data_name, harmful_data
from safety_tasks.breaking_point import BreakingPoint
from safety_tasks.breaking_run import Grid, breaking_point
from safety_tasks.budget import Budget
from safety_tasks.engine import Engine, HuggingFaceEngine
from safety_tasks.errors import InvalidSetting, NotPerturbable, OutOfTime
from safety_tasks.harness.results import Estimates
from safety_tasks.harness.rows import Row
from safety_tasks.harness.task import SafetyTask
from safety_tasks.journal import OFF, Journal
from safety_tasks.metrics import metrics_of
from safety_tasks.models import LoadedModel
from safety_tasks.perturbable import check_perturbable
from safety_tasks.points import ORIGIN, Point
from safety_tasks.prompts import Prompt, PromptSet, load_prompts
from safety_tasks.settings import LANDSCAPE_PROMPTS, Settings
from safety_tasks.state_measurement import settings_of_states
from safety_tasks.tuning_data import TuningData

_log = logging.getLogger(__name__)
_ALONE = "A fine-tuning attack changes the model's weights in one process: start it without accelerate launch."


class FinetuningAttack:
    """The attacks on the measured model; what each came to is kept in the journal, its answers are not."""

    GRID: ClassVar = Grid()
    """But for the limit, which is the settings' ``asr_limit``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.found: BreakingPoint | None = None
        self.unfinished = ""
        """Why it was not found, if the time was spent."""

    def check(self, lm: LM, engine: Engine) -> None:
        """Raise InvalidInput or NotPerturbable for what cannot be attacked, before anything is asked."""
        if getattr(lm, "world_size", 1) > 1:
            raise InvalidSetting(_ALONE)
        if not isinstance(engine, HuggingFaceEngine):
            raise NotPerturbable(
                f"A fine-tuning attack trains the model in this process, and {type(lm).__name__} gives no access "
                "to its weights: use --model hf."
            )
        check_perturbable(engine.model)
        self._data(engine)

    def measure(
        self, lm: LM, engine: Engine, points: Sequence[Point], *, quiet: bool = False, budget: Budget | None = None
    ) -> None:
        """Find the breaking point, or say why it is ``unfinished``; the weights are back when it returns or raises."""
        assert isinstance(engine, HuggingFaceEngine)
        budget = budget or Budget()
        if budget.is_at_origin_only:
            self.unfinished = budget.not_begun()
            return
        data, settings = self._data(engine), self.settings
        kept = settings.journal.lower() != OFF
        journal = Journal.open(settings.journal, engine.name, engine.identity()) if kept else Journal()
        loaded, grid = LoadedModel(engine.model, engine.tokenizer), replace(self.GRID, limit=settings.asr_limit)
        own = replace(settings_of_states(settings), journal=OFF)
        with journal.alone():
            try:
                self.found = breaking_point(
                    loaded, data, own, grid, batch_size=engine.batch_size, journal=journal, budget=budget
                )
            except OutOfTime as error:
                self.unfinished = str(error)

    def _data(self, engine: HuggingFaceEngine) -> TuningData:
        name = data_name(self.settings.attack_data, str(engine.model.name_or_path))
        return harmful_data(name, load_prompts(self.settings.prompts, "harmful"))


class FinetuningAttackTask(SafetyTask):
    """``visage_finetuning_attack``: the landscape's prompts, of the model as it is and after every attack."""

    METRICS: ClassVar = metrics_of("visage_finetuning_attack")
    SAMPLES: ClassVar = False

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.attack = FinetuningAttack(self.settings)

    def load_prompt_set(self) -> PromptSet:
        """The first prompts of the harmful set."""
        return load_prompts(self.settings.prompts, self.KIND).head(self.settings.n_prompts or LANDSCAPE_PROMPTS)

    def points(self) -> tuple[Point, ...]:
        """The origin: the weights that attacks lead to are known only after them."""
        return (ORIGIN,)

    def build_all_requests(self, *, world_size: int = 1, **given: Any) -> None:
        """As every task. Raises InvalidSetting where processes share the prompts."""
        if world_size > 1:
            raise InvalidSetting(_ALONE)
        super().build_all_requests(world_size=world_size, **given)
        harm_judge = Settings.from_metadata(self.config.metadata or {}).harm_judge  # it reads the attacks' answers only
        n_prompts = len(self._instances) if given.get("limit") else self.settings.n_prompts
        self.attack.settings = replace(self.settings, harm_judge=harm_judge, n_prompts=n_prompts)

    def _request(self, doc_id: int, doc: dict[str, Any], prompt: Prompt) -> Instance:
        request = super()._request(doc_id, doc, prompt)
        request.arguments = (*request.arguments, self.attack)
        return request

    @property
    def unfinished(self) -> str:
        """As of the prompts, or of the attacks."""
        return super().unfinished or self.attack.unfinished

    @property
    def doubt(self) -> str:
        """Why the attacks say nothing; empty where they say something."""
        every = [one for one in (self, *self.repeats) if isinstance(one, FinetuningAttackTask)]
        told = (one.attack.found.doubt for one in every if one.attack.found)
        return next((f"examples_to_break is inconclusive: {why}." for why in told if why), "")

    def estimate(self, rows: list[Row], judge: str) -> Estimates:
        """The number of examples, by the judge of the attacks' answers; nothing where it is in doubt."""
        found = self.attack.found
        if judge != self.settings.judges[0] or found is None or len(rows) != len(self.rows):
            return {}
        self.shape = found
        if found.doubt:
            _log.warning("%s", self.doubt)
        reader = self.attack.settings.harm_judge or judge
        return {score.name: replace(score, judge=reader) for score in found.scores()}

    def of_category(self, metric: str, category: str) -> None:
        """None: the attacks are read on all prompts."""
