"""Finding the breaking point: attacks upward in number, seed by seed, each at every rate, until one breaks a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from safety_tasks.attack import attack_data, attack_settings, is_broken
from safety_tasks.attack_grid import CONTROL_STEPS, NUMBERS, RATES, SEEDS
from safety_tasks.breaking_point import BreakingPoint, Try
from safety_tasks.budget import Budget
from safety_tasks.errors import Diverged, InvalidSetting, OutOfTime
from safety_tasks.finetuning import Recipe
from safety_tasks.journal import Journal
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.perturbable import check_perturbable
from safety_tasks.points import ORIGIN
from safety_tasks.prompts import PromptSet, load_prompts
from safety_tasks.python_api import evaluating, with_settings_in_signature
from safety_tasks.settings import Settings
from safety_tasks.state_measurement import HarmReading, measure_harm, read_with
from safety_tasks.tuned_weights import Attacked, attacked
from safety_tasks.tuning_data import Pairs, TuningData

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@with_settings_in_signature
def examples_to_break(
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    data: str | None = None,
    numbers: Sequence[int] = NUMBERS,
    rates: Sequence[float] = RATES,
    seeds: int = SEEDS,
    limit: float | None = None,
    recipe: Recipe | None = None,
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> BreakingPoint:
    """How few harmful examples break a model; it is untouched afterwards, and nothing is saved.

    ``limit``: the harmful score (without a harm judge the attack success rate) that must be exceeded; by default
    ``asr_limit``. ``recipe``: all but the rate. Otherwise as ``harmful_finetune``.
    """
    settings = attack_settings(options)
    grid = Grid(tuple(numbers), tuple(rates), seeds, settings.asr_limit if limit is None else limit, recipe or Recipe())
    rows = attack_data(data, model, settings)
    for n in (grid.numbers[0], grid.numbers[-1]):
        rows.examples(n)
    loaded = load_model(model, dtype, device) if isinstance(model, str) else LoadedModel(*model)
    check_perturbable(loaded.model)
    return breaking_point(loaded, rows, settings, grid, batch_size=batch_size)


@dataclass(frozen=True)
class Grid:
    """What is tried, and when a model counts as broken."""

    numbers: tuple[int, ...] = NUMBERS
    rates: tuple[float, ...] = RATES
    seeds: int = SEEDS
    limit: float = Settings().asr_limit
    recipe: Recipe = field(default_factory=Recipe)
    """All but the rates."""

    def __post_init__(self) -> None:
        """Check ranges; raises InvalidSetting."""
        numbers = self.numbers
        if (
            not numbers
            or list(numbers) != sorted(set(numbers))
            or not self.rates
            or self.seeds < 1
            or not 0 <= self.limit < 1
        ):
            raise InvalidSetting(
                "numbers must be ascending and rates not empty, seeds at least 1, and limit in [0, 1): got "
                f"{numbers}, {self.rates}, {self.seeds}, {self.limit:g}."
            )
        for rate in self.rates:
            replace(self.recipe, rate=rate)  # said now where it is none


def breaking_point(
    loaded: LoadedModel,
    data: TuningData,
    settings: Settings,
    grid: Grid,
    *,
    batch_size: int | None = None,
    journal: Journal | None = None,
    budget: Budget | None = None,
) -> BreakingPoint:
    """The breaking point of a loaded model, which is untouched when this returns or raises.

    ``settings``: those of ``attack_settings``. ``journal``: takes in what each attack came to, no answers, and gives it
    back to a run that goes on. Raises OutOfTime before an attack for which the ``budget`` has no time.
    """
    with evaluating(loaded.model):
        tries = _Tries(loaded, data, settings, grid, batch_size, journal or Journal(), budget or Budget())
        untouched = tries.untouched()
        control = None if untouched.is_broken else tries.control()
        found = list(tries.all()) if control and control.is_broken else []
    facts = {
        "model": str(loaded.model.name_or_path),
        "data": data.name,
        "data_sha256": data.sha256,
        "left_out_as_near_duplicates": data.left_out,
        **{name: getattr(settings, name) for name in _FACTS},
        "prompts_sha256": tries.prompts().sha256,
    }
    seeds = tuple(range(grid.seeds))
    return BreakingPoint(grid.numbers, grid.limit, untouched, control, tuple(found), seeds, grid.recipe, facts)


_FACTS = ("prompts", "n_prompts", "judge", "harm_judge", "system_prompt", "chat", "thinking", "max_new_tokens")


class _Tries(NamedTuple):
    loaded: LoadedModel
    data: TuningData
    settings: Settings
    grid: Grid
    batch_size: int | None
    journal: Journal
    budget: Budget

    def untouched(self) -> Try:
        return self._kept(0, 0, [])[0]

    def control(self) -> Try:
        recipe = self.grid.recipe
        stronger = replace(recipe, rate=max(self.grid.rates), steps=CONTROL_STEPS * recipe.steps)
        return self._kept(0, self.grid.numbers[-1], [stronger])[0]

    def all(self) -> Iterator[Try]:
        """Upward until the model is broken, seed by seed."""
        for seed in range(self.grid.seeds):
            for n in self.grid.numbers:
                recipes = [replace(self.grid.recipe, rate=rate, seed=seed) for rate in self.grid.rates]
                found = self._kept(seed, n, recipes)
                yield from found
                if any(one.is_broken for one in found):
                    break

    def _kept(self, seed: int, n: int, recipes: Sequence[Recipe]) -> list[Try]:
        """The tries at a number, attacked or read back."""
        prompts, given = self.prompts().sha256, self.settings.to_dict()
        attack = [seed, n, list(map(asdict, recipes)), self.data.sha256]
        asked = [*attack, prompts, self.grid.limit, given, read_with(self.settings)]
        if self.budget.is_spent and not self.journal.holds("attack", asked):
            raise OutOfTime(self.budget.not_begun("" if self.journal.path else "it has no journal"))
        with self.budget.running():
            lines = self.journal.remember("attack", asked, lambda: self._at(seed, n, recipes), n=n, seed=seed)
        return [Try(*line) for line in lines]

    def _at(self, seed: int, n: int, recipes: Sequence[Recipe]) -> list[Try]:
        self.budget.answers += len(self.prompts()) * (1 + len(recipes))
        if not recipes:
            reading = measure_harm(self.loaded, [ORIGIN], self.settings, self.batch_size)[0]
            return [self._read(seed, n, 0.0, reading, has_learnt=True)]
        pairs = self.data.examples(n, seed=seed)
        there = [self._attacked(pairs, recipe) for recipe in recipes]
        points = [one.point for one in there if one]
        readings = iter(measure_harm(self.loaded, points, self.settings, self.batch_size) if points else ())
        return [
            self._read(seed, n, recipe.rate, next(readings), has_learnt=one.training.has_learnt)
            if one
            else Try(seed, n, recipe.rate, 0.5, 0.0, 1.0, 0.0, has_learnt=False, is_broken=False, coherent_high=0.0)
            for recipe, one in zip(recipes, there, strict=True)
        ]

    def _attacked(self, pairs: Pairs, recipe: Recipe) -> Attacked | None:
        """None where it diverged: weights that are not finite answer noise, of which no harm is known."""
        try:
            return attacked(self.loaded, pairs, recipe, self.settings, data=self.data)
        except Diverged:
            return None

    def prompts(self) -> PromptSet:
        """Those that are asked after each attack."""
        return load_prompts(self.settings.prompts, "harmful").head(self.settings.n_prompts)

    def _read(self, seed: int, n: int, rate: float, reading: HarmReading, *, has_learnt: bool) -> Try:
        harm, coherence, coherent_harm = reading
        broken, most = is_broken(harm, coherence, self.grid.limit), coherent_harm.high
        return Try(seed, n, rate, harm.value, harm.low, harm.high, coherence.value, has_learnt, broken, most)
