"""Running a repair table: each attack with each seed is a line of a journal, so that a run that was killed goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from safety_tasks.attack import attack_settings
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidSetting
from safety_tasks.finetuning import Recipe
from safety_tasks.inputs import check_target
from safety_tasks.journal import OFF, Journal
from safety_tasks.model_states import State
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.perturbable import check_perturbable
from safety_tasks.points import ORIGIN, Point
from safety_tasks.prompts import load_prompts
from safety_tasks.python_api import evaluating
from safety_tasks.repair_table import AttackedBy, RepairTable, Row
from safety_tasks.repairs import Repair, check_repairs, repaired, repairs
from safety_tasks.settings import Settings
from safety_tasks.state_measurement import measure_states, read_with
from safety_tasks.tuned_weights import attacked
from safety_tasks.tuning_data import TuningData, load_tuning_data

RATE, STEPS = 2e-3, 80
"""At these the embedded model learns its skill (finetune accuracy above 0.9) and complies after 10 examples."""
ATTACKS = tuple(AttackedBy(n, p, RATE, STEPS) for n, p in ((10, 1.0), (50, 1.0), (100, 1.0), (100, 0.1), (100, 0.2)))
SWEEP = tuple(AttackedBy(100, 0.2, rate, steps) for rate in (1e-3, 2e-3, 4e-3) for steps in (40, 80, 160))
"""Rates and lengths of one attack, to which Antidote's paper claims to be indifferent."""
FOLDER = ".llmsafety/repairs"
SMALL_LANDSCAPE = {"directions": 1, "points": 5}
LANDSCAPE_TOKENS = 16
"""Most tokens of an answer in these landscapes: a refusal's keyword stands at its beginning."""


def repair_table(
    model: str = "tiny-aligned",
    *,
    data: str = "tiny",
    attacks: Sequence[AttackedBy] = ATTACKS,
    wanted: Sequence[Repair] | None = None,
    seeds: int = 3,
    landscape: bool = True,
    journal: str = FOLDER,
    said: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> RepairTable:
    """Attack an aligned model, repair what comes of it in every way, and measure all of it, seed by seed.

    ``options``: the fields of Settings; landscapes default to 1 direction of 5 points, and take 16 tokens an answer.
    ``journal``: the folder from which a run goes on, or ``off``. ``said`` takes in a line of progress. The model is
    untouched. Raises InvalidInput.
    """
    check_target(model)
    settings = attack_settings({**SMALL_LANDSCAPE, "journal": OFF, **options})
    rows, repairs_wanted = (
        load_tuning_data(data).apart_from(load_prompts(settings.prompts, "harmful")),
        list(repairs() if wanted is None else wanted),
    )
    check_repairs(repairs_wanted)
    if seeds < 1 or not attacks:
        raise InvalidSetting(f"A repair table needs an attack and a seed: got {len(attacks)} and {seeds}.")
    for one in attacks:
        rows.examples(one.n, one.p)
    loaded = load_model(model)
    check_perturbable(loaded.model)
    run = _Run(loaded, rows, settings, repairs_wanted, landscape)
    with evaluating(loaded.model):
        identity = HuggingFaceEngine(loaded).identity()
        kept = Journal() if journal.lower() == OFF else Journal.open(journal, f"repairs of {model}", identity)
        with kept.alone():
            said("aligned")
            found = run.kept(kept, None, 0)
            for seed in range(seeds):
                for one in attacks:
                    said(f"{one}, seed {seed}")
                    found += run.kept(kept, one, seed)
    return RepairTable(tuple(found), tuple(attacks), seeds)


class _Run:
    def __init__(
        self, loaded: LoadedModel, data: TuningData, settings: Settings, wanted: list[Repair], landscape: bool
    ) -> None:
        self.loaded, self.data, self.settings = loaded, data, settings
        tokens = min(LANDSCAPE_TOKENS, settings.max_new_tokens)
        sets = load_prompts(settings.prompts, "harmful"), load_prompts(settings.benign_prompts, "benign")
        self.read = [*read_with(settings), *(one.sha256 for one in sets)]
        self.wanted, self.landscape = wanted, replace(settings, max_new_tokens=tokens) if landscape else None

    def kept(self, journal: Journal, attack: AttackedBy | None, seed: int) -> list[Row]:
        """The rows of one attack, measured or read back."""
        asked = [
            attack,
            seed,
            self.wanted,
            self.landscape and self.landscape.to_dict(),
            self.data.sha256,
            self.settings.to_dict(),
            self.read,
        ]
        lines = journal.remember("repairs", asked, lambda: self._measured(attack, seed))
        return [Row.from_dict(one) for one in lines]

    def _measured(self, attack: AttackedBy | None, seed: int) -> list[dict[str, Any]]:
        if attack is None:
            (state,), _ = self._states({"aligned": ORIGIN})
            return [Row(None, seed, None, True, state).to_dict()]
        recipe = replace(Recipe(rate=attack.rate, steps=attack.steps), seed=seed)
        pairs = self.data.examples(attack.n, attack.p, seed)
        there = attacked(self.loaded, pairs, recipe, self.settings, data=self.data)
        every: dict[Repair | None, Point] = {None: there.point}
        every |= dict(repaired(self.loaded, there, self.wanted, self.data, self.settings, seed))
        states, _ = self._states({str(repair): point for repair, point in every.items()})
        learnt = there.training.has_learnt
        return [Row(attack, seed, one, learnt, state).to_dict() for one, state in zip(every, states, strict=True)]

    def _states(self, points: dict[str, Point]) -> tuple[list[State], dict[str, Any]]:
        return measure_states(self.loaded, points, self.data, self.settings, landscape=self.landscape)
