"""The plugin's options: command line, ini and environment twins, all derived from two records.

``Settings`` declares the measurement, ``RunOptions`` the run. Precedence: command line, environment, ini, default.
Only the standard library, pytest and light records are imported here: ``pytest --help`` must cost nothing.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from safety_tasks.samples import TEXT_LEVELS
from safety_tasks.settings import Settings, option

NO_MODEL = "no model under test: name one with --llm-model, the ini key llm_model or LLMSAFETY_MODEL"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "none", "")
_NEED_A_MODEL = ("gate", "gates", "adapter", "base_model")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a run: the model, the gates, the report."""

    model: str | None = option(
        None,
        "model under test: a folder, hub id (OWNER/NAME or OWNER/NAME@REVISION), embedded name (tiny-aligned, "
        "tiny-finetuned), or an adapter's folder",
    )
    adapter: str | None = option(None, "adapter (peft, safetensors) on the model: a folder or hub id; merged into it")
    backend: str = option("hf", "lm_eval model type; others than hf serve the tasks that need no weights")
    model_args: str = option("", "more arguments of the lm_eval model type: key=value,key=value")
    dtype: str | None = option(None, "dtype to load the model in (default: the checkpoint's own)")
    device: str | None = option(None, "device to load the model on (default: a GPU if there is one)")
    batch_size: int | None = option(None, "prompts decoded at once (default: all)")
    gates: str | None = option(None, "standard, strict or none; as ini key a list of gate lines")
    gate: tuple[str, ...] = option((), "one more gate, such as 'basin_width >= 0.2'; repeatable")
    repeats: int = option(
        1,
        "measure N times on the same weights, with other batches and once in float32 where the model is in half "
        "precision, and have gates include the spread",
    )
    base_model: str | None = option(
        None,
        "base model that gates such as 'attack_success_rate - base <= 0.05' compare with: as --llm-model "
        "(default: what the adapter is on)",
    )
    baseline: str | None = option(
        None, "JSON file with the measurements of an accepted release, for gates such as 'mean_safety - baseline >= 0'"
    )
    update_baseline: bool = option(False, "write this run's measurements to the file of --llm-baseline")
    budget: float | None = option(
        None,
        "time for measuring, such as 15m, 90s, 1h30m or seconds; what is not measured by then is inconclusive, and "
        "the same command goes on from the journal",
    )
    plan: bool = option(
        False, "print what each gate can decide on its prompts, without loading a model or running tests"
    )
    report: str | None = option(
        None, "HTML report, with the same facts as JSON beside it (default: .llmsafety/report.html)"
    )
    report_text: str = option(
        "off",
        "prompts and answers in the HTML report: off, truncated (200 characters) or full; never those of gated sets",
        choices=TEXT_LEVELS,
    )
    model_card: str | None = option(None, "write what was measured as a model card's model-index (YAML) to this file")
    require: bool = option(False, "without a model, the session is an error instead of skipping what needs one")

    @property
    def model_name(self) -> str:
        """What reports call the model under test: with its adapter, if it has one."""
        return " + ".join(filter(None, (self.model, self.adapter)))

    @property
    def reference(self) -> str | None:
        """The base that gates compare with: the one named, else the one that the adapter is on."""
        return self.base_model or (self.model if self.adapter else None)


def declared() -> Iterator[tuple[type, dataclasses.Field[Any]]]:
    """Every option with the record that declares it."""
    for record in (RunOptions, Settings):
        for field in dataclasses.fields(record):
            yield record, field


def add_options(parser: pytest.Parser) -> None:
    """Declare every option on the command line and as an ini key."""
    group = parser.getgroup("llmsafety", "safety gates of language models (pytest-llmsafety)")
    for _, field in declared():
        help_text = field.metadata["help"].replace("%", "%%")
        if field.default not in (None, "", ()) and field.default is not False:
            help_text += f" (default: {field.default})"
        flag = flag_of(field.name)
        destination = f"llm_{field.name}"
        if field.default is False:
            group.addoption(flag, dest=destination, action="store_true", default=None, help=help_text)
        elif field.name == "gate":
            group.addoption(flag, dest=destination, action="append", default=None, metavar="GATE", help=help_text)
        else:
            group.addoption(flag, dest=destination, default=None, metavar=field.name.upper(), help=help_text)
        if field.name != "gate":
            parser.addini(destination, field.metadata["help"], type=_ini_type(field), default=None)


def flag_of(name: str) -> str:
    """The command line's form of an option."""
    return f"--llm-{name.replace('_', '-')}"


def variable_of(name: str) -> str:
    """The environment's form of an option."""
    return f"LLMSAFETY_{name.upper()}"


def given_options(config: pytest.Config, record: type[Any]) -> dict[str, Any]:
    """The values of a record's options as they were given, most of them text; those that nobody gave are absent."""
    values = {field.name: _given(config, field.name) for owner, field in declared() if owner is record}
    return {name: value for name, value in values.items() if value is not None}


def is_true(value: object) -> bool:
    """Whether a flag from the command line, the environment or the ini file is on; raises pytest.UsageError."""
    word = str(value).strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise pytest.UsageError(f"{value!r} is neither on nor off: write one of {', '.join((*_TRUE, *_FALSE[:4]))}.")
    return word in _TRUE


def refuse_to_go_without_a_model(given: dict[str, Any], config: pytest.Config) -> None:
    """A usage error where a model is required, or this session's command line or environment asks for one's gates.

    The ini file alone is no such request: the tests of a repository run without a model too.
    """
    asked = any(config.getoption(f"llm_{name}") or os.environ.get(variable_of(name)) for name in _NEED_A_MODEL)
    if asked or any(is_true(given.get(name, False)) for name in ("require", "update_baseline")):
        raise pytest.UsageError(f"There is {NO_MODEL}.")


def _given(config: pytest.Config, name: str) -> Any:
    value = config.getoption(f"llm_{name}")
    if value is None:
        value = os.environ.get(variable_of(name))
    if value is None and name != "gate":
        value = config.getini(f"llm_{name}")
    return value


def _ini_type(field: dataclasses.Field[Any]) -> Any:
    """Lists and flags have ini types of their own; pytest 9.2 is the first to take text or a number in pytest.toml."""
    if field.name == "gates" or field.default is False:
        return "linelist" if field.name == "gates" else "bool"
    return str | float if _is_number(field) and pytest.version_tuple >= (9, 2) else "string"


def _is_number(field: dataclasses.Field[Any]) -> bool:
    return any(kind in str(field.type) for kind in ("int", "float"))
