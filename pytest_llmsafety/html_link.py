"""HtmlLink: where pytest-html is active, a line in its summary that leads to the report."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_llmsafety.run import SafetyRun


class HtmlLink:
    """pytest-html's hook; known to no other session."""

    def __init__(self, run: SafetyRun) -> None:
        self.run = run

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], session: pytest.Session) -> None:
        """Say what was decided, and link the report, relative to the page that links it."""
        from pytest_llmsafety.outputs import report_path

        if not self.run.gates and not self.run.estimates:
            return
        page = Path(session.config.getoption("htmlpath")).absolute()
        target = os.path.relpath(report_path(self.run), page.parent).replace(os.sep, "/")
        word = self.run.decision if self.run.gates else "no gates"
        prefix.append(f'<p>Language model safety: <a href="{html.escape(target)}">{word}</a></p>')
