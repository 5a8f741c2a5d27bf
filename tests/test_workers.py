"""Landscapes measured by this process and workers: one process's answers, whatever happens to the workers."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from safety_tasks import measure_landscape
from safety_tasks.answering import Batch
from safety_tasks.budget import Budget
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidModel, InvalidSetting
from safety_tasks.fingerprints import fingerprint
from safety_tasks.harness.request import visage_generate
from safety_tasks.measurement import Question, measure
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.points import ORIGIN, grid
from safety_tasks.prompts import load_prompts
from safety_tasks.repeats import repeated
from safety_tasks.settings import Settings
from safety_tasks.workers import hiring, process
from safety_tasks.workers.host import Host, Order
from safety_tasks.workers.origin import Origin
from safety_tasks.workers.pool import NoRoom, Pool, WorkerDied
from safety_tasks.workers.process import ProcessWorker

SMALL: dict[str, Any] = dict(n_prompts=6, points=5, directions=1, max_new_tokens=12, radius=0.6)
N_POINTS = 5
LIMIT = 60  # seconds after which a test gives up


class HostHere(Host):
    """A worker in a thread of this process."""

    asked: list[Any] = []
    _loading = threading.Lock()  # transformers loads one model at a time in a process

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def ask(self, request: Any) -> Any:
        self.asked.append(request)
        with self._loading if isinstance(request, Origin) else nullcontext():
            return self.handle(request)

    def end(self) -> None:
        pass


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What workers are asked, which are threads of this process."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(process, "ProcessWorker", HostHere)
    monkeypatch.setattr(HostHere, "asked", [])
    yield HostHere.asked
    torch.set_num_threads(threads)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch, pools: list[Pool]) -> Callable[[Callable[[], bool]], None]:
    """Has this process stand still at its first point until something is so: workers are slow to start."""
    generate = HuggingFaceEngine.generate
    main = threading.current_thread()

    def install(until: Callable[[], bool]) -> None:
        came = threading.Event()

        def waiting(engine: HuggingFaceEngine, *asked: Any) -> Any:
            end = time.monotonic() + LIMIT
            while threading.current_thread() is main and not came.is_set():
                assert time.monotonic() < end, "it never came"
                came.set() if until() or any(pool._failure for pool in pools) else time.sleep(0.02)
            return generate(engine, *asked)

        monkeypatch.setattr(HuggingFaceEngine, "generate", waiting)

    return install


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[Pool]:
    """The pools that were made."""
    made: list[Pool] = []

    class Seen(Pool):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(hiring, "Pool", Seen)
    return made


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of one process."""
    folder = tmp_path_factory.mktemp("alone")
    measure_landscape("tiny-aligned", **SMALL, journal=str(folder))
    return folder


def answered(folder: Path) -> dict[str, Any]:
    """Every answer of a journal, by what was asked."""
    (path,) = folder.glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["key"]: line["results"] for line in lines if line["kind"] == "completions"}


