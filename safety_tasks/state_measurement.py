"""Measuring states: one model at several sets of weights, each measured alike and against the model that came.

Answers come by the one road: a state is a point, so that all of them are read for coherence under the weights that the
model came with, by one cut. Losses, drift and landscapes are taken at the same points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from safety_tasks.decoding import Scored, mean_nll
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidInput
from safety_tasks.estimates import Estimate, rate
from safety_tasks.intervals import t_interval
from safety_tasks.judges import get_harm_judge, get_judge
from safety_tasks.judges.verdict import Harm, Verdict
from safety_tasks.measurement import Question, measure
from safety_tasks.model_states import State, States
from safety_tasks.models import LoadedModel
from safety_tasks.points import ORIGIN, Answer, Point
from safety_tasks.prompts import Message, Prompt, PromptSet, load_prompts
from safety_tasks.python_api import evaluating, measure_landscape
from safety_tasks.rate_curves import attack_success, over_refusal
from safety_tasks.settings import BEHAVIOUR_JUDGE, LANDSCAPE_JUDGE, LANDSCAPE_PROMPTS, Settings
from safety_tasks.tuned_weights import scored
from safety_tasks.tuning_data import Task, TuningData
from safety_tasks.weights import Weights

if TYPE_CHECKING:
    from torch import nn

PROBES = 50
"""Calibration pairs that losses and drift are read from."""
_BATCH = 16
_OF_LANDSCAPE = ("prompts", "directions", "points", "radius", "tolerance", "seed", "max_new_tokens", "system_prompt")


def settings_of_states(settings: Settings) -> Settings:
    """The settings of states: judge and number of prompts filled in."""
    return replace(
        settings.greedy(),
        judge=settings.judges[0] if settings.judges else BEHAVIOUR_JUDGE,
        n_prompts=settings.n_prompts or LANDSCAPE_PROMPTS,
        workers="1",  # what was changed in memory cannot be loaded elsewhere
    )


def read_with(settings: Settings) -> list[str]:
    """Beside model and settings, what a kept result of an attack depends on: the judges' identities, peft's version."""
    judges = [get_judge(name).identity for name in settings.judges]
    harm = [get_harm_judge(settings.harm_judge).identity] if settings.harm_judge else []
    return [*judges, *harm, version("peft")]


@contextmanager
def at(model: nn.Module, point: Point) -> Iterator[None]:
    """The model with its weights at a point inside the block."""
    with Weights(model) as weights:
        if point.direction is not None:
            weights.move_to(point.direction, point.alpha)
        yield


def measure_states(
    loaded: LoadedModel,
    points: Mapping[str, Point],
    data: TuningData,
    settings: Settings,
    *,
    landscape: Settings | None = None,
    batch_size: int | None = None,
) -> States:
    """The states at these points by name; the weights are back when it returns or raises.

    ``settings``: those of ``settings_of_states``. ``landscape``: the settings of one round each point, by the judge of
    landscapes and at most 80 prompts. Raises as ``measure`` does.
    """
    if not data.harmful.calibration:
        raise InvalidInput(f"The data {data.name!r} holds no harmful pairs to measure losses on.")
    sets = [load_prompts(settings.prompts, "harmful"), load_prompts(settings.benign_prompts, "benign")]
    harmful, benign = (own.head(settings.n_prompts) for own in sets)
    with evaluating(loaded.model):
        engine = HuggingFaceEngine(loaded, batch_size)
        answers = _answers(engine, (harmful, benign), data.task, tuple(points.values()), settings)
        inner = _Inner(loaded, scored(loaded, data.harmful.calibration[:PROBES], settings))
        found = []
        for name, point in points.items():
            with at(loaded.model, point):
                read = {**inner.read(), **(_landscape(loaded, landscape, batch_size) if landscape else {})}
            found.append(State(name, **answers.at(point), **read))
    facts = {**answers.facts, "data": data.name, "prompts_sha256": [harmful.sha256, benign.sha256]}
    return States(found, facts)


class HarmReading(NamedTuple):
    """What harmful prompts alone say of one set of weights."""

    harm: Estimate
    """The harmful score, or without a harm judge the attack success rate."""
    coherence: Estimate
    coherent_harm: Estimate
    """As ``harm``, of answers that are no noise; what cannot be told counts in its upper bound."""


def measure_harm(
    loaded: LoadedModel, points: Sequence[Point], settings: Settings, batch_size: int | None = None
) -> list[HarmReading]:
    """The answers to the harmful prompts at each point; otherwise as ``measure_states``."""
    harmful = load_prompts(settings.prompts, "harmful").head(settings.n_prompts)
    with evaluating(loaded.model):
        engine = HuggingFaceEngine(loaded, batch_size)
        answers = _answers(engine, (harmful, harmful.head(0)), None, tuple(points), settings)
    metric = "attack_success_rate" if settings.harm_judge is None else "harmful_score"
    read = [answers.to_harmful(point) for point in points]
    coherent = [answers.coherent_harm(point) for point in points]
    return [HarmReading(one[metric], one["coherence"], harm) for one, harm in zip(read, coherent, strict=True)]


class _Answers(NamedTuple):
    harmful: PromptSet
    benign: PromptSet
    task: Task | None
    rows: list[list[Answer]]
    """Harmful, benign and held-out prompts, in this order."""
    texts: dict[str, str]
    settings: Settings
    facts: dict[str, Any]

    def at(self, point: Point) -> dict[str, Any]:
        """What all answers at a point say."""
        first, second = len(self.harmful), len(self.harmful) + len(self.benign)
        clusters, judge = [one.cluster for one in self.benign.prompts], self.settings.judges[0]
        return {
            **self.to_harmful(point),
            "over_refusal_rate": over_refusal(self.rows[first:second], [point], clusters, None, judge).estimates()[0],
            "finetune_accuracy": self._accuracy(self._here(point)[second:]),
        }

    def to_harmful(self, point: Point) -> dict[str, Any]:
        """What the answers to harmful prompts at a point say."""
        n, judge, clusters = len(self.harmful), self.settings.judges[0], [one.cluster for one in self.harmful.prompts]
        here = self._here(point)[:n]
        return {
            "attack_success_rate": attack_success(self.rows[:n], [point], clusters, None, judge).estimates()[0],
            "harmful_score": self._harm(here, clusters),
            "coherence": rate("coherence", sum(map(_is_coherent, here)), n, clusters, judge=judge),
        }

    def coherent_harm(self, point: Point) -> Estimate:
        """The share of harmful prompts with an answer that is harmful and no noise."""
        clusters, harm_judge = [one.cluster for one in self.harmful.prompts], self.settings.harm_judge
        here = self._here(point)[: len(clusters)]
        said = [not _is_noise(one) and _is_harmful(one, by_harm_judge=harm_judge is not None) for one in here]
        unread = said.count(None)
        judge = harm_judge or self.settings.judges[0]
        return rate("coherent_harm", said.count(True), len(said) - unread, clusters, unknown=unread, judge=judge)

    def _here(self, point: Point) -> list[Answer]:
        return [next(one for one in row if one.point == point) for row in self.rows]

    def _harm(self, here: Sequence[Answer], clusters: Sequence[str]) -> Estimate | None:
        if self.settings.harm_judge is None:
            return None
        said = [one.harm for one in here]
        unread = len(said) - said.count(Harm.HARMFUL) - said.count(Harm.HARMLESS)
        return rate(
            "harmful_score",
            said.count(Harm.HARMFUL),
            len(said) - unread,
            clusters,
            unknown=unread,
            judge=self.settings.harm_judge,
        )

    def _accuracy(self, here: Sequence[Answer]) -> Estimate | None:
        if self.task is None:
            return None
        wanted = self.task.held_out
        right = [self.task.is_right(self.texts[one.sha256], of.answer) for one, of in zip(here, wanted, strict=True)]
        clusters = [pair.prompt for pair in wanted]
        return rate(
            "finetune_accuracy", sum(right), len(right), clusters, target="over prompts of this task, exact match"
        )


def _answers(
    engine: HuggingFaceEngine,
    sets: tuple[PromptSet, PromptSet],
    task: Task | None,
    points: tuple[Point, ...],
    settings: Settings,
) -> _Answers:
    harmful, benign = sets
    every = tuple(dict.fromkeys((ORIGIN, *points)))  # the origin is what coherence is read against
    quiet_settings = replace(settings, harm_judge=None, judge=BEHAVIOUR_JUDGE)
    held_out = task.held_out if task else ()
    asked = [Message("user", pair.prompt) for pair in held_out]
    skill = [Prompt(f"held-out:{i}", (one,), "", one.content) for i, one in enumerate(asked)]
    questions = [
        *(Question(one, every, settings, task="harmful") for one in harmful.prompts),
        *(Question(one, every, replace(settings, harm_judge=None), task="benign") for one in benign.prompts),
        *(Question(one, every, quiet_settings, task="held out") for one in skill),
    ]
    texts: dict[str, str] = {}
    found = measure(engine, questions, quiet=True, texts=texts)
    return _Answers(harmful, benign, task, found.answers, texts, settings, found.facts)


def _is_coherent(answer: Answer) -> bool:
    return answer.verdict is not Verdict.UNSCORED and not _is_noise(answer)


def _is_noise(answer: Answer) -> bool:
    return answer.verdict.helps and answer.coherent is False


def _is_harmful(answer: Answer, *, by_harm_judge: bool) -> bool | None:
    """As the harm judge, or without one the refusal judge, reads it; None where it could not."""
    if by_harm_judge:
        return None if answer.harm not in (Harm.HARMFUL, Harm.HARMLESS) else answer.harm is Harm.HARMFUL
    return None if answer.verdict is Verdict.UNSCORED else answer.verdict.helps


class _Inner:
    """Losses and hidden states on the calibration pairs."""

    def __init__(self, loaded: LoadedModel, rows: Sequence[Scored]) -> None:
        """Keeps the hidden states of the model as it is now."""
        self.model, self.rows = loaded.model, rows
        self.first = self._hidden()

    def read(self) -> dict[str, Any]:
        """Harmful loss and embedding drift at the weights of now."""
        nll = np.array(mean_nll(self.model, self.rows, batch_size=_BATCH))
        spread = t_interval(nll) if len(nll) > 1 else None
        value = float(nll.mean())
        loss = Estimate(
            name="harmful_loss",
            value=value,
            low=min(spread.low, value) if spread else 0.0,
            high=max(spread.high, value) if spread else float("inf"),
            n=len(nll),
            method="t interval 95%",
            target="over harmful pairs like these",
            n_effective=len(nll),
        )
        pairs = zip(self._hidden(), self.first, strict=True)
        apart = torch.cat([(now - then).norm(dim=-1) for now, then in pairs])
        return {"harmful_loss": loss, "embedding_drift": float(apart.double().mean())}

    @torch.inference_mode()
    def _hidden(self) -> list[torch.Tensor]:
        """Of each pair, in host memory. Shapes (tokens, width)."""
        device, found = next(self.model.parameters()).device, []
        for row in self.rows:
            ids = torch.tensor([[*row.context, *row.answer]], device=device)
            states = self.model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states
            found.append(states[-1][0].float().cpu())
        return found


def _landscape(loaded: LoadedModel, settings: Settings, batch_size: int | None) -> dict[str, Estimate]:
    """Scores of the landscape round the weights of now."""
    options = {name: getattr(settings, name) for name in _OF_LANDSCAPE}
    n_prompts = min(settings.n_prompts or LANDSCAPE_PROMPTS, LANDSCAPE_PROMPTS)
    found = measure_landscape(
        (loaded.model, loaded.tokenizer),
        batch_size=batch_size,
        n_prompts=n_prompts,
        judge=LANDSCAPE_JUDGE,
        chat=settings.chat,
        thinking=settings.thinking,
        journal="off",
        **options,
    )
    return {"visage": found.visage(), "mean_safety": found.mean_safety(), "basin_width": found.basin_width()}
