"""The request type ``visage_generate``: how a task of ours reaches the weights of lm_eval's model.

lm_eval sends each request to the method of the model that bears the request type's name; this module gives that
method to every model class. One request carries one prompt and the plan of points at which it is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from safety_tasks.engine import Engine, HuggingFaceEngine
from safety_tasks.errors import NotPerturbable
from safety_tasks.harness.adapted import settle, tokenizer_of, warn_of_pickles
from safety_tasks.harness.dequantised import dequantised_lm
from safety_tasks.harness.text_engine import TextEngine
from safety_tasks.measurement import Question, measure
from safety_tasks.memory_plan import plan_of_loaded
from safety_tasks.models import LoadedModel, pin
from safety_tasks.perturbable import is_quantised
from safety_tasks.points import ORIGIN, Point
from safety_tasks.repeats import repeated
from safety_tasks.shared_weights import bring

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from safety_tasks.budget import Budget
    from safety_tasks.harness.rows import Response

REQUEST_TYPE = "visage_generate"
BATCH_SIZE = "visage_batch_size"
"""Attribute of a model whose batch size was chosen in our own options, where 1 means 1."""
QUIET = "visage_quiet"
"""Attribute of a model whose measurements draw no progress bar."""
REPEAT = "visage_repeat"
"""Attribute of a model that is asked again: which repeat this is."""
BUDGET = "visage_budget"
"""Attribute of a model whose measurements share the time of a session."""
TEXTS = "visage_texts"
"""Attribute of a model whose answers are wanted for a report: a dict that takes them in by their hash."""
_TOLD = "visage_memory_told"
_log = logging.getLogger(__name__)


class Beside(Protocol):
    """What a task measures on the live model beside its prompts; its requests carry it as their third argument."""

    unfinished: str
    """Why it was not measured, if the time was spent."""

    def check(self, lm: LM, engine: Engine) -> None:
        """Raise InvalidInput for a model on which it cannot be measured, before any prompt is asked."""

    def measure(
        self, lm: LM, engine: Engine, points: Sequence[Point], *, quiet: bool = False, budget: Budget | None = None
    ) -> None:
        """Measure it; the weights are back when it returns or raises."""


def install() -> None:
    """Give lm_eval's model classes the method that answers our requests; idempotent."""
    if not hasattr(LM, REQUEST_TYPE):
        setattr(LM, REQUEST_TYPE, visage_generate)


def visage_generate(lm: LM, requests: Sequence[Instance]) -> list[Response]:
    """The answers to each request's question at each of its points, in order.

    Tasks that move the weights of a quantised model are measured on a second one, with the dequantised weights.
    """
    questions: list[Question] = [request.args[1] for request in requests]
    engine = engine_of(lm)
    moved = {one.task for one in questions if any(point != ORIGIN for point in one.points)}
    if moved and isinstance(engine, HuggingFaceEngine) and is_quantised(engine.model):
        with dequantised_lm(lm, engine) as plain:
            found: dict[int, Response] = {}
            for model, is_moved in ((lm, False), (plain, True)):
                wanted = [i for i, one in enumerate(questions) if (one.task in moved) is is_moved]
                answered = visage_generate(model, [requests[i] for i in wanted]) if wanted else []
                found |= zip(wanted, answered, strict=True)
        return [found[i] for i in range(len(requests))]
    _tell_memory(lm, engine, questions)
    if isinstance(engine, TextEngine) and any(point != ORIGIN for q in questions for point in q.points):
        raise NotPerturbable(
            "A safety landscape moves the model's weights in this process, and lm_eval's model type "
            f"{type(lm).__name__} gives no access to them. Use --model hf, or run the tasks that need no weights: "
            "visage_harmful, visage_over_refusal."
        )
    beside: dict[Beside, Question] = {request.args[2]: request.args[1] for request in requests if request.args[2:]}
    for one in beside:
        one.check(lm, engine)
    quiet, budget, texts = getattr(lm, QUIET, False), getattr(lm, BUDGET, None), getattr(lm, TEXTS, None)
    with repeated(engine, getattr(lm, REPEAT, 0)) as asked:
        answers, facts = measure(asked, questions, quiet=quiet, budget=budget, texts=texts)
    for one, question in beside.items():
        if "out_of_time" in facts:
            one.unfinished = str(facts["out_of_time"])
        else:
            one.measure(lm, engine, question.points, quiet=quiet, budget=budget)
    return [{"answers": row, "facts": facts, "reader": ""} for row in answers]


def _tell_memory(lm: LM, engine: Engine, questions: Sequence[Question]) -> None:
    """Log the memory plan of a model that is loaded, once, where it is worth saying.

    Under lm_eval's logger, whose INFO is printed there.
    """
    if not isinstance(engine, HuggingFaceEngine) or not questions or hasattr(lm, _TOLD):
        return
    setattr(lm, _TOLD, True)
    plan = plan_of_loaded(engine.model, engine.name, max(one.settings.max_new_tokens for one in questions))
    if plan.is_worth_saying:
        logging.getLogger("lm_eval.safety_tasks").info("%s", plan)


def engine_of(lm: LM) -> Engine:
    """The engine of an lm_eval model: its own, if it brings one; ours for Hugging Face models; else text only.

    An adapter of ``peft=`` is settled before. Raises InvalidModel where that does not fit or does nothing.
    """
    import torch

    own = getattr(lm, "visage_engine", None)
    if own is not None:
        engine: Engine = own
        return engine
    warn_of_pickles(lm)
    settle(lm)
    model = getattr(lm, "model", None)
    if isinstance(model, torch.nn.Module) and hasattr(model, "get_input_embeddings"):
        bring(model)
        pin(model, getattr(lm, "revision", None))
        loaded = LoadedModel(cast("PreTrainedModel", model), tokenizer_of(lm))
        return HuggingFaceEngine(loaded, batch_size=_batch_size(lm))
    return TextEngine(lm)


def _batch_size(lm: LM) -> int | None:
    """The batch size that the user chose; lm_eval's default of 1, and auto, mean all prompts at once."""
    chosen = getattr(lm, BATCH_SIZE, None)
    if isinstance(chosen, int):
        return chosen
    given = getattr(lm, "batch_size_per_gpu", 1)
    return given if isinstance(given, int) and given > 1 else None