def stricken(kind: type[Any], monkeypatch: pytest.MonkeyPatch, pid_of: Callable[[Any], int]) -> list[int]:
    """The pids of workers that were killed: one, at its second order, which it was given and did not answer."""
    ask, orders, killed = kind.ask, [], list[int]()
    lock = threading.Lock()

    def asking(worker: Any, request: Any) -> Any:
        with lock:
            orders.extend([worker] if isinstance(request, Order) else [])
            is_victim = not killed and orders.count(worker) == 2
            if is_victim:
                pid = pid_of(worker)
                os.kill(pid, signal.SIGSTOP)
                killed.append(pid)
        if is_victim:
            threading.Timer(0.2, os.kill, [pid, signal.SIGKILL]).start()
        return ask(worker, request)

    monkeypatch.setattr(kind, "ask", asking)
    return killed


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_worker_killed_in_the_middle_changes_no_answer(
    alone: Path, tmp_path: Path, waits: Callable[..., None], pools: list[Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = stricken(ProcessWorker, monkeypatch, lambda worker: int(worker.pid))
    waits(lambda: len(pools[0]._done) >= 3)  # one before its death, two by the one that replaced it
    found = measure_landscape("tiny-aligned", **SMALL, journal=str(tmp_path), workers="2")
    assert len(killed) == 1 and (found.facts["workers"], found.facts["workers_replaced"]) == (2, 1)
    assert answered(tmp_path) == answered(alone) and len(answered(alone)) == N_POINTS
    assert found.facts["weights_fingerprint"] == fingerprint(load_model("tiny-aligned").model)
    reference = measure_landscape("tiny-aligned", **SMALL, journal=str(alone))
    assert (found.verdicts == reference.verdicts).all() and found.facts["points_measured"] == N_POINTS
    assert not any(lives(worker.pid) for worker in pools[0]._workers)


def test_one_process_reads_back_what_several_measured_and_the_other_way_round(
    alone: Path, tmp_path: Path, here: list[Any]
) -> None:
    several = measure_landscape("tiny-aligned", **SMALL, journal=str(tmp_path), workers=2)
    assert several.facts["workers"] == 2 and here, "workers took part"
    asked = len(here)
    for folder, workers in ((tmp_path, "1"), (alone, "2")):
        before = answered(folder)
        facts = measure_landscape("tiny-aligned", **SMALL, journal=str(folder), workers=workers).facts
        assert (facts["points_measured"], facts["points_read_back"]) == (0, N_POINTS)
        assert answered(folder) == before and len(here) == asked, "none was started"


def test_a_model_changed_in_memory_is_refused(here: list[Any], waits: Callable[..., None], pools: list[Pool]) -> None:
    loaded = load_model("tiny-aligned")
    with torch.no_grad():
        next(loaded.model.parameters())[0, 0] += 1
    waits(lambda: pools[0]._failure is not None)
    with pytest.raises(InvalidModel, match="weights_fingerprint: .* here, .* there.*workers=1"):
        measure_landscape((loaded.model, loaded.tokenizer), **SMALL, journal="off", workers="2")


def test_a_model_that_was_never_in_a_folder_is_refused_before_anything_is_asked(
    build_model: Callable[..., LoadedModel],
) -> None:
    model, tokenizer = build_model()
    with pytest.raises(InvalidModel, match="workers is '2'.*was not loaded from a folder"):
        measure_landscape((model, tokenizer), **SMALL, chat="off", journal="off", workers="2")
    assert measure_landscape((model, tokenizer), **SMALL, journal="off", workers="auto").asr().shape == (1, N_POINTS)
    steered = load_model("tiny-aligned")
    steered.model.lm_head.register_forward_hook(lambda module, given, logits: logits * 2)
    with pytest.raises(InvalidModel, match="a hook of the caller's computes in tiny-aligned .*lambda"):
        measure_landscape(tuple(steered), **SMALL, journal="off", workers="2")


@pytest.mark.parametrize("how", ["interpolation", "bfloat16 repeated in float32"])
def test_workers_answer_as_this_process_does(
    how: str, here: list[Any], waits: Callable[..., None], pools: list[Pool], tmp_path: Path
) -> None:
    settings = Settings(**SMALL, judge="keywords-advbench", journal=str(tmp_path / "1"))
    several = Settings(**{**SMALL, "judge": "keywords-advbench", "journal": str(tmp_path / "2"), "workers": "2"})
    if how == "interpolation":
        for one, n in ((settings, "1"), (several, "2")):
            if n == "2":
                waits(lambda: len(pools[0]._done) >= 2)
            given = {**SMALL, "target": "tiny-finetuned", "points": 3, "journal": one.journal, "workers": n}
            measure_landscape("tiny-aligned", **given)
    else:
        loaded = load_model("tiny-aligned", "bfloat16")
        prompts = load_prompts("builtin-harmful", "harmful").head(SMALL["n_prompts"]).prompts
        for one in (settings, several):
            if one is several:
                waits(lambda: len(pools[0]._done) >= 2)
            with repeated(HuggingFaceEngine(loaded), 2) as engine:
                measure(engine, [Question(prompt, grid(one), one) for prompt in prompts])
    assert here and answered(tmp_path / "1") == answered(tmp_path / "2")


def test_an_interrupt_leaves_no_process_and_the_weights_as_they_were(
    waits: Callable[..., None], pools: list[Pool]
) -> None:
    loaded = load_model("tiny-aligned")
    before = fingerprint(loaded.model)

    def until() -> bool:
        if pools[0]._workers:
            raise KeyboardInterrupt
        return False

    waits(until)
    with pytest.raises(KeyboardInterrupt):
        measure_landscape((loaded.model, loaded.tokenizer), **SMALL, journal="off", workers="3")
    assert pools[0]._workers and not any(lives(worker.pid) for worker in pools[0]._workers)
    assert fingerprint(loaded.model) == before


LOUD = """
import os, sys
class Loud:
    def find_spec(self, name, *_):
        if name == "torch":
            os.write(1, b"a library that prints when it is imported")
sys.meta_path.insert(0, Loud())
"""


def test_a_worker_ends_by_itself_when_the_process_that_measures_is_gone_and_prints_nothing_among_its_replies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LOUD)
    folder = tmp_path / "current"
    folder.mkdir()
    (folder / "pickle.py").write_text("raise SystemExit('a module of the current folder was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(folder)
    worker = ProcessWorker("", 1)
    assert worker._process.stdin is not None and worker._process.stdout is not None
    worker._process.stdin.close()
    assert worker._process.wait(LIMIT) == 0 and worker._process.stdout.read() == b""
    worker.end()


def test_a_worker_that_writes_no_reply_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_COMMAND", "import time; print('hello', flush=True); time.sleep(600)")
    monkeypatch.setattr(process, "_SECONDS", 0.1)
    worker = ProcessWorker("", 1)
    with pytest.raises(WorkerDied, match="no reply"):
        worker.ask(Order(ORIGIN, {}, Batch((), 1, (), None)))
    worker.end()
    assert not lives(worker.pid)


def test_workers_begin_nothing_once_the_time_is_spent(here: list[Any], tmp_path: Path) -> None:
    settings = Settings(**SMALL, judge="keywords-advbench", journal=str(tmp_path), workers="2")
    prompts = load_prompts("builtin-harmful", "harmful").head(SMALL["n_prompts"]).prompts
    clock = iter(range(0, 100_000, 100))
    budget = Budget(150, clock=lambda: float(next(clock)))
    engine = HuggingFaceEngine(load_model("tiny-aligned"))
    found = measure(engine, [Question(one, grid(settings), settings) for one in prompts], budget=budget)
    assert "Not measured within --llm-budget" in found.facts["out_of_time"]
    assert 1 <= len(answered(tmp_path)) < N_POINTS


@pytest.mark.parametrize("value", ["0", "-1", "two", "ray:", "ray:0", "2.5", "", "ray:two", "gpu"])
def test_a_value_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(InvalidSetting, match="workers is .*a number of at least 1, auto, ray, or ray:N"):
        Settings.parse({"workers": value})


@pytest.mark.parametrize("value", [1, "1", "12", "auto", "ray", "ray:4"])
def test_the_values_that_there_are(value: object) -> None:
    assert Settings.parse({"workers": value}).workers == str(value)


def test_ray_is_asked_for_by_name_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidSetting, match=r"pip install 'pytest-llmsafety\[ray\]'"):
        measure_landscape("no-such-model", workers="ray")


def test_more_workers_than_cards_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiring, "visible_gpus", lambda _: ["0", "1"])
    assert [hire.args[0] for hire in hiring._processes(1, "auto").workers] == ["0"], "this process's own is left out"
    with pytest.raises(InvalidSetting, match="workers is 3, and 2 GPUs are visible"):
        hiring._processes(0, "3")
    monkeypatch.setattr(hiring, "visible_gpus", lambda _: [])  # without nvidia-smi, or of another maker
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [hire.args[0] for hire in hiring._processes(1, "3").workers] == ["0", "2"]


