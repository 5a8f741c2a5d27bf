"""measure_landscape: a landscape from Python or a notebook, by the same road as lm_eval's tasks."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.inputs import check_inputs
from safety_tasks.landscape import Landscape
from safety_tasks.measurement import Question, measure
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.points import grid
from safety_tasks.prompts import load_prompts
from safety_tasks.settings import LANDSCAPE_JUDGE, LANDSCAPE_PROMPTS, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def _with_settings_in_signature(function: Callable[..., Landscape]) -> Callable[..., Landscape]:
    """Show the fields of Settings as keyword arguments in help() and editors: they are declared there only."""
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in dataclasses.fields(Settings)
    ]
    function.__signature__ = inspect.Signature([*own, *options], return_annotation=Landscape)  # type: ignore[attr-defined]
    return function


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """The model without dropout, each of its modules back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@_with_settings_in_signature
def measure_landscape(
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Landscape:
    """The 1D safety landscape of a model along seeded random directions; its weights are untouched afterwards.

    ``model``: a path, hub id or embedded name, or a loaded (model, tokenizer). ``options``: the fields of Settings.
    ``dtype`` and ``device`` apply to a model that is loaded here. Raises InvalidInput before anything is loaded
    when an option, prompt set or judge is wrong.
    """
    given = Settings.parse(options)
    check_inputs(given)
    settings = dataclasses.replace(given.greedy(), judge=given.judge or LANDSCAPE_JUDGE, harm_judge=None)
    prompts = load_prompts(settings.prompts, kind="harmful").head(settings.n_prompts or LANDSCAPE_PROMPTS)
    loaded = load_model(model, dtype, device) if isinstance(model, str) else LoadedModel(*model)
    questions = [Question(prompt, grid(settings), settings) for prompt in prompts.prompts]
    with _evaluating(loaded.model):
        answers, facts = measure(HuggingFaceEngine(loaded, batch_size), questions)
    return Landscape.from_answers(
        answers,
        [prompt.id for prompt in prompts.prompts],
        [prompt.cluster for prompt in prompts.prompts],
        settings,
        {**facts, "prompts": prompts.name, "prompts_sha256": prompts.sha256},
    )
