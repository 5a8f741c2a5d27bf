"""Profile: how a model is deployed, read from a TOML, YAML or JSON file (the option ``profile``).

    system_prompt = "You are the assistant of a library."
    thinking = "off"
    max_new_tokens = 256

    [template_arguments]
    reasoning_effort = "low"

    [sampling]
    temperature = 0.7
    top_p = 0.9
    top_k = 40
    samples = 5
    seed = 0

The first three are options of a measurement and become those; a Profile holds the rest. So settings hold what the file
says, not where it lies: a copy of the file is the same measurement, and the file after a change is another one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safety_tasks.errors import InvalidSetting, UnknownName
from safety_tasks.sampling import Sampling

OPTIONS = ("system_prompt", "thinking", "max_new_tokens")
"""Keys that are options of a measurement themselves."""
KEYS = (*OPTIONS, "template_arguments", "sampling")
THINKING_SWITCHES = ("enable_thinking", "thinking")
"""The templates' own: Qwen3, SmolLM3 and most others; DeepSeek-V3.1, Granite and Command A."""
# What apply_chat_template takes for itself, and what the conversation is.
_RESERVED = {
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "max_length", "messages",
    "padding", "return_assistant_tokens_mask", "return_dict", "return_tensors", "tokenize", "tokenizer_kwargs",
    "truncation",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """What a deployment sets besides the options of a measurement; immutable and hashable."""

    arguments: str = "{}"
    """Variables of the chat template as JSON with sorted keys."""
    sampling: Sampling | None = None
    """None: greedy."""

    @property
    def template_arguments(self) -> dict[str, Any]:
        """Variables of the chat template."""
        found: dict[str, Any] = json.loads(self.arguments)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, from which ``read_profile`` makes it again."""
        sampling = asdict(self.sampling) if self.sampling else None
        return {"template_arguments": self.template_arguments, "sampling": sampling}


def read_profile(source: object) -> tuple[dict[str, Any], Profile | None]:
    """Options of a measurement, and what else a profile says, from its file or its content; None for nothing else.

    Raises InvalidSetting for a file that cannot be read or holds no table, a value of the wrong type or out of its
    range, and UnknownName for a key that is none.
    """
    if isinstance(source, Profile):
        return {}, source
    where = "The profile" if isinstance(source, Mapping) else f"The profile {str(source)!r}"
    content = source if isinstance(source, Mapping) else _parsed(where, Path(str(source)))
    given = {str(key): value for key, value in content.items() if value is not None}
    _check_keys(where, "key", given, KEYS)
    options = {name: _OPTION_VALUES[name](where, given[name]) for name in OPTIONS if name in given}
    arguments = _arguments(where, given.get("template_arguments", {}))
    sampling = _sampling(where, given["sampling"]) if "sampling" in given else None
    return options, profile_of(arguments, sampling)


def profile_of(arguments: Mapping[str, Any], sampling: Sampling | None) -> Profile | None:
    """The profile that holds these; None where they say nothing."""
    return Profile(json.dumps(arguments, sort_keys=True), sampling) if arguments or sampling else None


def _parsed(where: str, path: Path) -> Mapping[str, Any]:
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise InvalidSetting(f"{where} has the suffix {path.suffix!r}: name a file that ends in {', '.join(_PARSERS)}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InvalidSetting(f"{where} cannot be read ({why}): name the file of a deployment.") from None
    try:
        found = parse(text)
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise InvalidSetting(f"{where} is no {path.suffix[1:].upper()}: {said}.") from None
    if not isinstance(found, Mapping):
        raise InvalidSetting(f"{where} holds no table: write keys and values ({', '.join(KEYS)}).")
    return found


def _toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:  # its own text quotes the line, which may be the system prompt's
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        raise ValueError("it does not parse" + (f" (at line {line + 1})" if line is not None else "")) from None


_PARSERS: dict[str, Callable[[str], Any]] = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml, ".json": json.loads}


def _check_keys(where: str, kind: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise UnknownName(kind, name, known, f"It stands in {where[0].lower()}{where[1:]}.")


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidSetting(f"{where}: system_prompt is of type {type(value).__name__}: it must be text.")
    return value


def _thinking(where: str, value: object) -> str:
    word = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value  # YAML's on and off
    if word not in ("auto", "on", "off"):
        raise InvalidSetting(f"{where}: thinking is {value!r}: it must be auto, on or off.")
    return str(word)


def _tokens(where: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidSetting(f"{where}: max_new_tokens is {value!r}: it must be a whole number of at least 1.")
    return value


_OPTION_VALUES: dict[str, Callable[[str, object], Any]] = {
    "system_prompt": _text, "thinking": _thinking, "max_new_tokens": _tokens,
}  # fmt: skip


def _arguments(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidSetting(f"{where}: template_arguments is no table: write names and values.")
    reserved = sorted(_RESERVED & set(value))
    if reserved:
        raise InvalidSetting(f"{where}: template_arguments.{reserved[0]} is set by the measurement itself: leave it.")
    for name, argument in value.items():
        try:
            json.dumps(argument, allow_nan=False)
        except (TypeError, ValueError):
            kind = type(argument).__name__
            raise InvalidSetting(
                f"{where}: template_arguments.{name} ({kind}) is no plain value: write text, finite numbers, true, "
                "false, lists and tables."
            ) from None
    return dict(value)


def _sampling(where: str, value: object) -> Sampling:
    if not isinstance(value, Mapping):
        raise InvalidSetting(f"{where}: sampling is {value!r}: it must be a table, such as temperature = 0.7.")
    given = {str(name): found for name, found in value.items() if found is not None}
    _check_keys(where, "key of sampling", given, tuple(field.name for field in fields(Sampling)))
    try:
        return Sampling(**given)
    except InvalidSetting as error:
        raise InvalidSetting(f"{where}: {error}") from None
