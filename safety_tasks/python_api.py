"""measure_landscape, measure_plane, measure_worst_width: from Python or a notebook, by the road of lm_eval's tasks."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidSetting
from safety_tasks.inputs import check_inputs
from safety_tasks.interpolation import Interpolation
from safety_tasks.landscape import Landscape
from safety_tasks.measurement import Question, measure
from safety_tasks.models import LoadedModel, load_model, resolve_source
from safety_tasks.perturbable import is_quantised
from safety_tasks.plane import Plane
from safety_tasks.points import Point, grid
from safety_tasks.prompts import PromptSet, load_prompts
from safety_tasks.quantisation import check_dequantisable, dequantised
from safety_tasks.settings import LANDSCAPE_JUDGE, LANDSCAPE_PROMPTS, Settings
from safety_tasks.shapes import interpolation_points, plane_points
from safety_tasks.worst_points import worst_points
from safety_tasks.worst_width import WorstWidth

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")


def with_settings_in_signature(function: Callable[..., T]) -> Callable[..., T]:
    """Show the fields of Settings as keyword arguments in help() and editors: they are declared there only."""
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in dataclasses.fields(Settings)
    ]
    returned = inspect.signature(function).return_annotation
    function.__signature__ = inspect.Signature([*own, *options], return_annotation=returned)  # type: ignore[attr-defined]
    return function


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """The model without dropout, each of its modules back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@overload
def measure_landscape(
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    target: None = None,
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Landscape: ...


@overload
def measure_landscape(
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    target: str,
    points: int | Sequence[float] = 21,
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Interpolation: ...


@with_settings_in_signature
def measure_landscape(
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Landscape | Interpolation:
    """The 1D safety landscape of a model; its weights are untouched afterwards.

    Along seeded random directions, or, with ``target``, on the way to another checkpoint or a LoRA adapter: an
    Interpolation, for which ``points`` may be a list of coefficients (0 the model, 1 the target; both are always
    measured). ``model``: a path, hub id or embedded name, or a loaded (model, tokenizer). ``options``: the fields of
    Settings. ``dtype`` and ``device`` apply to models that are loaded here. Raises InvalidInput before anything is
    loaded when an option, prompt set, judge or target is wrong, and InvalidModel for a target of another architecture.
    """
    settings = _settings(_with_coefficients(options))
    run = _Run(model, dtype, device, batch_size, settings)
    if settings.target is None:
        return _measured(run, grid(settings), Landscape.from_answers)
    return _measured(run, interpolation_points(settings), Interpolation.from_answers)


@with_settings_in_signature
def measure_plane(
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Plane:
    """The 2D safety landscape of a model; its weights are untouched afterwards.

    ``plane``: "random" (two random directions), "interpolation" (the ways to ``target`` and ``second_target``) or
    "interpolation-random" (the way to ``target`` and a random direction), with ``plane_points`` points along each axis.
    Arguments and errors otherwise as of ``measure_landscape``.
    """
    settings = _settings(options)
    run = _Run(model, dtype, device, batch_size, settings)
    return _measured(run, plane_points(settings), Plane.from_answers)


@with_settings_in_signature
def measure_worst_width(
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> WorstWidth:
    """The basins along a model's worst direction and along random ones; its weights are untouched afterwards.

    Arguments and errors as of ``measure_landscape``, and InvalidModel where the model has no gradient.
    """
    settings = _settings(options)
    run = _Run(model, dtype, device, batch_size, settings)
    return _measured(run, worst_points(settings, _prompts(settings).prompts), WorstWidth.from_answers)


class _Run(NamedTuple):
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase]
    dtype: str | None
    device: str | None
    batch_size: int | None
    settings: Settings


def _with_coefficients(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with a list of points as the setting that holds one."""
    points = options.get("points")
    if points is None or isinstance(points, int | float | str):
        return options
    if options.get("target") is None:
        raise InvalidSetting("points is a list: only an interpolation takes one, towards target=PATH.")
    return {**options, "points": None, "coefficients": ":".join(str(float(at)) for at in points)}


def _settings(options: dict[str, Any]) -> Settings:
    given = Settings.parse(options)
    check_inputs(given)
    if given.mode != "full":
        raise InvalidSetting(f"mode={given.mode} is of lm_eval's visage_landscape and of pytest: leave it out here.")
    return dataclasses.replace(given.greedy(), judge=given.judge or LANDSCAPE_JUDGE, harm_judge=None)


def _prompts(settings: Settings) -> PromptSet:
    return load_prompts(settings.prompts, kind="harmful").head(settings.n_prompts or LANDSCAPE_PROMPTS)


def _loaded(run: _Run) -> LoadedModel:
    """The model, with its weights dequantised where they are packed."""
    if isinstance(run.model, str):
        check_dequantisable(resolve_source(run.model).model)
        loaded = load_model(run.model, run.dtype, run.device)
    else:
        loaded = LoadedModel(*run.model)
    return dequantised(loaded) if is_quantised(loaded.model) else loaded


def _measured(run: _Run, points: tuple[Point, ...], read: Callable[..., T]) -> T:
    """The landscape that ``read`` makes of the answers at these points."""
    settings = run.settings
    prompts = _prompts(settings)
    loaded = _loaded(run)
    questions = [Question(prompt, points, settings) for prompt in prompts.prompts]
    with evaluating(loaded.model):
        answers, facts = measure(HuggingFaceEngine(loaded, run.batch_size), questions)
    return read(
        answers,
        [prompt.id for prompt in prompts.prompts],
        [prompt.cluster for prompt in prompts.prompts],
        settings,
        {**facts, "prompts": prompts.name, "prompts_sha256": prompts.sha256},
    )
