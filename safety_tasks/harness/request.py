"""The request type ``visage_generate``: how a task of ours reaches the weights of lm_eval's model.

lm_eval sends each request to the method of the model that bears the request type's name; this module gives that
method to every model class. One request carries one prompt and the plan of points at which it is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from safety_tasks.chat import Rendered, with_beginning
from safety_tasks.decoding import Completion, final_answer, opened_by_prompt
from safety_tasks.engine import Engine, HuggingFaceEngine, Mover
from safety_tasks.errors import InvalidModel, NotPerturbable, SafetyError
from safety_tasks.harness.adapted import settle, tokenizer_of, warn_of_pickles
from safety_tasks.harness.dequantised import dequantised_lm
from safety_tasks.measurement import Question, measure
from safety_tasks.models import LoadedModel, pin
from safety_tasks.noise import stream_key
from safety_tasks.perturbable import is_quantised
from safety_tasks.points import ORIGIN, Point
from safety_tasks.prompts import Message
from safety_tasks.repeats import repeated
from safety_tasks.sampling import Draw
from safety_tasks.settings import Settings
from safety_tasks.shared_weights import bring
from safety_tasks.workers.hiring import refuse_processes

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
    for question in questions[:1]:
        refuse_processes(question.settings, int(getattr(lm, "world_size", 1)))
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


class TextEngine:
    """A model behind lm_eval's ``generate_until``: text in, text out, nothing of the weights."""

    def __init__(self, lm: LM) -> None:
        self.lm = lm

    def render(self, messages: Sequence[Message], settings: Settings) -> Rendered:
        """The conversation by the model type's own template."""
        if settings.chat == "off":
            return Rendered("\n\n".join(message.content for message in messages), is_templated=False)
        if settings.template_arguments:
            raise InvalidModel(
                f"The profile has template_arguments, and lm_eval's model type {type(self.lm).__name__} gives no "
                "access to the chat template: set them where the model is served, and leave them out of the profile."
            )
        if settings.thinking != "auto":
            raise InvalidModel(
                f"thinking is {settings.thinking!r}, and lm_eval's model type {type(self.lm).__name__} gives no access "
                "to the chat template's switch: set it where the model is served, and leave thinking at auto here."
            )
        try:
            text = with_beginning(messages, self._written)
        except (NotImplementedError, AttributeError) as error:
            raise InvalidModel(
                f"lm_eval's model type {type(self.lm).__name__} applies no chat template, and refusals depend on it. "
                "Choose its chat variant (such as local-chat-completions), or measure on plain text with "
                "--metadata visage_chat=off."
            ) from error
        return Rendered(text, is_templated=True)

    def _written(self, messages: Sequence[Message], opens_turn: bool) -> str:
        """What the model type makes of a conversation."""
        turns = [message._asdict() for message in messages]
        found: str = self.lm.apply_chat_template(turns) if opens_turn else self.lm.apply_chat_template(turns, False)
        return found

    def token_budget(self, prompts: Sequence[Rendered], wanted: int) -> int:
        """What was asked for: the server knows its own limits."""
        return wanted

    def moving(self) -> AbstractContextManager[Mover]:
        """Refused: there are no weights here."""
        raise NotPerturbable(f"lm_eval's model type {type(self.lm).__name__} gives no access to its weights.")

    def generate(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...]
    ) -> list[Completion]:
        """lm_eval's own greedy generation, to its end: ``stop_strings`` would cut the refusal out of the text."""
        return self._answers(prompts, {"max_gen_toks": max_new_tokens, "do_sample": False, "temperature": 0.0})

    def sample(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...], draw: Draw
    ) -> list[Completion]:
        """lm_eval's own sampled generation, with a seed for each answer, which the backend may ignore.

        lm_eval would send one seed with every request, so that a prompt's answers came out alike.
        """
        seed = stream_key(draw.seed, draw.sample, "answer") % 2**31
        wanted: dict[str, Any] = {"max_gen_toks": max_new_tokens, "do_sample": True, "seed": seed}
        wanted |= {"temperature": draw.temperature, "top_p": draw.top_p}
        return self._answers(prompts, wanted if draw.top_k is None else {**wanted, "top_k": draw.top_k})

    def _answers(self, prompts: Sequence[Rendered], wanted: dict[str, Any]) -> list[Completion]:
        requests = [
            Instance("generate_until", {}, (prompt.text, {"until": [], **wanted}), index, (REQUEST_TYPE, index, 1))
            for index, prompt in enumerate(prompts)
        ]
        texts = self.lm.generate_until(requests)
        if len(texts) != len(requests) or not all(isinstance(text, str) for text in texts):
            raise SafetyError(f"lm_eval's model type {type(self.lm).__name__} did not answer every prompt with text.")
        return [_completion(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]

    def mean_nll(self, prompts: Sequence[Rendered], completions: Sequence[Completion]) -> None:
        """Out of reach."""

    @property
    def name(self) -> str:
        """The model type."""
        return type(self.lm).__name__

    def identity(self) -> None:
        """Unknown: the weights behind a server have no fingerprint, so nothing is remembered of them."""

    def facts(self) -> dict[str, Any]:
        """The model type."""
        return {"model": self.name, "weights_fingerprint": None}


def _completion(prompt: Rendered, text: str) -> Completion:
    """A server's text, of which only the final answer is judged."""
    opened = opened_by_prompt(prompt.text) if isinstance(prompt.text, str) else None  # chat servers take messages
    answer = final_answer(text, opened)
    return Completion(answer or "", (), finished=None, thinking_tokens=None if answer is None else 0)
