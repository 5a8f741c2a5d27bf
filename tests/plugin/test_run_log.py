"""The run log of a session, and the report that is made of it after a kill."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llmsafety.recovery import find_run_log, read_run_log
from pytest_llmsafety.testing import COMPLIANCE, REFUSAL
from safety_tasks.errors import InvalidInput
from safety_tasks.report import report_to_dict

Session = Callable[..., pytest.RunResult]
REBUILD = (
    "import sys; from pytest_llmsafety.recovery import rebuild; from pathlib import Path;"
    "lines, green = rebuild(Path(sys.argv[1])); print(*lines, sep='\\n'); print('green', green);"
    "print('heavy', [name for name in ('torch', 'transformers', 'lm_eval') if name in sys.modules])"
)
SLOW_SECOND_GATE = """
import time
from pytest_llmsafety.testing import FakeModel

def pytest_llmsafety_load_model(config, model):
    return FakeModel(asr_at_origin=0.9)

def pytest_runtest_setup(item):
    if item.name.startswith("over_refusal_rate"):
        time.sleep(120)
"""


def logs(path: Path) -> list[Path]:
    return sorted((path / ".llmsafety/runs").glob("*.jsonl"))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rebuild(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", REBUILD, str(path)], capture_output=True, text=True, cwd=path)


def killed_after_the_first_gate(pytester: pytest.Pytester) -> None:
    """Run a session whose second gate takes long, and kill it there."""
    pytester.makeconftest(SLOW_SECOND_GATE)
    pytester.makeini("[pytest]\n")  # the gates hang on it, and so below the conftest
    arguments = ["--llm-model=fake", "--llm-gate=basin_width >= 0.2", "--llm-points=5", "--llm-directions=2"]
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=pytester.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = time.monotonic() + 100
            while not any('"kind":"gate"' in log.read_text() for log in logs(pytester.path)):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_folder_of_other_files_holds_no_run_log(tmp_path: Path) -> None:
    (tmp_path / "z-journal.jsonl").write_text('{"kind": "run", "identity": {}}\n')
    with pytest.raises(InvalidInput, match="There is no run log"):
        find_run_log(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"kind": "head", "schema": "llmsafety-run/1"}\n')
    assert find_run_log(tmp_path).name == "a.jsonl"


def test_after_a_kill_one_command_rebuilds_the_report_with_the_verdicts_of_the_finished_gates(
    pytester: pytest.Pytester,
) -> None:
    killed_after_the_first_gate(pytester)
    assert not (pytester.path / ".llmsafety/report.html").exists()
    done = rebuild(pytester.path)
    assert done.returncode == 0, done.stderr
    assert "heavy []" in done.stdout and "green False" in done.stdout
    found = json.loads((pytester.path / ".llmsafety/report.json").read_text())
    assert [gate["outcome"] for gate in found["gates"]] == ["fail", *["incomplete"] * 3]
    assert found["decision"] == "fail" and found["landscape"]["asr"]
    page = (pytester.path / ".llmsafety/report.html").read_text()
    assert "safety-chart" in page and "attack_success_rate &lt;= 0.05" in page
    assert "FAIL " in done.stdout and "incomplete: 3 of 4 gates were not decided" in done.stdout


def test_a_pass_and_unfinished_gates_are_incomplete_and_not_green(session: Session, pytester: pytest.Pytester) -> None:
    session("--llm-n-prompts=100")
    (log,) = logs(pytester.path)
    kept = [line for line in log.read_text().splitlines() if '"line":"unscored_rate' not in line or '"head"' in line]
    log.write_text("\n".join(kept) + '\n{"kind":"gate","line":"unscor')
    report, _ = read_run_log(log)
    assert report.decision == "incomplete"
    assert [row.outcome for row in report.gates] == ["pass", "pass", "incomplete"]


def test_the_rebuilt_report_says_what_the_sessions_own_said(session: Session, pytester: pytest.Pytester) -> None:
    session(
        "--llm-judge=refusal+keywords-wei",
        "--llm-gate=basin_width >= 0.2",
        "--llm-points=5",
        "--llm-directions=2",
        fake="asr_at_origin=0.04, beyond='noise'",
    )
    own = json.loads((pytester.path / ".llmsafety/report.json").read_text())
    report, page = read_run_log(find_run_log(pytester.path))
    rebuilt = json.loads(json.dumps(report_to_dict(report)))
    assert rebuilt["facts"].pop("rebuilt_from") and rebuilt["facts"].pop("started")
    assert rebuilt == own and own["landscape"] is not None and own["agreements"]
    assert page == pytester.path / ".llmsafety/report.html"


def test_a_width_without_upper_bound_comes_back(session: Session, pytester: pytest.Pytester) -> None:
    session(
        "--llm-gates=none",
        "--llm-gate=basin_width >= 0.2",
        "--llm-points=3",
        "--llm-directions=1",
        fake="basin=(-9, 9)",
    )
    (row,) = read_run_log(find_run_log(pytester.path))[0].gates
    assert row.estimate is not None and row.estimate.high == float("inf") and row.estimate.censored


def test_the_log_is_private_ignored_by_git_and_holds_no_answer(session: Session, pytester: pytest.Pytester) -> None:
    session(
        "--llm-n-prompts=100", "--llm-model-args=token=pw9", "--llm-system-prompt=my-canary", fake="asr_at_origin=0.5"
    )
    (log,) = logs(pytester.path)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert (pytester.path / ".llmsafety/.gitignore").read_text() == "*\n"
    text = log.read_text()
    assert not [word for word in (COMPLIANCE, REFUSAL, "pw9", "my-canary") if word in text]


def test_the_log_is_opened_before_anything_is_measured_and_has_one_line_a_gate(
    session: Session, pytester: pytest.Pytester
) -> None:
    session("--llm-n-prompts=100")
    (log,) = logs(pytester.path)
    kinds = [line["kind"] for line in lines_of(log)]
    assert kinds == ["head", "measured", "samples", "samples", "gate", "gate", "gate"]


def test_what_a_gate_could_not_measure_is_in_the_log(session: Session, pytester: pytest.Pytester) -> None:
    session(fake="beyond='?'")
    report, _ = read_run_log(find_run_log(pytester.path))
    assert report.decision == "error" and "KeyError" in report.gates[0].sentence


def test_a_session_that_measures_nothing_leaves_no_log(session: Session, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_other(): pass")
    session("--llm-gates=none")
    session("--collect-only")
    assert not (pytester.path / ".llmsafety").exists()


def test_a_log_that_cannot_be_written_is_a_warning_and_the_session_goes_on(
    session: Session, pytester: pytest.Pytester
) -> None:
    (pytester.path / ".llmsafety").mkdir()
    (pytester.path / ".llmsafety/runs").write_text("")
    result = session("--llm-n-prompts=100")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["run log *: not written (*)", "report: *"])


def test_the_newest_log_is_taken_and_logs_of_one_xdist_session_are_read_together(
    session: Session, pytester: pytest.Pytester
) -> None:
    session("--llm-n-prompts=100")
    session("--llm-n-prompts=100", fake="asr_at_origin=0.9")
    old, new = logs(pytester.path)
    assert find_run_log(pytester.path) == find_run_log(new.parent) == new
    assert [read_run_log(log)[0].decision for log in (old, new)] == ["pass", "fail"]
    head, measured, *gates = new.read_text().splitlines(keepends=True)
    for name, own in {"1-xdist-a.jsonl": gates[:2], "2-xdist-a.jsonl": gates[2:], "2-xdist-b.jsonl": []}.items():
        (new.parent / name).write_text("".join([head, measured, *own]))
    assert [row.outcome for row in read_run_log(new.parent / "2-xdist-a.jsonl")[0].gates] == ["fail", "pass", "pass"]
    assert read_run_log(new.parent / "2-xdist-b.jsonl")[0].decision == "incomplete"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("none", None, "There is no run log in"), ("x.jsonl", "{}\n", "is no run log: its first line"),
     ("y.jsonl", '{"kind":"head","schema":"llmsafety-run/1"}\n', "has a line that cannot be read")],
)  # fmt: skip
def test_what_is_no_run_log_says_so(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_run_log(find_run_log(tmp_path / name))
