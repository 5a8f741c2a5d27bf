"""Hooks that a conftest.py may implement."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.hookspec(firstresult=True)
def pytest_llmsafety_load_model(config: pytest.Config, model: str) -> Any:
    """Return the model under test: an lm_eval model, or an Engine such as ``pytest_llmsafety.testing.FakeModel``.

    Called once a session, with the value of ``--llm-model``. None leaves the loading to the plugin.
    """


@pytest.hookspec(firstresult=True)
def pytest_llmsafety_judge(config: pytest.Config, name: str) -> Any:
    """Return the refusal judge of a name in ``--llm-judge``: an object with the attributes of RefusalJudge.

    ``name``, ``identity`` (changes when its readings do: the journal keeps them), ``stop_strings`` (empty), and
    ``judge(prompts, completions)``, which returns one ``safety_tasks.judges.Verdict`` a completion. None leaves the
    name to those that are known.
    """


@pytest.hookspec
def pytest_llmsafety_report_section(config: pytest.Config, report: Any) -> Any:
    """Return a section of your own for the report: a dict with ``title``, and ``lines``, or ``columns`` and ``rows``.

    ``report`` is the ``safety_tasks.records.Report`` as it stands when the session ends. Lines are text; a row is a
    list of texts, numbers or None. All of it is shown as plain text, never as HTML, and kept in report.json under
    ``sections``; secrets are stripped. None adds nothing; what is anything else is an error, and turns the session red.
    """
