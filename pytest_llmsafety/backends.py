"""Backends: what is out of reach where the model under test is behind another lm_eval model type than ``hf``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from pytest_llmsafety.gate_prompts import LANDSCAPE_TASKS, MARGIN_TASK
from pytest_llmsafety.gates import GATED
from pytest_llmsafety.options import RunOptions
from safety_tasks.errors import InvalidGate, InvalidInput

SERVER = "completions"
"""What the names of the model types that ask a server by HTTP have in common."""
_ENGINES = ("vllm", "vllm-vlm", "sglang", "trtllm")
"""Engines in this process whose weights lm_eval does not reach."""
_OTHERS = ("anthropic-chat", "ggml", "gguf", "litellm", "litellm-chat", "sglang-generate", "textsynth", "watsonx_llm")
_MOVING = {*LANDSCAPE_TASKS, MARGIN_TASK}
_IN_REACH = "attack_success_rate, over_refusal_rate and the other rates of answers"
_ALIASES = ("hf-auto", "huggingface")
"""lm_eval's other names of ``hf``."""
_TUNING = ("delta", "lora_local_path", "peft", "steer_path")
"""Arguments of model types that put something on the weights."""
_ADAPTERS = {
    "vllm": "name the adapter in that backend's own arguments (--llm-model-args lora_local_path=FOLDER).",
    "sglang": "lm_eval gives SGLang none in this process, so merge it into the model first, or serve it.",
}


def has_no_weights(backend: str) -> bool:
    """Whether a model type gives texts alone, as far as its name tells."""
    return SERVER in backend or backend in (*_ENGINES, *_OTHERS)


def check_reach(metric: str, tasks: Sequence[str], options: RunOptions) -> None:
    """Raise InvalidGate for a metric that these tasks measure by moving weights which the backend does not give."""
    if has_no_weights(options.backend) and set(tasks) <= _MOVING:
        raise InvalidGate(
            f"{metric} moves the model's weights in this process, and --llm-backend {options.backend} gives no access "
            f"to them: measure it with --llm-backend hf. In reach are {_IN_REACH}."
        )


def check_named_reach(metric: str, options: RunOptions) -> None:
    """``check_reach`` for a metric by its name alone."""
    check_reach(metric, GATED[metric].tasks, options)


def preset_for(lines: Sequence[str], backend: str) -> list[str]:
    """The lines that a preset adds for a base model, without those on weights that the backend does not give."""
    return [line for line in lines if not (has_no_weights(backend) and set(GATED[line.split()[0]].tasks) <= _MOVING)]


def plain_name(backend: str) -> str:
    """The model type's name here, where lm_eval has several."""
    return "hf" if backend in _ALIASES else backend


def check_backend(options: RunOptions) -> None:
    """Raise InvalidInput for options of the model that the backend would not obey, or lacks."""
    given = dict(part.split("=", 1) for part in options.model_args.split(",") if "=" in part)
    _check_names(options, given)
    if SERVER not in options.backend:
        return
    for name in ("dtype", "device"):
        if getattr(options, name) is not None:
            raise InvalidInput(
                f"--llm-{name} does not go with --llm-backend {options.backend}: it is chosen where the model is "
                "served."
            )
    if (options.batch_size or 1) > 1 and "chat" in options.backend:
        raise InvalidInput(
            f"--llm-batch-size does not go with --llm-backend {options.backend}, which sends one prompt a request: "
            "num_concurrent=N of --llm-model-args has N of them answered at once."
        )
    if options.backend.startswith("local-") or "base_url" in given:
        _check_address(options.backend, given.get("base_url", ""))


def adapter_hint(backend: str) -> str:
    """What to do with an adapter on a backend that --llm-adapter does not serve."""
    if SERVER in backend:
        return "serve it there, and give the name that it has at the server with --llm-model."
    return _ADAPTERS.get(backend, "name the adapter in that backend's own arguments (--llm-model-args).")


def _check_names(options: RunOptions, given: Mapping[str, str]) -> None:
    """A name among the backend's arguments goes before ours: the base would be the model under test once more."""
    for key in ("model", "pretrained"):
        if key in given and (given[key] != options.model or options.base_model):
            raise InvalidInput(
                f"{key}= of --llm-model-args and --llm-model both name the model under test: leave the former out."
            )
    for key in (key for key in _TUNING if key in given and options.base_model):
        by_option = "give an adapter with --llm-adapter, or " if options.backend == "hf" else ""
        raise InvalidInput(
            f"{key}= of --llm-model-args would reach the base as well, and the model under test be compared with "
            f"itself: {by_option}write a baseline of the base alone (--llm-baseline FILE), and compare with that."
        )


def _check_address(backend: str, address: str) -> None:
    end = "/v1/chat/completions" if "chat" in backend else "/v1/completions"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or parts.path.rstrip("/") in ("", "/v1"):
        raise InvalidInput(
            f"--llm-backend {backend} asks a server, and base_url of --llm-model-args must be its whole address, such "
            f"as base_url=http://127.0.0.1:8000{end}."
        )
