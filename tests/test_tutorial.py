"""Files and commands of pages that show outputs, run in the order of the page: they print what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = (DOCS / "explanation" / "visage.md", DOCS / "tutorial.md")
BLOCK = re.compile(r"^```(\w+)(?: title=\"([\w./-]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = re.compile(r" in \d+\.\d+s\b")
LEFT_OUT = "..."
"""A line of the page that stands for any number of printed lines."""
NOT_A_USERS = ("CI", "BUILD_NUMBER", "GITHUB_", "PYTEST_", "LLMSAFETY_")
"""Variables that change what pytest prints."""

# Each command has a process of its own; what all of them import is imported once, before the process is forked.
PROCESSES = """
import json, os, runpy, sys
import altair, datasets, lm_eval.evaluator, peft, scipy.stats, sklearn.metrics, torch, transformers
for line in sys.stdin:
    words, out = json.loads(line)
    child = os.fork()
    if child == 0:
        with open(out, "w") as file:
            os.dup2(file.fileno(), 1)
        sys.argv = words[1:] if words[0] == "python" else words
        sys.path.insert(0, "" if words[0] == "pytest" else os.getcwd())
        try:
            if words[0] == "pytest":
                runpy.run_module("pytest", run_name="__main__", alter_sys=True)
            elif words[1] == "-m":
                sys.argv = words[2:]
                runpy.run_module(words[2], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(words[1], run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code or 0
        sys.stdout.flush()
        os._exit(int(status))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Command(NamedTuple):
    """A command of the page, and the lines that the page says it prints."""

    words: list[str]
    said: list[str]


def steps() -> list[tuple[str, str] | Command]:
    """The files of the pages, as (name, text), and their commands."""
    found: list[tuple[str, str] | Command] = []
    for language, title, body in BLOCK.findall("\n".join(page.read_text(encoding="utf-8") for page in PAGES)):
        if title:
            found.append((title, body))
        elif language == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, said = part.replace("\\\n", " ").partition("\n")
                found.append(Command(shlex.split(command, comments=True), said.splitlines()))
    return found


def says(said: list[str], printed: list[str]) -> bool:
    """Whether the page's lines are the printed ones, LEFT_OUT apart; of a line only the seconds may differ."""
    if not said:
        return not printed
    if said[0] == LEFT_OUT:
        return any(says(said[1:], printed[i:]) for i in range(len(printed) + 1))
    return bool(printed) and plain(said[0]) == plain(printed[0]) and says(said[1:], printed[1:])


def plain(line: str) -> str:
    """Without the seconds, whose digits also change how many = stand around them."""
    found, n = SECONDS.subn(" in 0.00s", line.rstrip())
    return re.sub("=+", "=", found) if n else found


@pytest.mark.timeout(900)  # a minute of one core, and machines are shared
def test_the_commands_of_the_tutorial_print_what_it_says(tmp_path: Path) -> None:
    quiet = "-W ignore::pytest.PytestAssertRewriteWarning"  # of plugins that were imported before the fork
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_A_USERS)}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "PYTEST_ADDOPTS": quiet}
    others: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", PROCESSES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as processes:
        assert processes.stdin is not None and processes.stdout is not None
        for number, step in enumerate(steps()):
            if not isinstance(step, Command):
                (tmp_path / step[0]).write_text(step[1], encoding="utf-8")
                continue
            out = tmp_path / f"{number}.out"
            processes.stdin.write(json.dumps([step.words, str(out)]) + "\n")
            processes.stdin.flush()
            assert processes.stdout.readline().strip() in ("0", "1"), step.words
            printed = out.read_text(encoding="utf-8")
            if not says(step.said, printed.splitlines()):
                others.append(f"$ {shlex.join(step.words)}\n{printed}")
        processes.stdin.close()
    assert not others, "printed now:\n" + "\n".join(others)


def test_a_number_that_differs_is_seen_and_seconds_are_not() -> None:
    assert says(["a 0.10", LEFT_OUT, "1 passed in 2.00s"], ["a 0.10", "b", "c", "1 passed in 9.31s"])
    assert says(["=== 1 passed in 12.00s ==="], ["==== 1 passed in 2.00s ===="])
    assert not says(["a 0.10", LEFT_OUT, "1 passed in 2.00s"], ["a 0.11", "1 passed in 2.00s"])
    assert not says(["a 0.10"], ["a 0.10", "b"])
    assert len([step for step in steps() if isinstance(step, Command)]) >= 5
