"""Lets a stock lm-evaluation-harness find the tasks of this package, with no flag.

lm_eval 0.4.12 and 0.4.13 look for tasks in two places: their own folder, and what `--include_path` names. No
entry point, setting or variable adds a third, so `lm_eval --tasks visage_safety` could not know our tasks.
Hence this file: Python runs `install()` as it starts, by the line in `safety_tasks_startup.pth` beside it
(from 3.15 on by `safety_tasks_startup.start`, see PEP 829).

What it does: it waits until somebody imports `lm_eval.tasks`, and then wraps `TaskManager.__init__` so that
our folder of task files stands in front of `include_path`. The user's own paths come later and so win.
Options of our tasks (`--metadata visage_...`) are checked there, before the model loads.

What it does not do: import anything at start-up (neither lm_eval nor torch nor our packages), replace any other part of
lm_eval, write a file, or act where lm_eval is not installed. It respects `include_defaults=False`, and it
stands down where lm_eval finds the tasks itself, by the entry point `lm_eval.tasks` that we declare too.

To switch it off, start Python with `LLMSAFETY_LM_EVAL_PLUGIN=0`; then the tasks can be named by hand, with
`--include_path "$(python -m safety_tasks path)"`. Where Python read no `.pth` (`pip install --target`), a
program switches it on with `safety_tasks.enable_lm_eval()`, which is `install()`.

PYTEST_DONT_REWRITE: pytest prepares every module of a plugin's distribution for its assertions, and without
this word would warn in each session that this one is already imported.
"""

from __future__ import annotations

import os
import sys

# Every interpreter of the environment runs this file: it imports what is loaded by then, hence not typing.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

WAITED_FOR = "lm_eval.tasks"  # It exports TaskManager in every 0.4.x; lm_eval.tasks.manager is younger.
OUR_GROUP = "visage_safety"


def install() -> None:
    """Make the tasks known to lm_eval: now if `lm_eval.tasks` is loaded, else once it is. Idempotent."""
    if os.environ.get("LLMSAFETY_LM_EVAL_PLUGIN") == "0":
        return
    finders: list[Any] = sys.meta_path
    if WAITED_FOR in sys.modules:
        _add_our_tasks(sys.modules[WAITED_FOR])
    elif not any(isinstance(finder, _Finder) for finder in finders):
        finders.insert(0, _Finder())


class _Finder:
    """Finds one module, by asking the finders behind it; leaves `sys.meta_path` once that module has run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != WAITED_FOR:
            return None
        spec = self._found_by_the_others(name, path, target)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            self._add_our_tasks_after(spec.loader)
        return spec

    def _found_by_the_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        finders: list[Any] = list(sys.meta_path)
        # Only those behind: two finders that asked all the others would ask each other for ever.
        behind = finders[finders.index(self) + 1 :] if self in finders else finders
        specs = (finder.find_spec(name, path, target) for finder in behind if hasattr(finder, "find_spec"))
        return next((spec for spec in specs if spec is not None), None)

    def _add_our_tasks_after(self, loader: Any) -> None:
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)  # The loader is as it was found, whatever comes next.
            run(module)
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
            _add_our_tasks(module)

        # On the loader itself, not a loader of our own, so that its type stays what others expect.
        loader.exec_module = exec_module


def _add_our_tasks(module: ModuleType) -> None:
    """Wrap `TaskManager.__init__`, unless it is wrapped; warn if it is not the one that we know."""
    import functools
    import inspect

    manager: Any = getattr(module, "TaskManager", None)
    original: Any = getattr(manager, "__init__", None)
    if hasattr(original, "_adds_our_tasks"):
        return
    signature = inspect.signature(original) if manager is not None else inspect.Signature()
    if not {"include_path", "include_defaults"} <= signature.parameters.keys():
        _warn_of_an_unknown_lm_eval()
        return

    @functools.cache
    def finds_our_tasks_itself() -> bool:
        """Whether this lm_eval reads our entry point: asked of a manager without its own tasks, in 30 ms."""
        probe = object.__new__(manager)
        original(probe, include_defaults=False)
        return OUR_GROUP in probe.all_tasks

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        call = signature.bind(self, *args, **kwargs)
        call.apply_defaults()
        _check_options(call.arguments.get("metadata"))
        given = call.arguments["include_path"]
        folder = _tasks_folder()
        if folder is None or not call.arguments["include_defaults"] or finds_our_tasks_itself():
            original(self, *args, **kwargs)
            return
        theirs = list(given) if isinstance(given, (list, tuple)) else [given] if given else []
        call.arguments["include_path"] = [folder, *theirs]
        original(*call.args, **call.kwargs)
        self.include_path = given  # What the user gave, for whoever reads it back.

    init._adds_our_tasks = True  # type: ignore[attr-defined]
    manager.__init__ = init


def _check_options(metadata: Any) -> None:
    """Refuse a wrong `visage_*` option here, where lm_eval has not yet loaded the model; others are not ours."""
    if isinstance(metadata, dict) and any(str(key).startswith("visage_") for key in metadata):
        from safety_tasks.harness.command_line import check_metadata

        check_metadata(metadata)


def _tasks_folder() -> str | None:
    """The folder of task files, found without importing the package."""
    from importlib.util import find_spec

    spec = find_spec("safety_tasks")
    if spec is None or not spec.submodule_search_locations:
        return None
    return os.path.join(spec.submodule_search_locations[0], "harness", "tasks")


def _warn_of_an_unknown_lm_eval() -> None:
    import warnings

    warnings.warn(
        "pytest-llmsafety does not know how to add its tasks to this version of lm_eval; "
        'name them with --include_path "$(python -m safety_tasks path)"',
        RuntimeWarning,
        stacklevel=2,
    )
