"""ModelRun: one model of a session, loaded on first use, and what its tasks measured."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmsafety.options import RunOptions
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
    measured: dict[Settings, dict[str, SafetyTask]] = field(default_factory=dict)
    texts: dict[str, str] | None = None
    """Takes in the answers by their hash, where a report shows them."""

    @cached_property
    def lm(self) -> LM:
        """The model as lm_eval has it: the hook's, if a conftest provides one, else loaded from the options."""
        with foreign_code(self.config):
            from safety_tasks.harness.evaluation import EngineLM, load_lm

            provided = self.config.hook.pytest_llmsafety_load_model(config=self.config, model=self.name)
            if provided is not None:
                return EngineLM(provided) if hasattr(provided, "mean_nll") else provided
            return load_lm(
                self.name,
                settings=self.settings,
                backend=self.options.backend,
                model_args=self.options.model_args,
                dtype=self.options.dtype,
                device=self.options.device,
                batch_size=self.options.batch_size,
            )

    def tasks(self, names: Sequence[str], settings: Settings) -> Mapping[str, SafetyTask]:
        """The tasks of these names after they were measured with these settings, together where they are new."""
        known = self.measured.setdefault(settings, {})
        new = [name for name in names if name not in known]
        if new:
            with foreign_code(self.config):
                from safety_tasks.harness.evaluation import evaluate_tasks

                quiet = self.config.get_verbosity() < 0
                known.update(evaluate_tasks(self.lm, new, settings, quiet=quiet, texts=self.texts))
        return {name: known[name] for name in names}

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The context in which another model may have the GPU; this one comes back bit for bit."""
        with foreign_code(self.config):
            from safety_tasks.harness.request import engine_of

            engine = engine_of(self.lm)
        with getattr(engine, "aside", nullcontext)():
            yield

    def release(self) -> None:
        """Let go of the model; its measurements stay."""
        self.__dict__.pop("lm", None)
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def foreign_code(config: pytest.Config) -> Iterator[None]:
    """Let lm_eval and its libraries run: their warnings stay warnings, and a terminal sees their progress."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    reporter = config.pluginmanager.getplugin("terminalreporter")  # it kept the terminal that capturing takes away
    on_terminal = bool(getattr(reporter, "isatty", False)) and config.get_verbosity() >= 0
    with (
        warnings.catch_warnings(),
        capture.global_and_fixture_disabled() if capture and on_terminal else nullcontext(),
    ):
        warnings.simplefilter("default")
        if on_terminal:
            reporter.ensure_newline()
        yield
