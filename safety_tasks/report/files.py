"""The report on disk: both files complete, or as they were before."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safety_tasks.errors import InvalidSetting
from safety_tasks.records import Report
from safety_tasks.report.facts import report_to_dict
from safety_tasks.report.page import render_pages


def write_report(report: Report, html_path: Path) -> tuple[Path, Path]:
    """Paths of the page and of the JSON beside it; parents are made, each file appears whole or not at all.

    A page that would be too large has its samples in another, ``NAME-samples.html``.

    Raises InvalidSetting when the path ends in .json, where both would be one file.
    """
    json_path = html_path.with_suffix(".json")
    if json_path == html_path:
        raise InvalidSetting(
            f"The report's path is {str(html_path)!r}: name the page, as .html; its JSON goes beside it."
        )
    texts = {
        **{html_path.with_name(name): page for name, page in render_pages(report, html_path.name).items()},
        json_path: json.dumps(report_to_dict(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    html_path.parent.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_whole(path, text)
    return html_path, json_path


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears whole, or stays as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
