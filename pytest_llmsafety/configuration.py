"""From pytest's configuration to a SafetyRun: everything wrong that can be known before a model loads is said here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_llmsafety.gate_lines import parse_gates
from pytest_llmsafety.gate_prompts import check_gate, expanded
from pytest_llmsafety.gates import PRESETS, WITH_A_BASE, Gate
from pytest_llmsafety.options import RunOptions, given_options, is_true
from pytest_llmsafety.run import SafetyRun
from safety_tasks.errors import InvalidInput, SafetyError, UnknownName
from safety_tasks.inputs import check_inputs
from safety_tasks.models import resolve_model
from safety_tasks.samples import TEXT_LEVELS
from safety_tasks.settings import Settings


def start_run(config: pytest.Config) -> SafetyRun | None:
    """The session's run, or None when no model is given; raises pytest.UsageError for a wrong option."""
    from pytest_llmsafety.feasibility import check_feasible

    try:
        options = _run_options(given_options(config, RunOptions))
        if options.model is None:
            return None
        settings, gates = _settings_and_gates(config, options)
        _check(config, options, settings)
        check_feasible(gates, settings)
    except SafetyError as error:
        raise pytest.UsageError(str(error)) from error
    return SafetyRun(config, options, settings, gates)


def planned(config: pytest.Config) -> list[str]:
    """The lines of ``--llm-plan``; needs no model. Raises pytest.UsageError for a wrong option."""
    from pytest_llmsafety.plan import plan_lines

    try:
        settings, gates = _settings_and_gates(config, _run_options(given_options(config, RunOptions)))
        return plan_lines(gates, settings)
    except SafetyError as error:
        raise pytest.UsageError(str(error)) from error


def _settings_and_gates(config: pytest.Config, options: RunOptions) -> tuple[Settings, tuple[Gate, ...]]:
    """What is measured and what is decided: every input there, every gate on prompts, judges and points that exist."""
    settings = Settings.parse(given_options(config, Settings))
    _take_in_judges(config, settings)
    written = parse_gates([*_gate_lines(options), *options.gate])
    check_inputs(settings)
    for gate in written:
        check_gate(gate, options, settings)
    return settings, expanded(written, settings)


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
    if "batch_size" in given:
        given["batch_size"] = _positive("batch_size", str(given["batch_size"]))
    if isinstance(given.get("gate"), str):
        given["gate"] = given["gate"].splitlines()
    if isinstance(given.get("gates"), list):
        given["gates"] = "\n".join(given["gates"]) or "none"
    if given.get("report_text", "off") not in TEXT_LEVELS:
        raise UnknownName("value for --llm-report-text:", str(given["report_text"]), TEXT_LEVELS)
    flags = {name: is_true(given.get(name)) for name in ("require", "update_baseline", "plan")}
    return RunOptions(**{**given, **flags, "gate": tuple(given.get("gate", ()))})


def _positive(name: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise InvalidInput(f"{name} is {text!r}: it must be a whole number of at least 1.")
    return int(text)


def _gate_lines(options: RunOptions) -> tuple[str, ...]:
    """The lines of a preset, or the lines that were written; the preset ``standard`` where nothing is said."""
    name = "standard" if options.gates is None else options.gates.strip()
    if name in PRESETS:
        return (*PRESETS[name], *(WITH_A_BASE.get(name, ()) if options.base_model else ()))
    if not any(sign in name for sign in "<>"):
        raise UnknownName("gate preset", name, PRESETS, "Or write gates, such as attack_success_rate <= 0.05.")
    return tuple(name.splitlines())


def _check(config: pytest.Config, options: RunOptions, settings: Settings) -> None:
    if getattr(config.option, "numprocesses", None):
        raise InvalidInput(
            "--llm-model does not go with -n: the gates measure one model in one process. Run them with -n 0, "
            "or in a session of their own."
        )
    report = Path(options.report or "report.html")
    if report.is_dir() or report.suffix.lower() == ".json":
        raise InvalidInput(f"--llm-report is {str(report)!r}: it must name the HTML file; the JSON goes beside it.")
    if options.update_baseline and not options.baseline:
        raise InvalidInput("--llm-update-baseline has no file to write: name it with --llm-baseline FILE.")
    provided = config.hook.pytest_llmsafety_load_model.get_hookimpls()
    if options.backend == "hf" and not provided:
        resolve_model(options.model or "")
        if options.base_model is not None:
            resolve_model(options.base_model)
    elif not options.model:
        raise InvalidInput("--llm-model is empty: name the model under test.")
