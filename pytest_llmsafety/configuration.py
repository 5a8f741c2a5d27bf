"""From pytest's configuration to a SafetyRun: everything wrong that can be known before a model loads is said here."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_llmsafety.backends import adapter_hint, check_backend, check_reach, plain_name, preset_for
from pytest_llmsafety.gate_lines import parse_gates
from pytest_llmsafety.gate_prompts import LANDSCAPE_TASKS, MARGIN_TASK, check_gate, expanded
from pytest_llmsafety.gates import GATED, PRESETS, WITH_A_BASE, Gate
from pytest_llmsafety.margin_limits import with_limits
from pytest_llmsafety.modes import with_decisions
from pytest_llmsafety.options import RunOptions, given_options, is_true
from pytest_llmsafety.run import SafetyRun
from pytest_llmsafety.targets import check_named, with_base_as_target
from pytest_llmsafety.workers import is_controller, is_worker
from safety_tasks.adapters import is_adapter
from safety_tasks.budget import seconds_of
from safety_tasks.errors import InvalidInput, SafetyError, UnknownName
from safety_tasks.inputs import check_inputs
from safety_tasks.models import check_dtype, display_name, resolve_source
from safety_tasks.samples import TEXT_LEVELS
from safety_tasks.settings import Settings
from safety_tasks.tiny import NAMES

_MOVING = {*LANDSCAPE_TASKS, MARGIN_TASK}
"""Tasks that move the model's weights."""


def start_run(config: pytest.Config) -> SafetyRun | None:
    """The session's run, or None when no model is given; raises pytest.UsageError for a wrong option."""
    from pytest_llmsafety.feasibility import check_feasible

    try:
        options = _with_the_adapters_base(_run_options(given_options(config, RunOptions)))
        if options.model is None:
            return None
        settings, gates = _settings_and_gates(config, options)
        _check(config, options, settings)
        check_feasible(gates, settings)
        _check_packed(config, options, gates)
    except SafetyError as error:
        raise pytest.UsageError(str(error)) from error
    return SafetyRun(config, options, settings, gates)


def planned(config: pytest.Config) -> list[str]:
    """The lines of ``--llm-plan``; needs no model. Raises pytest.UsageError for a wrong option."""
    from pytest_llmsafety.memory_lines import memory_lines
    from pytest_llmsafety.plan import plan_lines

    try:
        options = _with_the_adapters_base(_run_options(given_options(config, RunOptions)))
        settings, gates = _settings_and_gates(config, options)
        return [*plan_lines(gates, settings, options.repeats, options.model), *memory_lines(options, settings)]
    except SafetyError as error:
        raise pytest.UsageError(str(error)) from error


def _settings_and_gates(config: pytest.Config, options: RunOptions) -> tuple[Settings, tuple[Gate, ...]]:
    """What is measured and what is decided: every input there, every gate on prompts, judges and points that exist."""
    given = given_options(config, Settings)
    settings = Settings.parse(given)
    provided = config.hook.pytest_llmsafety_load_model.get_hookimpls()
    if options.backend == "hf" and not provided:
        settings = with_base_as_target(settings, options)
    _take_in_judges(config, settings)
    written = parse_gates([*_gate_lines(options), *options.gate])
    check_inputs(settings)
    for gate in written:
        check_named(gate.metric, given)
        check_reach(gate.metric, gate.tasks, options)
        check_gate(gate, options, settings)
    gates = expanded(written, settings)
    settings = with_limits(settings, gates, given)
    return with_decisions(settings, gates, options), gates


def _take_in_judges(config: pytest.Config, settings: Settings) -> None:
    """The judges of a conftest's hook, known by their names for this session."""
    from safety_tasks.judges import REFUSAL_JUDGES

    for name in settings.judges:
        provided = config.hook.pytest_llmsafety_judge(config=config, name=name)
        if provided is None:
            continue
        if name in REFUSAL_JUDGES or provided.name != name:
            raise InvalidInput(
                f"The hook pytest_llmsafety_judge returned a judge named {provided.name!r} for {name!r}: it must bear "
                "that name, and none of the names that python -m safety_tasks judges lists."
            )
        REFUSAL_JUDGES[name] = provided
        config.add_cleanup(partial(REFUSAL_JUDGES.__delitem__, name))


