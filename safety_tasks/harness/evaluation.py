"""Running our tasks from Python through lm_eval's own ``evaluate``: the road that the pytest plugin takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM
from lm_eval.api.registry import get_model
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import simple_parse_args_string

from safety_tasks.budget import Budget
from safety_tasks.chat import check_template
from safety_tasks.engine import Engine
from safety_tasks.errors import InvalidModel
from safety_tasks.harness.adapted import put_on
from safety_tasks.harness.any_task import errors_only
from safety_tasks.harness.request import BATCH_SIZE, BUDGET, QUIET, TEXTS
from safety_tasks.harness.task import SafetyTask
from safety_tasks.loading_errors import cannot_be_had, check_pickles
from safety_tasks.memory_plan import plan_loading
from safety_tasks.models import (
    Source,
    bars_on_terminals_only,
    check_dtype,
    default_device,
    load_tokenizer,
    resolve_source,
)
from safety_tasks.revisions import pinned
from safety_tasks.settings import METADATA_PREFIX, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TASKS = Path(__file__).parent / "tasks"
_BATCHING = ("sglang", "vllm")
"""Model types that batch by themselves, and would be held up by a batch size of 1."""


def load_lm(
    model: str,
    *,
    settings: Settings,
    adapter: str | None = None,
    backend: str = "hf",
    model_args: str = "",
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> LM:
    """lm_eval's model of a type; for ``hf`` path, memory and template are checked before weights load.

    With an adapter, or of an adapter's folder: merged into its base, which stays at hand (``base_of``). ``say`` is told
    the memory plan, where there is a GPU or memory is tight. Raises InvalidModel.
    """
    arguments: dict[str, Any] = dict(simple_parse_args_string(model_args))
    source: Source | None = None
    if backend == "hf":
        device = device or default_device()
        source = _checked_source(model, adapter, arguments, dtype, settings)
        arguments = _arguments_of(source, arguments, dtype)
        plan = plan_loading(source.model, arguments, device=device, max_new_tokens=settings.max_new_tokens)
        if plan is not None:
            plan.check()
            if plan.is_worth_saying:
                say(str(plan))
    elif model:
        arguments.setdefault("model" if "completions" in backend else "pretrained", model)
        arguments = {**({"dtype": dtype} if dtype else {}), **arguments}
        if backend.startswith("hf-") and arguments.setdefault("use_safetensors", True):
            check_pickles(model)
    at_once = batch_size or ("auto" if backend in _BATCHING else 1)
    try:
        with bars_on_terminals_only():
            lm = get_model(backend).create_from_arg_obj(arguments, {"device": device, "batch_size": at_once})
    except Exception as error:  # whatever a model type raises while it loads, it is this model that cannot be had
        if source is not None and "trust_remote_code" in str(error):
            raise cannot_be_had(model, error) from error
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InvalidModel(f"lm_eval's model type {backend!r} could not load {model!r} ({said})") from error
    setattr(lm, BATCH_SIZE, batch_size)
    if "think_end_token" in arguments and not hasattr(lm, "think_end_token"):
        lm.think_end_token = arguments["think_end_token"]  # lm_eval 0.4.12 drops it for servers
    if source is not None:
        put_on(lm, source)
    return lm


def _checked_source(
    model: str, adapter: str | None, arguments: Mapping[str, Any], dtype: str | None, settings: Settings
) -> Source:
    """Where a model of the type ``hf`` comes from, all checked that can be before its weights load."""
    check_dtype(dtype)
    source = resolve_source(model, adapter)
    source.check()
    if "revision" in arguments:
        name, _ = pinned(source.model)
        raise InvalidModel(
            "revision= of the model's arguments would reach every model of a run: name this one "
            f"{name}@{arguments['revision']}."
        )
    if arguments.get("use_safetensors", True):
        check_pickles(source.model)
    if settings.chat != "off":
        remote = arguments.get("trust_remote_code") is True
        check_template(load_tokenizer(source.tokenizer, trust_remote_code=remote), settings)
    return source


def _arguments_of(source: Source, given: Mapping[str, Any], dtype: str | None) -> dict[str, Any]:
    """What lm_eval's model type ``hf`` is told; what the user gave stands."""
    name, revision = pinned(source.model)
    return {
        "pretrained": name,
        **({"revision": revision} if revision else {}),
        **({"tokenizer": source.tokenizer} if source.tokenizer != source.model else {}),
        "use_safetensors": True,
        **({"dtype": dtype} if dtype else {}),
        **given,
    }


def lm_of(
    model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    settings: Settings,
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
) -> LM:
    """lm_eval's model of a name, as ``load_lm`` takes it, or of a loaded model and tokenizer."""
    if isinstance(model, str):
        return load_lm(model, settings=settings, dtype=dtype, device=device, batch_size=batch_size)
    with errors_only():  # not of a model that lm_eval did not load itself
        return HFLM(pretrained=model[0], tokenizer=model[1], batch_size=batch_size or 1)


def evaluate_tasks(
    lm: LM,
    names: Sequence[str],
    settings: Settings,
    *,
    quiet: bool = False,
    budget: Budget | None = None,
    texts: dict[str, str] | None = None,
) -> Mapping[str, SafetyTask]:
    """The tasks of those names after lm_eval has run them together on the model, by name.

    Those that the ``budget`` left no time for are ``unfinished``. ``quiet``: without a bar; ``texts``: takes in the
    answers by their hash.
    """
    setattr(lm, QUIET, quiet)
    setattr(lm, BUDGET, budget)
    setattr(lm, TEXTS, texts)
    metadata = {METADATA_PREFIX + name: value for name, value in settings.to_dict().items() if value is not None}
    level = logging.getLogger("lm_eval").level
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    try:
        manager = TaskManager(include_defaults=False, include_path=str(_TASKS), metadata=metadata)
        loaded = manager.load(list(names))
        evaluate(lm=lm, task_dict=loaded, log_samples=False, bootstrap_iters=0)
    finally:
        logging.getLogger("lm_eval").setLevel(level)
    tasks: Mapping[str, SafetyTask] = loaded["tasks"]
    return tasks


class EngineLM(LM):  # type: ignore[misc]  # lm_eval is untyped
    """An engine of ours where lm_eval wants a model: how a test double enters by the same door."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.visage_engine = engine

    def loglikelihood(self, requests: Any) -> Any:
        """Not offered."""
        raise InvalidModel("This model only answers the safety tasks.")

    loglikelihood_rolling = generate_until = loglikelihood
