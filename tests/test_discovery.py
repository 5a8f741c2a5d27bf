"""A stock lm_eval finds our tasks as soon as this project is installed, and nobody else notices it."""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import _safety_tasks_startup as startup
import pytest

import safety_tasks

PROJECT = Path(__file__).parent.parent
OUR_TASKS = {"visage_landscape", "visage_harmful", "visage_over_refusal"}
OFF = {"LLMSAFETY_LM_EVAL_PLUGIN": "0"}

# lm_eval reads the 14,000 files of its own tasks each time, which takes many seconds. This lets it read none.
WITHOUT_ITS_OWN_TASKS = """
import lm_eval.tasks.manager, tempfile
lm_eval.tasks.manager.__file__ = tempfile.mkdtemp() + "/manager.py"
"""


def python(*arguments: str, cwd: Path | None = None, **environment: str) -> str:
    """What a new interpreter prints, which must succeed; its standard error is shown if it does not."""
    clean = {name: value for name, value in os.environ.items() if name not in OFF}
    run = subprocess.run(
        [sys.executable, *arguments],
        env={**clean, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """The installed `lm_eval.tasks`, whose own tasks are an empty folder."""
    tasks = importlib.import_module("lm_eval.tasks")
    (tmp_path / "defaults").mkdir()
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(tmp_path / "defaults" / "manager.py"))
    yield tasks


def other_lm_eval(monkeypatch: pytest.MonkeyPatch, **contents: Any) -> ModuleType:
    """An `lm_eval.tasks` of some other version, which has been imported."""
    module = ModuleType("lm_eval.tasks")
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", module)
    return module


def manager_that_finds(names: list[str]) -> tuple[type, list[Any]]:
    """A TaskManager class that knows these names by itself, and the list of the include paths it is given."""
    given: list[Any] = []

    class TaskManager:
        def __init__(self, include_path: Any = None, include_defaults: bool = True) -> None:
            self.all_tasks = names
            given.append(include_path)

    return TaskManager, given


# --- found


def test_stock_lm_eval_validates_our_group_from_any_folder(tmp_path: Path) -> None:
    printed = python("-m", "lm_eval", "validate", "--tasks", "visage_safety", cwd=tmp_path)
    assert "All tasks found and valid" in printed


def test_lm_eval_ls_lists_our_tasks(tmp_path: Path) -> None:
    listing = "from lm_eval.__main__ import cli_evaluate; cli_evaluate()"
    printed = python("-c", WITHOUT_ITS_OWN_TASKS + listing, "ls", "tasks", cwd=tmp_path)
    cells = {cell.strip() for line in printed.splitlines() for cell in line.split("|")}
    assert cells >= {"visage_safety", *OUR_TASKS}


def test_the_group_holds_the_three_tasks(tasks: ModuleType) -> None:
    manager = tasks.TaskManager()
    assert "visage_safety" in manager.all_groups
    assert set(manager.all_subtasks) >= OUR_TASKS
    assert set(manager.task_index["visage_safety"].cfg["task"]) == OUR_TASKS


def test_simple_evaluate_finds_our_tasks_by_name(tasks: ModuleType) -> None:
    from lm_eval.api.model import LM

    class Refuses(LM):
        def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return "\n".join(message["content"] for message in messages)

        def generate_until(self, requests: list[Any]) -> list[str]:
            return ["I'm sorry, but I cannot help with that."] * len(requests)

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    evaluate = importlib.import_module("lm_eval.evaluator").simple_evaluate
    results = evaluate(model=Refuses(), tasks=["visage_over_refusal"], limit=2)["results"]["visage_over_refusal"]
    # The part after the comma names the judge.
    assert {value for key, value in results.items() if key.startswith("over_refusal_rate,")} == {1.0}


# --- without taking anything from the user


def test_include_defaults_false_still_means_no_tasks(tasks: ModuleType) -> None:
    assert tasks.TaskManager(include_defaults=False).all_tasks == []


@pytest.mark.parametrize("as_given", [str, Path, lambda folder: [str(folder)]], ids=["str", "Path", "list"])
def test_a_task_of_the_users_own_folder_wins_over_ours(tasks: ModuleType, tmp_path: Path, as_given: Any) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    mine = folder / "mine.yaml"
    mine.write_text("task: visage_harmful\ndataset_path: json\noutput_type: generate_until\n")
    manager = tasks.TaskManager(include_path=as_given(folder))
    assert manager.task_index["visage_harmful"].yaml_path == mine
    assert "visage_over_refusal" in manager.all_tasks


@pytest.mark.parametrize("given", [None, "some/folder", ["one", "two"]])
def test_the_manager_shows_the_include_path_that_the_user_gave(tasks: ModuleType, given: Any) -> None:
    assert tasks.TaskManager(include_path=given).include_path == given


def test_the_constructor_keeps_its_signature(tasks: ModuleType) -> None:
    constructor = tasks.TaskManager.__init__
    assert inspect.signature(constructor) == inspect.signature(constructor.__wrapped__)
    with pytest.raises(TypeError, match="no_such_option"):
        tasks.TaskManager(no_such_option=1)


def test_nothing_of_the_hook_stays_behind_once_lm_eval_is_loaded(tasks: ModuleType) -> None:
    loader = tasks.__spec__.loader if tasks.__spec__ else None
    assert type(loader) is SourceFileLoader
    assert "exec_module" not in vars(loader)
    assert not [finder for finder in sys.meta_path if type(finder).__module__ == startup.__name__]


# --- on, off and twice


def test_the_variable_switches_it_off_and_a_call_switches_it_on_late() -> None:
    printed = python(
        "-c",
        WITHOUT_ITS_OWN_TASKS
        + """
import os, safety_tasks
from lm_eval.tasks import TaskManager
print("visage_safety" in TaskManager().all_tasks)
safety_tasks.enable_lm_eval()
print("visage_safety" in TaskManager().all_tasks)
del os.environ["LLMSAFETY_LM_EVAL_PLUGIN"]
safety_tasks.enable_lm_eval()
print("visage_safety" in TaskManager().all_tasks)
""",
        **OFF,
    )
    assert printed.split() == ["False", "False", "True"]


def test_installing_twice_is_installing_once(tasks: ModuleType) -> None:
    constructor = tasks.TaskManager.__init__
    startup.install()
    safety_tasks.enable_lm_eval()
    assert tasks.TaskManager.__init__ is constructor


def test_installing_twice_before_lm_eval_is_imported_adds_one_finder() -> None:
    printed = python(
        "-c",
        "import sys, _safety_tasks_startup as s; s.install(); s.install()\n"
        "print(sum(type(finder).__module__ == s.__name__ for finder in sys.meta_path))",
    )
    assert printed.strip() == "1"


def test_it_stands_down_where_lm_eval_finds_the_tasks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    native, given = manager_that_finds(["visage_safety"])
    other_lm_eval(monkeypatch, TaskManager=native)
    startup.install()
    native(include_path="mine")
    assert given == [None, "mine"]  # First the probe, then the call as it was made.


def test_it_adds_our_folder_where_lm_eval_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    without, given = manager_that_finds([])
    other_lm_eval(monkeypatch, TaskManager=without)
    startup.install()
    without(include_path="mine")
    (ours, mine) = given[-1]
    assert Path(ours) == Path(safety_tasks.__file__).parent / "harness" / "tasks"
    assert mine == "mine"


def test_an_lm_eval_that_it_does_not_know_gets_a_warning_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other_lm_eval(monkeypatch)
    with pytest.warns(RuntimeWarning, match="--include_path"):
        startup.install()


# --- at the start of Python


def test_starting_python_imports_none_of_the_heavy_packages() -> None:
    heavy = {"datasets", "lm_eval", "numpy", "pytest_llmsafety", "safety_tasks", "torch", "transformers"}
    printed = python("-c", f"import sys; print('_safety_tasks_startup' in sys.modules, {heavy} & set(sys.modules))")
    assert printed.strip() == "True set()"


def test_pytest_starts_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    assert "1 passed" in python("-m", "pytest", "-p", "no:cacheprovider", cwd=tmp_path)


def test_the_hook_is_inert_where_lm_eval_is_not_installed(tmp_path: Path) -> None:
    shutil.copy(startup.__file__, tmp_path)
    printed = python(
        "-S",  # No site-packages: neither lm_eval nor our packages.
        "-c",
        """
import _safety_tasks_startup, json
_safety_tasks_startup.install()
import csv
try:
    import lm_eval.tasks
except ModuleNotFoundError as error:
    print(error)
""",
        PYTHONPATH=str(tmp_path),
    )
    assert printed.strip() == "No module named 'lm_eval'"


# --- as a package


def test_the_wheel_holds_the_hook_at_its_top_and_every_file_of_both_packages(tmp_path: Path) -> None:
    # The sdist and, from it, the wheel: what a user of either gets.
    python("-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(PROJECT))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    top = {name.partition("/")[0] for name in held if ".dist-info/" not in name}
    hook = {"_safety_tasks_startup.py", "safety_tasks_startup.pth", "safety_tasks_startup.start"}
    assert top == {"safety_tasks", "pytest_llmsafety", *hook}
    assert held["safety_tasks_startup.pth"].startswith(b"import _safety_tasks_startup;")

    files = {
        path.relative_to(PROJECT).as_posix()
        for package in ("safety_tasks", "pytest_llmsafety")
        for path in (PROJECT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= held.keys()
    kinds = {Path(name).suffix for name in files}
    assert kinds >= {".yaml", ".jsonl", ".safetensors", ".typed"}
