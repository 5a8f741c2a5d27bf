"""``python -m safety_tasks report``: a page of earlier runs' files, of one model or of several side by side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jinja2 import UndefinedError
from rich.console import Console
from rich.table import Table

from safety_tasks.errors import InvalidInput, UnknownName
from safety_tasks.records import Report
from safety_tasks.report.comparison import Compared, compared, render_comparison, table_of
from safety_tasks.report.files import write_report, write_whole
from safety_tasks.report.redaction import without_secrets
from safety_tasks.report.sources import read_sources, reports_of
from safety_tasks.samples import TEXT_LEVELS


def rebuild(paths: Iterable[Path], output: Path, text: str = "off") -> list[str]:
    """Write the page and give the lines to print; raises InvalidInput for sources that cannot be read or compared."""
    if text not in TEXT_LEVELS:
        raise UnknownName("value for --text:", text, TEXT_LEVELS)
    if output.is_dir() or output.suffix.lower() == ".json":
        raise InvalidInput(f"--output is {str(output)!r}: it must name the HTML file.")
    found = reports_of(read_sources(paths), text)
    output.parent.mkdir(parents=True, exist_ok=True)
    if len(found) > 1:
        return _compare(compared(found), output, text)
    source, report = found[0]
    try:
        page, facts = write_report(report, output)
    except UndefinedError as error:
        raise InvalidInput(f"{str(source)!r} lacks what a page shows ({error.message}): measure it anew.") from error
    lines = [f"model: {without_secrets(report.model)}", *(f"  {estimate}" for estimate in report.estimates)]
    return [*lines, *_missing_texts(report, text), f"facts: {facts}", f"report: {page}"]


def _compare(models: list[Compared], output: Path, text: str) -> list[str]:
    write_whole(output, render_comparison(models))
    heading, *rows = table_of(models)
    table = Table(*heading, box=None, header_style="", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(width=max(80, 30 + 26 * len(models)), no_color=True)
    with console.capture() as capture:
        console.print(table, highlight=False, markup=False)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    note = ["No text stands in a comparison: make a page of one model for it."] if text != "off" else []
    return [*lines, *note, f"report: {output}"]


def _missing_texts(report: Report, text: str) -> list[str]:
    if text == "off" or any(sample.completion is not None for sample in report.samples):
        return []
    return [
        "No answer's text was found. They lie in the journal of the run: name it as a further source "
        "(.llmsafety/journal). Those of gated prompt sets are never shown."
    ]
