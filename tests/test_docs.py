"""The documentation: built without a warning, complete, and true of names, commands and options."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import safety_tasks
from pytest_llmsafety.options import declared, flag_of, variable_of
from safety_tasks.metrics import METRICS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


def loaded_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generated", ROOT / "docs" / "generated.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    return loaded_hook()


def written(hook: ModuleType, name: str) -> str:
    return str(hook.on_page_markdown((ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")))


def test_every_option_is_in_the_reference_in_every_form(hook: ModuleType) -> None:
    page = written(hook, "options")
    for _, field in declared():
        assert page.count(f"| `{flag_of(field.name)}` |") == 2, field.name
        assert f"`{variable_of(field.name)}`" in page


def test_every_task_metric_command_and_public_name_is_in_the_reference(hook: ModuleType) -> None:
    tasks, commands, python = (written(hook, name) for name in ("tasks", "commands", "python"))
    assert [path.stem for path in hook.task_files() if f"### `{path.stem}`" not in tasks] == []
    assert [name for name in METRICS if f"`{name}` |" not in tasks] == []
    for app in hook.apps().values():
        assert [name for name, one in app.commands.items() if not one.hidden and f"### `{name}`" not in commands] == []
    assert python.count("\n::: ") == len(safety_tasks.__all__)
    assert "<!-- generated" not in tasks + commands + python


@pytest.mark.parametrize("page", PAGES, ids=[path.stem for path in PAGES])
def test_the_commands_options_metrics_and_files_that_a_page_names_exist(page: Path, hook: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")
    for start, app in hook.apps().items():
        for name in re.findall(rf"{start} ([a-z][a-z-]*)", text):
            assert name in app.commands, name
        for line in re.findall(rf"^\$ {start} (.*)$", text, re.MULTILINE):
            name, *words = shlex.split(line)
            known = {flag for one in app.commands[name].params for flag in one.opts}
            assert {word for word in words if word.startswith("-")} <= known, line
    known = {flag_of(field.name) for _, field in declared()}
    assert set(re.findall(r"--llm-[a-z][a-z-]*", text)) - {"--llm-"} <= known
    assert {name for name in re.findall(r"`(visage_[a-z_0-9]+)`", text) if not name.endswith("_")} <= {
        *(path.stem for path in hook.task_files()),
        *(f"visage_{field.name}" for _, field in declared()),
    }
    for gate in re.findall(r"[\"`]([a-z_]+)(?:\[[^\]]*\])?(?: [-/] base(?:line)?)? [<>]= [\d.]+[\"`]", text):
        assert gate in {*METRICS, "asr_within"}, gate


def test_every_page_is_in_the_navigation() -> None:
    def leaves(found: object) -> set[str]:
        if isinstance(found, dict):
            found = list(found.values())
        return {found} if isinstance(found, str) else {leaf for one in found for leaf in leaves(one)}  # type: ignore[attr-defined]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert leaves(nav) == {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}


class Loaded(HTMLParser):
    """What a page loads when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("rel") not in ("canonical", "next", "prev"):
            self.found += [value for name, value in attrs if name == LOADED.get(tag) and value]


def test_the_pages_build_without_a_warning_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed: make docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) == len(PAGES) + 1  # and 404.html
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        own = [one for one in loaded.found if not re.match(r"data:", one)]
        assert own and [one for one in own if re.match(r"(\w+:)?//", one)] == [], page.name
        if page.name != "404.html":  # a server shows it at any depth
            assert [one for one in own if not (page.parent / one.partition("?")[0]).exists()] == [], page.name
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(@import|url\(['\"]?)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8"))