def _run_options(given: dict[str, Any]) -> RunOptions:
    """The options of the run from what was given on the command line, in the environment or the ini file."""
    for name in {"batch_size", "repeats"} & set(given):
        given[name] = _positive(name, str(given[name]))
    if "budget" in given:
        given["budget"] = seconds_of(str(given["budget"]))
    if isinstance(given.get("gate"), str):
        given["gate"] = given["gate"].splitlines()
    if isinstance(given.get("gates"), list):
        given["gates"] = "\n".join(given["gates"]) or "none"
    if given.get("report_text", "off") not in TEXT_LEVELS:
        raise UnknownName("value for --llm-report-text:", str(given["report_text"]), TEXT_LEVELS)
    if "backend" in given:
        given["backend"] = plain_name(str(given["backend"]))
    flags = {name: is_true(given.get(name)) for name in ("require", "update_baseline", "plan")}
    return RunOptions(**{**given, **flags, "gate": tuple(given.get("gate", ()))})


def _with_the_adapters_base(options: RunOptions) -> RunOptions:
    """The options with an adapter's folder given as the model taken apart: into its base, and the adapter on it."""
    name = options.model or ""
    if options.backend != "hf" or name in NAMES or not is_adapter(name):
        return options
    source = resolve_source(name, options.adapter, options.base_model)
    return replace(options, model=display_name(source.model), adapter=name)


def _positive(name: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise InvalidInput(f"{name} is {text!r}: it must be a whole number of at least 1.")
    return int(text)


def _gate_lines(options: RunOptions) -> tuple[str, ...]:
    """The lines of a preset, or the lines that were written; the preset ``standard`` where nothing is said."""
    name = "standard" if options.gates is None else options.gates.strip()
    if name in PRESETS:
        with_a_base = WITH_A_BASE.get(name, ()) if options.base_model else ()
        return (*PRESETS[name], *preset_for(with_a_base, options.backend))
    if not any(sign in name for sign in "<>"):
        raise UnknownName("gate preset", name, PRESETS, "Or write gates, such as attack_success_rate <= 0.05.")
    return tuple(name.splitlines())


def _check(config: pytest.Config, options: RunOptions, settings: Settings) -> None:
    """Raise what ``start_run`` says of options that do not go together, or name what is not there."""
    report = Path(options.report or "report.html")
    if report.is_dir() or report.suffix.lower() == ".json":
        raise InvalidInput(f"--llm-report is {str(report)!r}: it must name the HTML file; the JSON goes beside it.")
    if options.update_baseline:
        _check_new_baseline(options)
    if options.repeats > 1 and options.batch_size == 1:
        raise InvalidInput(
            "--llm-repeats varies the batch, and --llm-batch-size 1 leaves none: each repeat would be the same "
            "computation. Give a larger batch size, or leave one of the two out."
        )
    provided = config.hook.pytest_llmsafety_load_model.get_hookimpls()
    if settings.workers not in ("1", "auto") and (is_worker(config) or is_controller(config)):
        raise InvalidInput(
            f"--llm-workers {settings.workers} does not go with pytest-xdist (-n), whose workers share out the cards "
            "themselves: leave one of the two out."
        )
    if options.backend == "hf":
        check_dtype(options.dtype)
        if "revision=" in options.model_args:
            raise InvalidInput(
                "revision= of --llm-model-args would reach the base and every other model of the run: write it behind "
                "the model's own name, OWNER/NAME@REVISION."
            )
    if options.adapter is not None:
        _check_adapter(options)
    check_backend(options)
    if options.backend != "hf" or provided:
        if not options.model:
            raise InvalidInput("--llm-model is empty: name the model under test.")
        return
    if options.base_model is not None:
        resolve_source(options.base_model)
    resolve_source(options.model or "", options.adapter).check()


def _check_packed(config: pytest.Config, options: RunOptions, gates: tuple[Gate, ...]) -> None:
    """Raise where a gate moves weights that are quantised in a way that cannot be undone."""
    provided = config.hook.pytest_llmsafety_load_model.get_hookimpls()
    if options.backend == "hf" and not provided and any(set(GATED[one.metric].tasks) & _MOVING for one in gates):
        from safety_tasks.quantisation import check_dequantisable

        check_dequantisable(resolve_source(options.model or "").model)


def _check_new_baseline(options: RunOptions) -> None:
    if not options.baseline:
        raise InvalidInput("--llm-update-baseline has no file to write: name it with --llm-baseline FILE.")
    path = Path(options.baseline).absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    if not os.access(there, os.W_OK) or there.is_dir() == (there == path):
        raise InvalidInput(f"--llm-update-baseline cannot write {options.baseline!r}: name a JSON file in a folder.")


def _check_adapter(options: RunOptions) -> None:
    if options.backend != "hf":
        raise InvalidInput(
            f"--llm-adapter does not go with --llm-backend {options.backend}, which would measure the base alone: "
            f"{adapter_hint(options.backend)}"
        )
    if "peft=" in options.model_args:
        raise InvalidInput("--llm-adapter and peft= of --llm-model-args both name an adapter: give one of them.")
