"""Sections of the report that a conftest adds (``pytest_llmsafety_report_section``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safety_tasks.records import Report, Section
from safety_tasks.report.redaction import without_secrets

if TYPE_CHECKING:
    import pytest

_HOOK = "pytest_llmsafety_report_section"
_KEYS = ("title", "lines", "columns", "rows")


def sections_of(config: pytest.Config, report: Report) -> tuple[tuple[Section, ...], list[str]]:
    """What the hook's implementations return, in the order of their registration; and what is wrong with it."""
    sections: list[Section] = []
    problems: list[str] = []
    plugins = {one.plugin_name: one.plugin for one in config.hook.pytest_llmsafety_report_section.get_hookimpls()}
    for name, plugin in plugins.items():  # one by one, so that one that fails takes no other with it
        others = [other for other in plugins.values() if other is not plugin]
        try:
            returned = config.pluginmanager.subset_hook_caller(_HOOK, others)(config=config, report=report)
            sections += map(_section, returned)
        except Exception as error:  # whatever a conftest raises, the report is written all the same
            problems.append(without_secrets(f"{_HOOK} of {name}: {type(error).__name__}: {error}"))
    return tuple(sections), problems


def _section(found: Any) -> Section:
    if not isinstance(found, dict) or "title" not in found or not set(found) <= set(_KEYS):
        shown = f"keys {', '.join(map(repr, found))}" if isinstance(found, dict) else type(found).__name__
        raise TypeError(f"it must return a dict with title, and lines, or columns and rows; found {shown}")
    for key in _KEYS[1:]:
        if not isinstance(found.get(key, ()), list | tuple):
            raise TypeError(f"{key} must be a list, not {type(found[key]).__name__}")
    rows = found.get("rows", ())
    if not all(isinstance(row, list | tuple) for row in rows):
        raise TypeError("rows must be a list of lists")
    lines, columns = tuple(found.get("lines", ())), tuple(found.get("columns", ()))
    return Section(found["title"], lines, columns, tuple(map(tuple, rows)))
