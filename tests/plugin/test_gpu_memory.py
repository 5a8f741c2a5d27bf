"""The GPU's memory after a model: freed at the session's end, and said where it is not. No GPU is needed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llmsafety import gpu_memory
from pytest_llmsafety.model_run import ModelRun
from safety_tasks.models import LoadedModel

GIB = 1 << 30
TUNED = (
    "--llm-model={0}",
    "--llm-gates=none",
    "--llm-n-prompts=2",
    "--llm-max-new-tokens=4",
    "--llm-chat=off",
)


class FakeCuda:
    """A GPU on which each loaded model that is alive takes 2 GiB."""

    def __init__(self, base: int = 0) -> None:
        self.base, self.models, self.emptied = base, weakref.WeakSet[Any](), 0

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def memory_allocated(self, index: int) -> int:
        return self.base + 2 * GIB * len(self.models)

    def empty_cache(self) -> None:
        self.emptied += 1


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """Every model that lm_eval loads goes to a fake GPU."""
    import safety_tasks.harness.evaluation as evaluation

    fake, load = FakeCuda(base=GIB), evaluation.load_lm

    def loaded(*args: Any, **kwargs: Any) -> Any:
        lm = load(*args, **kwargs)
        fake.models.add(lm.model)
        return lm

    monkeypatch.setattr(gpu_memory, "_cuda", lambda: fake)
    monkeypatch.setattr(evaluation, "load_lm", loaded)
    yield fake


@pytest.fixture
def run(pytester: pytest.Pytester, model_folder: Path) -> Callable[..., pytest.RunResult]:
    def run(test: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_one=test)
        options = [option.format(model_folder) for option in TUNED]
        return pytester.runpytest_inprocess(*options, "-Werror", *arguments)

    return run


def test_the_sessions_end_lets_the_model_go(cuda: FakeCuda, run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
        import pytest

        @pytest.fixture
        def layers(llm):
            return list(llm.model.parameters())

        def test_rate(llm_safety, layers):
            assert llm_safety.unscored_rate.n == 2
        """
    )
    result.assert_outcomes(passed=1)
    assert not cuda.models and cuda.emptied
    assert "GPU memory" not in result.stdout.str()


def test_a_test_that_keeps_the_model_is_named(cuda: FakeCuda, run: Callable[..., pytest.RunResult]) -> None:
    result = run("def test_keeps(llm):\n    global MODEL\n    MODEL = llm.model\n")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    held = "LlamaForCausalLM is still referred to by test_one.MODEL. Keep llm, and let llm.model go when a test ends."
    result.stdout.fnmatch_lines([f"GPU memory: 2.0 GiB stayed allocated after *random-llama was let go: {held}"])


def test_a_second_model_is_not_loaded_before_that_was_looked_at(
    cuda: FakeCuda, run: Callable[..., pytest.RunResult], model_folder: Path
) -> None:
    result = run(
        "def test_other(): pass",
        "--llm-gate=asr_at_origin - base <= 0.9",
        "--llm-points=3",
        "--llm-directions=1",
        f"--llm-base-model={model_folder}",
    )
    # The fake does not see a model leave for the host: it is as if it had stayed.
    result.stdout.fnmatch_lines(["GPU memory: 2.0 GiB stayed allocated after *was put aside: its weights are gone, *"])
    assert "was let go" not in result.stdout.str()
    assert not cuda.models


def test_the_traceback_of_a_failed_test_is_named(
    monkeypatch: pytest.MonkeyPatch, build_model: Callable[..., LoadedModel]
) -> None:
    def a_failing_test() -> None:
        model, _ = build_model()
        assert not model

    try:
        a_failing_test()
    except AssertionError as error:
        frame = error.__traceback__.tb_next.tb_frame  # type: ignore[union-attr]
    monkeypatch.setattr(gpu_memory, "_cuda", lambda: FakeCuda(base=GIB))
    sentence = gpu_memory.what_stayed(0, "M was let go", frame.f_locals["model"])
    assert "the frame of a_failing_test" in sentence and sentence.startswith("GPU memory: 1.0 GiB")


@pytest.mark.parametrize(("left", "is_said"), [(0, False), (gpu_memory.TOLERANCE, False), (GIB, True), (-GIB, False)])
def test_workspaces_of_cuda_are_tolerated(monkeypatch: pytest.MonkeyPatch, left: int, is_said: bool) -> None:
    monkeypatch.setattr(gpu_memory, "_cuda", lambda: FakeCuda(base=5 * GIB + left))
    assert bool(gpu_memory.what_stayed(5 * GIB, "M was let go", None)) is is_said


def test_a_cpu_has_nothing_to_say() -> None:
    assert gpu_memory.allocated() == 0 and gpu_memory.what_stayed(0, "M was let go", object()) == ""


def test_a_model_of_a_hook_is_its_owners(cuda: FakeCuda) -> None:
    run: Any = ModelRun(None, None, None, "m")  # type: ignore[arg-type]
    run.__dict__["lm"] = SimpleNamespace(model=None)
    assert run.release() == "" and "lm" not in run.__dict__