def test_auto_has_no_workers_where_a_launcher_has_a_process_on_each_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiring, "visible_gpus", lambda _: ["0", "1"])
    monkeypatch.setattr(hiring, "origin_of", lambda engine: "origin")
    assert hiring._origin(None, "auto") == "origin"  # type: ignore[arg-type, comparison-overlap]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert hiring._origin(None, "auto") is None  # type: ignore[arg-type]


def test_processes_of_a_launcher_and_workers_do_not_go_together() -> None:
    class Shared:
        world_size = 2

    class Request:
        args = ("id", Question(load_prompts("builtin-harmful", "harmful").prompts[0], (), Settings(
            judge="refusal", workers="2")))  # fmt: skip

    with pytest.raises(InvalidSetting, match="2 processes share the prompts here"):
        visage_generate(Shared(), [Request()])  # type: ignore[arg-type, list-item]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of this machine, with two CPUs."""
    ray: Any = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", path)
        ray.init(num_cpus=2, num_gpus=0, address="local", include_dashboard=False, log_to_driver=False)
        yield ray
        ray.shutdown()


@pytest.mark.filterwarnings("default")  # Ray's own
def test_a_worker_on_ray_killed_in_the_middle_changes_no_answer(
    cluster: Any,
    alone: Path,
    tmp_path: Path,
    waits: Callable[..., None],
    pools: list[Pool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from safety_tasks.workers import on_ray

    def pid_of(worker: Any) -> int:
        return int(cluster.get(worker._actor.__ray_call__.remote(lambda host: os.getpid())))

    killed = stricken(on_ray.RayWorker, monkeypatch, pid_of)
    waits(lambda: pools[0].n_replaced == 1 and len(pools[0]._done) >= N_POINTS - 1)
    found = measure_landscape("tiny-aligned", **SMALL, journal=str(tmp_path), workers="ray:2")
    assert len(killed) == 1 and (found.facts["workers"], found.facts["workers_replaced"]) == (2, 1)
    assert answered(tmp_path) == answered(alone) and len(answered(alone)) == N_POINTS
    assert found.facts["weights_fingerprint"] == fingerprint(load_model("tiny-aligned").model)
    with pytest.raises(InvalidSetting, match="workers is ray:9, and the cluster has . free CPUs"):
        measure_landscape("tiny-aligned", **SMALL, journal="off", workers="ray:9")
    assert cluster.is_initialized(), "a cluster that was there stays"
    monkeypatch.setattr(on_ray, "_ROOM_SECONDS", 0.1)
    nowhere = on_ray.RayWorker(1, 1)  # there is no card
    with pytest.raises(NoRoom, match="Ray found no room for it within 0.1 s"):
        nowhere.ask(pools[0]._origin)
    nowhere.end()
