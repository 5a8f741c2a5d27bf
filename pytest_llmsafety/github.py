"""A run's decision where GitHub Actions looks for it: step outputs and the step summary.

Files that $GITHUB_OUTPUT and $GITHUB_STEP_SUMMARY name are appended to; without these variables nothing is done.
Source: docs.github.com, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_llmsafety.terminal import compared_text
from safety_tasks.estimates import figure
from safety_tasks.records import CURTAILED, Report
from safety_tasks.report import report_to_dict, wording

# What may mean something in GitHub's markdown; an underscore between letters or digits does not.
_ACTIVE = re.compile(r"[\\`*{}\[\]#!|~<>&@$:^]|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.", re.IGNORECASE)


def write_for_github(report: Report, page: Path, environment: Mapping[str, str]) -> list[str]:
    """Append decision and report path, and a summary; what could not be written comes back as warnings."""
    texts = {"GITHUB_OUTPUT": step_outputs, "GITHUB_STEP_SUMMARY": step_summary}
    warnings = []
    for name, text in texts.items():
        if environment.get(name):
            try:
                _append(Path(environment[name]), text(report, page))
            except OSError as error:
                warnings.append(f"{name}: not written ({error.strerror})")
    return warnings


def step_outputs(report: Report, page: Path) -> str:
    """``decision=`` and ``report=``, one a line; no line at all for a path with line breaks in it."""
    outputs = {"decision": report_to_dict(report)["decision"], "report": str(page)}
    return "".join(f"{name}={value}\n" for name, value in outputs.items() if len(value.splitlines()) == 1)


def step_summary(report: Report, page: Path) -> str:
    """Markdown: the decision and what it means, gates, numbers, and what it does not mean; no prompt and no answer."""
    facts = report_to_dict(report)
    word = wording.shown_decision(report.decision, len(report.gates))
    means, means_not = wording.meaning(word)
    gated = {gate["estimate"]["name"] for gate in facts["gates"] if gate["estimate"]}
    besides = [found for found in facts["estimates"] if found["name"] not in gated]
    lines = [f"## Language model safety: {word}", "", f"Model {escaped(facts['model'])}. {means}", ""]
    if facts["gates"]:
        lines += [*_table("verdict", "gate", *_NUMBER, "compared with"), *map(_cells, _gate_rows(facts)), ""]
        lines += dict.fromkeys(f"- {escaped(gate['sentence'])}" for gate in facts["gates"] if gate["outcome"] != "pass")
        lines += [""]
    if besides:
        lines += [*_table("measured besides", *_NUMBER), *(_cells([f["name"], *_number(f)]) for f in besides), ""]
    landscape = f" {wording.RANDOM_DIRECTIONS}" if report.landscape else ""
    lines += [f"**What this does not mean.** {means_not}{landscape}", "", f"The report: {escaped(page.name)}", ""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """The text as markdown shows it and nothing else: punctuation as character references, on one line."""
    return _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", re.sub(r"\s+", " ", text))


_NUMBER = ("value", "95 % interval", "n", "judge")


def _number(found: Mapping[str, Any]) -> list[str]:
    value = "not known" if found["value"] is None else figure(found, "value")
    high = "no upper bound" if found["high"] is None else figure(found, "high")
    n = f"{found['n']}" if round(found["n_effective"]) >= found["n"] else f"{found['n']} as {found['n_effective']:.0f}"
    return [f"{'≥ ' if found['censored'] else ''}{value}", f"{figure(found, 'low')} to {high}", n, found["judge"]]


def _gate_rows(facts: Mapping[str, Any]) -> Iterator[list[str]]:
    for gate in facts["gates"]:
        number = _number(gate["estimate"]) if gate["estimate"] else [_none(gate), "", "", ""]
        compared = facts["facts"].get("compared", {}).get(gate["line"])
        with_what = compared_text(compared, gate["line"]) if compared else ""
        yield [f"{wording.SYMBOLS[gate['outcome']]} {gate['outcome']}", gate["line"], *number, with_what]


def _table(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"


def _append(path: Path, text: str) -> None:
    """After whatever stands there, which may lack its line break."""
    there = path.read_bytes() if path.exists() else b"\n"
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(text if there.endswith(b"\n") or not there else f"\n{text}")


def _none(gate: dict[str, Any]) -> str:
    return "bounds only" if CURTAILED in gate["sentence"] else "not measured"
