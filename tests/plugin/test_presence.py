"""Other plugins in the same session, and pytest at its strictest. noxfile.py runs this file with many versions."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Session = Callable[..., pytest.RunResult]
STRICT = ("-Werror", "--strict-markers", "--strict-config")
TESTS = """
import pytest

@pytest.mark.parametrize("n", range(3))
def test_other(n): pass

def test_rate(llm_safety):
    assert llm_safety.attack_success_rate <= 0.05
"""


def decision(pytester: pytest.Pytester) -> str:
    found: str = json.loads((pytester.path / ".llmsafety/report.json").read_text())["decision"]
    return found


def test_at_its_strictest_gates_and_tests_pass_and_nothing_warns(session: Session, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = session(*STRICT)
    result.assert_outcomes(passed=7)
    assert result.ret == 0 and decision(pytester) == "pass"


def test_gates_of_an_ini_file_and_the_tests_beside_it_are_all_collected(
    session: Session, pytester: pytest.Pytester
) -> None:
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(**{"test_one": "def test_1(): pass", "tests/test_two": "def test_2(): pass"})
    for arguments, count in {(): 5, (".",): 5, ("tests",): 4, ("test_one.py",): 4, ("tox.ini",): 3}.items():
        session("--collect-only", "-q", *arguments).stdout.fnmatch_lines([f"{count} tests collected*"])


def test_strict_sessions_without_a_model_skip_what_needs_one(session: Session, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = session(*STRICT, model="")
    result.assert_outcomes(passed=3, skipped=1)
    assert not (pytester.path / ".llmsafety").exists()


def test_without_the_terminal_gates_are_decided_and_written(session: Session, pytester: pytest.Pytester) -> None:
    assert session("-p", "no:terminal", fake="asr_at_origin=0.9").ret == 1
    assert decision(pytester) == "fail"


def test_without_xdist_nothing_is_missed(session: Session) -> None:
    result = session("-p", "no:xdist", *STRICT)
    result.assert_outcomes(passed=3)


def test_a_timeout_during_a_measurement_is_an_error_of_its_gate(session: Session, pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_timeout")
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(
        conftest="""
        import time
        from pytest_llmsafety.testing import FakeModel

        class Slow(FakeModel):
            def generate(self, *args):
                time.sleep(60)

        def pytest_llmsafety_load_model(config, model):
            return Slow()
        """
    )
    result = pytester.runpytest_inprocess("--llm-model=fake", "--timeout=1", "--timeout-method=signal")
    assert result.ret == 1 and decision(pytester) in ("error", "incomplete")


def test_a_timeout_leaves_quick_gates_alone(session: Session) -> None:
    pytest.importorskip("pytest_timeout")
    session("--timeout=100", *STRICT).assert_outcomes(passed=3)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_in_any_order_each_gate_is_decided_as_in_its_own(
    session: Session, pytester: pytest.Pytester, seed: str
) -> None:
    pytest.importorskip("pytest_randomly")
    pytester.makepyfile(TESTS)
    result = session("-p", "randomly", f"--randomly-seed={seed}", *STRICT, fake="over_refusal=0.5")
    result.assert_outcomes(passed=6, failed=1)
    rows = json.loads((pytester.path / ".llmsafety/report.json").read_text())["gates"]
    assert [row["outcome"] for row in rows] == ["pass", "fail", "pass"]


def test_the_summary_of_pytest_html_links_the_report(session: Session, pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_html")
    result = session("--html=pages/all.html", "--self-contained-html", "--llm-report=out/safety.html", *STRICT)
    result.assert_outcomes(passed=3)
    assert '<a href="../out/safety.html">pass</a>' in Path("pages/all.html").read_text()
    assert "Language model safety" not in _page_without_a_model(session)


def _page_without_a_model(session: Session) -> str:
    session("--html=none.html", "--self-contained-html", model="")
    return Path("none.html").read_text()


def test_with_all_of_them_workers_decide_as_one_process(session: Session, pytester: pytest.Pytester) -> None:
    for module in ("xdist", "pytest_html", "pytest_randomly", "pytest_timeout"):
        pytest.importorskip(module)
    pytester.makepyfile(TESTS)
    result = session("-n1", "--html=all.html", "--self-contained-html", "--timeout=200", "-p", "randomly", *STRICT)
    result.assert_outcomes(passed=7)
    assert result.ret == 0 and decision(pytester) == "pass"
    assert '<a href=".llmsafety/report.html">pass</a>' in Path("all.html").read_text()


@pytest.mark.parametrize("asked", [("--help",), ("-n0",)])
def test_idle_sessions_import_nothing_of_workers(pytester: pytest.Pytester, asked: tuple[str, ...]) -> None:
    pytester.makepyfile(
        conftest="""
        import atexit, sys

        def tell():
            ours = [f"pytest_llmsafety.{name}" for name in ("workers", "gpus", "gpu_memory", "run")]
            print("imported", [name for name in (*ours, "torch", "xdist.dsession") if name in sys.modules])

        atexit.register(tell)
        """
    )
    pytester.makepyfile("def test_other(): pass")
    pytester.run(sys.executable, "-m", "pytest", *asked).stdout.fnmatch_lines(["imported []"])
