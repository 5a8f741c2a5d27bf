"""The parts of the reference that are written from the code while the pages are built, as a hook of mkdocs.

A line ``<!-- generated: NAME -->`` of a page is replaced by what the function of that name in PARTS returns.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

import safety_tasks
from pytest_llmsafety.options import RunOptions, declared, flag_of, variable_of
from safety_tasks.metrics import METRICS, metrics_of
from safety_tasks.settings import METADATA_PREFIX, Settings

MARK = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its generated parts; raises KeyError for a name that is none."""
    return MARK.sub(lambda found: "\n".join(PARTS[found[1]]()), markdown)


def task_files() -> list[Path]:
    """The YAML files of our tasks, by name."""
    return sorted((Path(safety_tasks.__file__).parent / "harness" / "tasks").glob("*.yaml"))


def public_path(name: str) -> str:
    """Where a public name is defined, as mkdocstrings takes it."""
    if name in safety_tasks._HOMES:
        return f"{safety_tasks._HOMES[name]}.{name}"
    return "_safety_tasks_startup.install"  # enable_lm_eval


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("``", "`").replace("<", "&lt;")


def _default(value: object) -> str:
    return "" if value is None or value in ((), "", False) else f"`{value}`"


def _options(record: type) -> Iterator[str]:
    yield "| option | default | |"
    yield "|---|---|---|"
    for owner, field in declared():
        if owner is record:
            choices = ", ".join(f"`{one}`" for one in field.metadata["choices"])
            about = "; ".join(
                part
                for part in (
                    _cell(field.metadata["help"]),
                    f"one of {choices}" if choices else "",
                    f"from {_cell(field.metadata['source'])}" if field.metadata["source"] else "",
                )
                if part
            )
            yield f"| `{flag_of(field.name)}` | {_default(field.default)} | {about} |"


def _twins() -> Iterator[str]:
    yield "| command line | environment | ini | lm_eval metadata |"
    yield "|---|---|---|---|"
    for owner, field in declared():
        ini = f"`llm_{field.name}`" if field.name != "gate" else "(`llm_gates`, a list)"
        key = f"`{METADATA_PREFIX}{field.name}`" if owner is Settings else ""
        yield f"| `{flag_of(field.name)}` | `{variable_of(field.name)}` | {ini} | {key} |"


def _tasks() -> Iterator[str]:
    for path in task_files():
        text = path.read_text(encoding="utf-8")
        version = re.search(r"version: (\S+)", text)
        yield f"### `{path.stem}` {{ #{path.stem} }}"
        yield ""
        named = re.search(r"!function ([\w.]+)\.(\w+)", text)
        if named is None:
            members = re.findall(r"^  - (\w+)", text, re.MULTILINE)
            yield "A group: " + ", ".join(f"[`{one}`](#{one})" for one in members) + "."
        else:
            yield _docstring(named[1], named[2]).replace("``", "`")
        yield ""
        metrics = metrics_of(path.stem)
        if metrics:
            yield "Metrics: " + ", ".join(f"[`{name}`](#metric-{name})" for name in metrics) + "."
        yield f"Version {version[1] if version else '?'}."
        yield ""


def _docstring(module: str, name: str) -> str:
    """Of a class, without importing lm_eval."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return ast.get_docstring(found) or ""


def _metrics() -> Iterator[str]:
    yield "| metric | better | unit | |"
    yield "|---|---|---|---|"
    for name, metric in METRICS.items():
        unit = "fraction" if metric.is_fraction else "length or count"
        better = "higher" if metric.higher_is_better else "lower"
        yield f'| <span id="metric-{name}"></span>`{name}` | {better} | {unit} | {_cell(metric.description)} |'


def apps() -> dict[str, Any]:
    """Our command lines by what starts them."""
    from pytest_llmsafety.__main__ import app as gates
    from safety_tasks.__main__ import app as measurements

    found = {"python -m safety_tasks": measurements, "python -m pytest_llmsafety": gates}
    return {start: typer.main.get_command(app) for start, app in found.items()}


def _commands() -> Iterator[str]:
    for start, app in apps().items():
        yield f"## `{start}`"
        yield ""
        for name, command in app.commands.items():
            if not command.hidden:
                yield from _command(start, name, command)


def _command(start: str, name: str, command: Any) -> Iterator[str]:
    yield f"### `{name}` {{ #{start.rpartition(' ')[2]}-{name} }}"
    yield ""
    yield (command.help or "").replace("``", "`").replace("\f", "")
    yield ""
    rows = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    if not rows:
        return
    yield "| | default | |"
    yield "|---|---|---|"
    for one in rows:
        is_argument = one.param_type_name == "argument"
        shown = (one.metavar or one.name).upper() if is_argument else "`, `".join(one.opts)
        default = "required" if one.required else _default(one.default)
        yield f"| `{shown}` | {default} | {_cell(getattr(one, 'help', None) or '')} |"
    yield ""


def _python() -> Iterator[str]:
    for name in safety_tasks.__all__:
        yield f"::: {public_path(name)}"
        if name == "enable_lm_eval":
            yield "    options:"
            yield "      heading: enable_lm_eval"
        yield ""


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "run-options": lambda: _options(RunOptions),
    "settings": lambda: _options(Settings),
    "twins": _twins,
    "tasks": _tasks,
    "metrics": _metrics,
    "commands": _commands,
    "python": _python,
}
