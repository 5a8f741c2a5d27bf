"""ModelRun: one model of a session, loaded on first use, and what its tasks measured."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmsafety import gpu_memory
from pytest_llmsafety.options import RunOptions
from safety_tasks.budget import Budget
from safety_tasks.errors import InvalidInput, OutOfTime
from safety_tasks.journal import OFF
from safety_tasks.settings import Settings

if TYPE_CHECKING:
    from lm_eval.api.model import LM

    from safety_tasks.harness.task import SafetyTask


@dataclass
class ModelRun:
    """A model and its measurements; what was measured once is not measured again."""

    config: pytest.Config
    options: RunOptions
    settings: Settings
    """Of the run, for loading."""
    name: str
    budget: Budget = field(default_factory=Budget)
    """The session's time, which all of its models share."""
    adapter: str | None = None
    under: ModelRun | None = None
    """The model under test, where that is an adapter on this one."""
    measured: dict[Settings, dict[str, SafetyTask]] = field(default_factory=dict)
    texts: dict[str, str] | None = None
    """Takes in the answers by their hash, where a report shows them."""
    _allocated_before: int | None = None
    """Bytes on the GPUs before the model was loaded; None as long as it was not, or where a hook provided it."""

    @cached_property
    def lm(self) -> LM:
        """The model as lm_eval has it: the hook's, if a conftest provides one, else loaded from the options."""
        with foreign_code(self.config), self.budget.running():
            from safety_tasks.harness.evaluation import EngineLM, load_lm

            provided = self.config.hook.pytest_llmsafety_load_model(config=self.config, model=self.name)
            if provided is not None:
                if self.adapter:
                    raise InvalidInput(
                        f"A conftest's hook pytest_llmsafety_load_model loaded {self.name!r}, and --llm-adapter would "
                        "be ignored: load the adapter in the hook, or have it return None."
                    )
                return EngineLM(provided) if hasattr(provided, "mean_nll") else provided
            self._allocated_before = None if self.shares_weights else gpu_memory.allocated()
            return self._on_shared_weights or load_lm(
                self.name,
                adapter=self.adapter,
                settings=self.settings,
                backend=self.options.backend,
                model_args=self.options.model_args,
                dtype=self.options.dtype,
                device=self.options.device,
                batch_size=self.options.batch_size,
                say=self._say,
            )

    def _say(self, line: str) -> None:
        """Print a line at once; workers of pytest-xdist have no terminal."""
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and _verbosity(self.config) >= 0:
            reporter.ensure_newline()
            reporter.write_line(line)

    @cached_property
    def _on_shared_weights(self) -> LM | None:
        """The model on the weights of the one under test, where that has it at hand."""
        from safety_tasks.harness.adapted import base_of

        return None if self.under is None else base_of(self.under.lm)

    @property
    def shares_weights(self) -> bool:
        """Whether this model was not loaded a second time for its own sake."""
        return self._on_shared_weights is not None

    def tasks(self, names: Sequence[str], settings: Settings) -> Mapping[str, SafetyTask]:
        """The tasks of these names after they were measured with these settings, together where they are new.

        One that the session's time did not reach is unfinished, and is gone on with while there is time; raises
        OutOfTime where the time was spent before one was begun.
        """
        known = self.measured.setdefault(settings, {})
        new = self.lacking(names, settings)
        if new:
            if self.budget.is_spent and "lm" not in self.__dict__:
                raise OutOfTime(self.budget.not_begun("off" if settings.journal.lower() == OFF else ""))
            lm = self.lm
            with foreign_code(self.config), self.budget.running():
                from safety_tasks.harness.repeats import evaluate_repeatedly

                found = evaluate_repeatedly(
                    lm,
                    new,
                    settings,
                    self.options.repeats,
                    quiet=_verbosity(self.config) < 0,
                    budget=self.budget,
                    texts=self.texts,
                )
            known.update({name: task for name, task in found.items() if name in names or name not in known})
        return {name: known[name] for name in names}

    def lacking(self, names: Sequence[str], settings: Settings) -> list[str]:
        """Those of the tasks that must still be measured, with those that an unfinished one was begun with.

        Its batches are then the same, and the journal has them.
        """
        known = self.measured.get(settings, {})
        may_go_on = not (self.budget.is_spent or self.budget.is_at_origin_only)
        unfinished = [known[name] for name in names if may_go_on and name in known and known[name].unfinished]
        begun = [name for task in unfinished for name in task.facts["token_budgets"]]
        return list(dict.fromkeys([*begun, *(name for name in names if name not in known)]))

    @contextmanager
    def in_place_of(self, other: ModelRun, warn: Callable[[str], None]) -> Iterator[None]:
        """The context in which this model is measured: the other is put aside, and this one let go of at the end.

        Where the two share their weights nothing moves but what differs, when it is asked for.
        """
        if self.shares_weights:
            yield
            return
        with other.aside():
            warn(other.while_aside())
            yield
            warn(self.release())

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The context in which another model may have the GPU; this one comes back bit for bit."""
        with foreign_code(self.config):
            from safety_tasks.harness.request import engine_of

            engine = engine_of(self.lm)
        with getattr(engine, "aside", nullcontext)():
            yield

    def release(self) -> str:
        """Let go of the model; its measurements stay. What of its memory stays with it, as a sentence."""
        lm = self.__dict__.pop("lm", None)
        if self.__dict__.get("_on_shared_weights") is not None:
            del self.__dict__["_on_shared_weights"]
        if lm is None or self._allocated_before is None:
            return ""
        model = getattr(lm, "model", None)
        left = weakref.ref(model if hasattr(model, "parameters") else lm)
        del lm, model
        gpu_memory.collect()
        return self._what_stayed("was let go", left())

    def while_aside(self) -> str:
        """What of its memory it has not given back while it is aside, as a sentence."""
        model = getattr(self.lm, "model", None)
        if (
            model is None
            or not hasattr(model, "parameters")
            or any(parameter.is_cuda for parameter in model.parameters())
        ):
            return ""  # it is not in this process, or could not leave
        gpu_memory.collect()
        return self._what_stayed("was put aside", None)

    def _what_stayed(self, event: str, model: object) -> str:
        before = self._allocated_before
        return "" if before is None else gpu_memory.what_stayed(before, f"{self.name} {event}", model)


@contextmanager
def foreign_code(config: pytest.Config) -> Iterator[None]:
    """Let lm_eval and its libraries run: their warnings stay warnings, and a terminal sees their progress."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    reporter = config.pluginmanager.getplugin("terminalreporter")  # it kept the terminal that capturing takes away
    on_terminal = bool(getattr(reporter, "isatty", False)) and _verbosity(config) >= 0
    with (
        warnings.catch_warnings(),
        capture.global_and_fixture_disabled() if capture and on_terminal else nullcontext(),
    ):
        warnings.simplefilter("default")
        if on_terminal:
            reporter.ensure_newline()
        yield


def _verbosity(config: pytest.Config) -> int:
    """As -v and -q make it; they are options of the terminal, which a session may lack."""
    return int(config.getoption("verbose", 0))
