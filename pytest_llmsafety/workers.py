"""Workers: a session under pytest-xdist. Workers measure and decide, the controller alone judges and writes.

What a worker measured and decided comes from its run log, which survives its death; what only a whole session can
say (warnings, a new baseline) comes with its end. A gate that no worker settled is incomplete, one during which a
worker died an error.
"""

from __future__ import annotations

import json
import os
import uuid
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmsafety.gpus import VISIBLE, gpus_of_workers
from pytest_llmsafety.options import RunOptions, given_options
from pytest_llmsafety.references import measured_baseline, write_baseline

if TYPE_CHECKING:
    from pytest_llmsafety.run import SafetyRun
    from safety_tasks.baseline import Baseline

CONTROLLER = "llmsafety-workers"
"""Under which the controller's hooks are registered with pytest."""
GROUP = "llmsafety"
"""The xdist group of all that needs the model."""
_SESSION = "llmsafety_session"
_BASELINE, _WARNINGS, _REFUSED = "llmsafety_baseline", "llmsafety_warnings", "llmsafety_baseline_refused"
_CORES = "PYTEST_XDIST_AUTO_NUM_WORKERS"


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for another."""
    return hasattr(config, "workerinput")


def is_controller(config: pytest.Config) -> bool:
    """Whether this process has workers run its tests."""
    return not is_worker(config) and config.getoption("dist", "no") != "no" and bool(config.getoption("tx", None))


def session_of(config: pytest.Config) -> str:
    """How the names of this session's run logs end; empty where there are no workers."""
    session = getattr(config, "workerinput", {}).get(_SESSION)
    return f"-xdist-{session}" if session else ""


def auto_workers(config: pytest.Config) -> int | None:
    """How many workers ``-n auto`` starts: one a GPU that a model may use, and at least one; None without a model."""
    given = given_options(config, RunOptions)
    if "model" not in given or config.getoption("numprocesses") != "auto" or os.environ.get(_CORES):
        return None
    return max(1, len(_gpus(config)))


def group_by_model(items: list[pytest.Item]) -> None:
    """Mark what needs the model as one group of xdist's, so that one worker loads it; a test's own group stands."""
    from pytest_llmsafety.items import needs_the_model

    for item in items:
        if needs_the_model(item) and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(GROUP))


def gathered(run: SafetyRun) -> bool:
    """Whether all that the session measured and decided is in this process at its end, its new baseline written.

    It is not in a worker, which hands over what it has.
    """
    if is_worker(run.config):
        _hand_over(run)
        return False
    controller = run.config.pluginmanager.get_plugin(CONTROLLER)
    if isinstance(controller, Controller):
        controller.gather()
        write_baseline(run, controller.baseline())
    else:
        write_baseline(run, measured_baseline(run))
    return True


def _hand_over(run: SafetyRun) -> None:
    """Give the controller what a worker's run log does not hold."""
    from pytest_llmsafety.outputs import run_log_problems

    output: dict[str, Any] = run.config.workeroutput  # type: ignore[attr-defined]
    baseline = measured_baseline(run)
    output[_WARNINGS] = [str(sentence) for sentence in (*run.warnings, *run_log_problems(run))]
    output[_BASELINE] = json.dumps(baseline.to_dict()) if baseline else None
    output[_REFUSED] = run.options.update_baseline and baseline is None and bool(run.tuned.measured.get(run.settings))


