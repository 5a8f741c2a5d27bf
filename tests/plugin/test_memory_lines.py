"""The memory plan of a session: in --llm-plan, and before a model loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from safety_tasks import memory_plan
from safety_tasks.memory import Memory

GIB = 1 << 30


@pytest.fixture(autouse=True)
def no_checkpoint_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "_SMALL", 0)


def has_free(n_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "host_memory", lambda: Memory(n_bytes, 16 * GIB))


def test_a_session_says_what_its_model_takes_where_that_is_tight_and_fails_where_it_cannot_fit(
    pytester: pytest.Pytester, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("def test_it(llm): assert llm.model")
    options = (f"--llm-model={model_folder}", "--llm-device=cpu", "--llm-gates=none")
    for free, says in ((1 << 20, True), (GIB, False)):
        has_free(free, monkeypatch)
        result = pytester.runpytest_inprocess(*options)
        result.assert_outcomes(passed=1)
        assert ("memory of " in result.stdout.str()) is says
    has_free(1000, monkeypatch)
    result = pytester.runpytest_inprocess(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*The weights of *random-llama' take * in float32, and the host has *"])
    has_free(GIB, monkeypatch)
    planned = pytester.runpytest_inprocess(*options, "--llm-gate=basin_width >= 0.2", "--llm-plan")
    assert "memory of " not in planned.stdout.str()


def test_the_plan_tells_it_and_whether_the_weights_fit(
    pytester: pytest.Pytester, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (f"--llm-model={model_folder}", "--llm-gate=basin_width >= 0.2", "--llm-plan", "--llm-device=cpu")
    has_free(1 << 20, monkeypatch)
    result = pytester.runpytest_inprocess(*options, "--llm-max-new-tokens=20")
    line = "memory of *random-llama: weights * (float32) on the host, 1 MiB free; for a landscape *of 148 tokens*"
    result.stdout.fnmatch_lines(["basin_width >= 0.2", line])
    has_free(1000, monkeypatch)
    result = pytester.runpytest_inprocess(*options)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["CANNOT LOAD: The weights of *, and the host has 0.000954 MiB free of 16.0 GiB: *"])