class Controller:
    """xdist's hooks of the process that has workers."""

    def __init__(self, run: SafetyRun) -> None:
        self.run = run
        self.session = uuid.uuid4().hex
        """Not xdist's own id, which a user may set to that of an earlier session, whose logs count for nothing."""
        self.ended: dict[str, dict[str, Any]] = {}
        """What workers that came to their end handed over, by worker."""
        self.crashed: dict[str, str] = {}
        """What happened to tests during which a worker died, by node id."""
        self.lost = 0
        """Workers that died."""

    def pytest_xdist_setupnodes(self, specs: list[Any]) -> None:
        """Give each worker of this machine its GPU, before it imports anything; one that replaces it keeps it."""
        local = (spec for spec in specs if spec.popen and not spec.via)
        for spec, gpu in zip(local, cycle(_gpus(self.run.config)), strict=False):
            spec.env.setdefault(VISIBLE, gpu)

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Under --dist loadgroup, keep the gates on one worker.

        The mark of ``group_by_model`` alone does not: pytest 9.2 has no node ids into which pytest-xdist 3.8 could
        write a test's group (pytest-xdist, issue 1386). Tests with fixtures of ours may go elsewhere there.
        """
        if config.getoption("dist") != "loadgroup":
            return None
        from xdist.scheduler import LoadGroupScheduling

        lines = {line for gate in self.run.gates for line in (gate.line, f"{gate.line}]")}

        class Gathering(LoadGroupScheduling):  # type: ignore[misc]  # xdist is untyped without its extra
            def _split_scope(self, nodeid: str) -> str:
                return GROUP if nodeid.partition("::")[2] in lines else super()._split_scope(nodeid)

        return Gathering(config, log)

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker whose it is."""
        node.workerinput[_SESSION] = self.session

    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take what a worker hands over."""
        self.ended[node.gateway.id] = getattr(node, "workeroutput", {})
        self.lost += error is not None

    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Remember the test during which a worker died."""
        self.crashed[crashitem] = str(report.longrepr)

    def gather(self) -> None:
        """Make the run what its workers made of it."""
        self._measured_and_decided()
        if self.run.options.report_text != "off":
            self.run.warn("--llm-report-text: workers (-n) hand no texts over, so that the report holds none")
        for node, error in self.crashed.items():
            self._crash(node.partition("::")[2], error)
        for output in self.ended.values():
            for sentence in output.get(_WARNINGS, []):
                self.run.warn(sentence)

    def _measured_and_decided(self) -> None:
        from pytest_llmsafety.recovery import report_of_workers
        from pytest_llmsafety.run_log import RUNS
        from safety_tasks.errors import SafetyError

        run = self.run
        try:
            report = report_of_workers(run.config.rootpath / RUNS, f"-xdist-{self.session}")
        except (SafetyError, OSError) as error:
            run.warn(f"What the workers decided cannot be read, so that it counts for nothing: {error}")
            return
        if report is None:
            return
        rows = {row.line: row for row in report.gates if row.outcome != "incomplete"}
        run.settled = {gate: rows[gate.line] for gate in run.gates if gate.line in rows}
        run.estimates = {found.name: found for found in report.estimates}
        run.second_opinions, run.agreements = list(report.second_opinions), list(report.agreements)
        run.landscape, run.facts, run.gathered = report.landscape, report.facts, report

    def _crash(self, name: str, error: str) -> None:
        """Make the gate of a test's name an error; pytest 9.2 ends the name of one with brackets in another."""
        from safety_tasks.records import GateRow

        for gate in self.run.gates:
            if name in (gate.line, f"{gate.line}]", f"{gate.line}@{GROUP}"):
                known = self.run.settled.get(gate)
                estimate = known.estimate if known else None
                self.run.settled[gate] = GateRow(gate.line, "error", error, estimate, gate.limit, gate.operator)

    def baseline(self) -> Baseline | None:
        """What the workers measured for a new baseline; None, and a warning, where some of it is lost or refused."""
        from dataclasses import replace

        from safety_tasks.baseline import baseline_from_dict

        texts = [text for output in self.ended.values() if (text := output.get(_BASELINE))]
        if self.lost and texts:
            self.run.warn("The baseline is not written: a worker died, and its measurements would be missing.")
        if self.lost or not texts or any(output.get(_REFUSED) for output in self.ended.values()):
            return None
        found = [baseline_from_dict(json.loads(text)) for text in texts]
        return replace(found[0], tasks={name: task for one in found for name, task in one.tasks.items()})


def _gpus(config: pytest.Config) -> list[str]:
    given = given_options(config, RunOptions)
    return gpus_of_workers(given.get("device"), str(given.get("model_args", "")), os.environ)
