from __future__ import annotations

import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from safety_tasks import measure_landscape
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidSetting
from safety_tasks.journal import Journal
from safety_tasks.judges.classifier import ClassifierJudge
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.settings import Settings
from safety_tasks.tiny import model_path

SMALL: dict[str, Any] = dict(n_prompts=8, points=5, directions=2, max_new_tokens=16, radius=0.5, journal="journal")
N_POINTS = 9
IDENTITY = {"weights_fingerprint": "a"}
LONG_RUN = """
import sys
from safety_tasks import measure_landscape
measure_landscape("tiny-aligned", n_prompts=40, points=15, directions=2, max_new_tokens=48, journal=sys.argv[1])
"""
LONG = dict(n_prompts=40, points=15, directions=2, max_new_tokens=48)


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all batches that are really generated."""
    batches: list[int] = []
    generate = HuggingFaceEngine.generate

    def counted(engine: HuggingFaceEngine, prompts: Any, *rest: Any) -> Any:
        batches.append(len(prompts))
        return generate(engine, prompts, *rest)

    monkeypatch.setattr(HuggingFaceEngine, "generate", counted)
    return batches


def lines(folder: str = "journal") -> list[dict[str, Any]]:
    (path,) = Path(folder).glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def counted(results: list[Any]) -> tuple[Callable[[], list[Any]], list[int]]:
    calls: list[int] = []

    def measure() -> list[Any]:
        calls.append(1)
        return results

    return measure, calls


def test_what_was_measured_is_read_back(tmp_path: Path) -> None:
    measure, calls = counted([{"text": "Zeile\n\u2028 zwei \ud800"}, 1.5])
    first = Journal.open(str(tmp_path / "j"), "m", IDENTITY).remember("completions", ["a", 0.1], measure, alpha=0.1)
    again = Journal.open(str(tmp_path / "j"), "m", IDENTITY)
    assert again.remember("completions", ["a", 0.1], measure) == first == [{"text": "Zeile\n\u2028 zwei \ud800"}, 1.5]
    assert calls == [1] and again.recalled == 1


@pytest.mark.parametrize("asked", [["completions", ["a", 0.2]], ["completions", ["b", 0.1]], ["verdicts", ["a", 0.1]]])
def test_another_question_is_measured(tmp_path: Path, asked: list[Any]) -> None:
    measure, calls = counted([1])
    journal = Journal.open(str(tmp_path / "j"), "m", IDENTITY)
    journal.remember("completions", ["a", 0.1], measure)
    journal.remember(*asked, measure)
    assert calls == [1, 1]


def test_another_identity_never_meets_these_answers(tmp_path: Path) -> None:
    measure, calls = counted([1])
    for fingerprint in "ab":
        Journal.open(str(tmp_path / "j"), "m", {"weights_fingerprint": fingerprint}).remember("c", 1, measure)
    assert calls == [1, 1] and len(list((tmp_path / "j").glob("*.jsonl"))) == 2


def test_a_file_under_anothers_name_is_refused(tmp_path: Path) -> None:
    Journal.open(str(tmp_path / "j"), "m", IDENTITY).remember("c", 1, lambda: [1])
    (path,) = (tmp_path / "j").glob("*.jsonl")
    path.write_text(path.read_text().replace('"weights_fingerprint":"a"', '"weights_fingerprint":"b"'))
    with pytest.raises(InvalidSetting, match="another run's"):
        Journal.open(str(tmp_path / "j"), "m", IDENTITY)


@pytest.mark.parametrize("torn_at", range(1, 60, 7))
def test_a_line_that_a_kill_tore_is_measured_again_and_nothing_else(tmp_path: Path, torn_at: int) -> None:
    journal = Journal.open(str(tmp_path / "j"), "m", IDENTITY)
    journal.remember("c", 1, lambda: [1])
    journal.remember("c", 2, lambda: ["x" * 40])
    path = journal.path
    assert path is not None
    path.write_bytes(path.read_bytes()[:-torn_at])
    again = Journal.open(str(tmp_path / "j"), "m", IDENTITY)
    assert again.remember("c", 1, lambda: [0]) == [1]
    assert again.remember("c", 2, lambda: ["new"]) == (["x" * 40] if torn_at == 1 else ["new"])
    whole = Journal.open(str(tmp_path / "j"), "m", IDENTITY)
    assert whole.remember("c", 2, lambda: [0]) != [0], "what came after the torn line can be read"


def test_without_an_identity_nothing_is_remembered_or_written(tmp_path: Path) -> None:
    measure, calls = counted([1])
    journal = Journal.open(str(tmp_path / "j"), "m", None)
    journal.remember("c", 1, measure)
    journal.remember("c", 1, measure)
    assert calls == [1, 1] and not (tmp_path / "j").exists()


def test_a_folder_that_cannot_be_written_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match="--llm-journal off"):
        Journal.open(str(tmp_path / "file" / "j"), "m", IDENTITY)


def test_the_file_is_its_owners_and_a_new_folder_is_ignored_by_git(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    journal = Journal.open(str(tmp_path / "mine"), "m", IDENTITY)
    assert journal.path is not None and stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert not (tmp_path / "mine" / ".gitignore").exists(), "a folder that was there is not ours to ignore"
    Journal.open(str(tmp_path / "new" / "journal"), "m", IDENTITY)
    assert (tmp_path / "new" / "journal" / ".gitignore").read_text() == "*\n"


def test_a_landscape_measured_again_generates_nothing(generated: list[int]) -> None:
    first = measure_landscape("tiny-aligned", **SMALL)
    assert generated == [8] * N_POINTS
    again = measure_landscape("tiny-aligned", **SMALL)
    assert generated == [8] * N_POINTS
    assert (again.verdicts == first.verdicts).all() and (again.coherent == first.coherent).all()
    assert again.facts["read_from_journal"] == 2 * N_POINTS, "completions and verdicts"


def test_every_point_stands_in_the_journal_with_what_identifies_it() -> None:
    measure_landscape("tiny-aligned", **SMALL)
    head, *rest = lines()
    assert {"weights_fingerprint", "dtype", "batch_size", "noise", "torch", "transformers", "code"} <= set(
        head["identity"]
    )
    completions = [line for line in rest if line["kind"] == "completions"]
    verdicts = [line for line in rest if line["kind"] == "verdicts"]
    assert len(completions) == len(verdicts) == N_POINTS
    assert {(line["direction"] or {}).get("index") for line in completions} == {None, 0, 1}
    assert all(len(line["results"]) == 8 and line["judge"] == "keywords-advbench" for line in verdicts)
    assert all(len(line["prompts"]) == 8 and "text" not in line for line in verdicts)


@pytest.mark.parametrize(
    "change",
    [dict(seed=1), dict(max_new_tokens=17), dict(n_prompts=7), dict(system_prompt="Be kind."), dict(radius=0.4)],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_setting_is_measured_anew(generated: list[int], change: dict[str, Any]) -> None:
    measure_landscape("tiny-aligned", **SMALL)
    generated.clear()
    measure_landscape("tiny-aligned", **{**SMALL, **change})
    expected = N_POINTS - 1 if set(change) <= {"seed", "radius"} else N_POINTS  # the origin is the same place
    assert len(generated) == expected


def test_a_changed_model_never_meets_anothers_journal(generated: list[int]) -> None:
    loaded = load_model("tiny-aligned")
    measure_landscape(tuple(loaded), **SMALL)
    generated.clear()
    with torch.no_grad():
        loaded.model.lm_head.weight.view(-1)[5].add_(1e-6)
    measure_landscape(tuple(loaded), **SMALL)
    measure_landscape(tuple(load_model("tiny-aligned", dtype="bfloat16")), **SMALL)
    measure_landscape("tiny-aligned", **SMALL, batch_size=3)
    assert generated == [8] * 3 * N_POINTS


def test_a_changed_tokenizer_or_configuration_is_another_model(build_model: Callable[..., LoadedModel]) -> None:
    model, tokenizer = build_model()
    seen = [HuggingFaceEngine(LoadedModel(model, tokenizer)).identity()]
    other = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|user|>", pad_token="</s>")
    seen.append(HuggingFaceEngine(LoadedModel(model, other)).identity())  # the usual repair after a fine-tune
    model.config.rms_norm_eps = 0.5
    seen.append(HuggingFaceEngine(LoadedModel(model, tokenizer)).identity())
    assert seen[0] not in seen[1:] and seen[1] != seen[2]


@pytest.mark.filterwarnings("ignore")  # torch warns of its own quantisation
def test_weights_that_no_fingerprint_sees_are_never_read_back() -> None:
    model, tokenizer = load_model("tiny-aligned")
    packed = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    engine = HuggingFaceEngine(LoadedModel(packed, tokenizer))
    assert engine.identity() is None and engine.facts()["weights_fingerprint"] is None


def test_a_judge_with_other_labels_is_another_judge() -> None:
    judge = ClassifierJudge.load("tiny-judge", model_path("tiny-judge"))
    other = dataclasses.replace(judge, classifier=dataclasses.replace(judge.classifier, labels=("harmless",)))
    assert judge.identity != other.identity
    assert judge.identity == ClassifierJudge.load("another name", model_path("tiny-judge")).identity


@pytest.mark.parametrize(
    "line", ['{"results":[1]}', '{"kind":"c","results":[1]}', '{"kind":"c","key":["x"],"results":1}', "[" * 100_000]
)
def test_a_line_that_is_not_ours_is_passed_over(tmp_path: Path, line: str) -> None:
    journal = Journal.open(str(tmp_path / "j"), "m", IDENTITY)
    assert journal.path is not None
    with journal.path.open("a") as file:
        file.write(line + "\n")
    assert Journal.open(str(tmp_path / "j"), "m", IDENTITY).remember("c", 1, lambda: [2]) == [2]


def test_a_disk_that_fills_up_costs_the_journal_and_not_the_run(tmp_path: Path) -> None:
    Journal.open(str(tmp_path / "j"), "m", IDENTITY).remember("c", 0, lambda: [0])
    journal = Journal.open(str(tmp_path / "j"), "m", IDENTITY)
    assert journal.path is not None
    journal.path.unlink()
    assert journal.remember("c", 1, lambda: [1]) == [1] and journal.remember("c", 2, lambda: [2]) == [2]
    assert journal.remember("c", 0, lambda: [9]) == [0], "what was read is still known"
    assert journal.ended == "No such file or directory"


@pytest.mark.parametrize("folder", ["", " ", "a\0b"])
def test_a_folder_must_have_a_name(folder: str) -> None:
    with pytest.raises(InvalidSetting, match="journal"):
        Settings(journal=folder)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match="no folder that can be written.*--llm-journal off"):
        measure_landscape("no such model", journal=str(tmp_path / "file" / "journal"))


def test_off_writes_nothing(generated: list[int], tmp_path: Path) -> None:
    for _ in range(2):
        measure_landscape("tiny-aligned", **{**SMALL, "journal": "off"})
    assert len(generated) == 2 * N_POINTS and not list(tmp_path.rglob("*.jsonl"))


def test_a_killed_landscape_goes_on_where_it_was(tmp_path: Path, generated: list[int]) -> None:
    child = subprocess.Popen([sys.executable, "-c", LONG_RUN, "journal"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while _points_in(Path("journal")) < 5 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it must be killed in the middle"
    finished = _points_in(Path("journal"))
    assert 5 <= finished < 29
    resumed = measure_landscape("tiny-aligned", **LONG, journal="journal")
    heads = [json.loads(path.read_text().splitlines()[0])["identity"] for path in Path("journal").glob("*.jsonl")]
    assert all(head == heads[0] for head in heads), "both processes are one identity"
    assert len(generated) == 29 - finished, "no finished point is measured twice"
    whole = measure_landscape("tiny-aligned", **LONG, journal="off")
    assert (resumed.verdicts == whole.verdicts).all() and (resumed.coherent == whole.coherent).all()
    assert [score.to_dict() for score in resumed.scores()] == [score.to_dict() for score in whole.scores()]


def _points_in(folder: Path) -> int:
    """Whole lines of completions."""
    found = list(folder.glob("*.jsonl"))
    return sum(line.startswith(b'{"kind":"completions"') and line.endswith(b"}\n") for line in _lines(found))


def _lines(paths: list[Path]) -> list[bytes]:
    return paths[0].read_bytes().splitlines(keepends=True) if paths else []


def test_who_waits_for_another_process_knows_its_results(tmp_path: Path) -> None:
    ours, theirs = (Journal.open(str(tmp_path), "m", IDENTITY) for _ in range(2))
    held, done = threading.Event(), threading.Event()

    def other() -> None:
        with theirs.alone():
            held.set()
            time.sleep(0.3)
            theirs.remember("completions", "hello", lambda: ["measured"])
            done.set()

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(60)
    with ours.alone():
        assert done.is_set()
        assert ours.remember("completions", "hello", lambda: ["again"]) == ["measured"]
    thread.join()
    assert ours.recalled == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_process_keeps_nobody_waiting(tmp_path: Path) -> None:
    program = (
        "import sys, time; from safety_tasks.journal import Journal\n"
        "with Journal.open(sys.argv[1], 'm', {'weights_fingerprint': 'a'}).alone(): print('held', flush=True); "
        "time.sleep(120)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        process.kill()
    with Journal.open(str(tmp_path), "m", IDENTITY).alone():
        pass


def test_two_processes_that_begin_a_journal_write_one_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, others = Journal._append, ["the other process"]

    def after_the_other(journal: Journal, line: dict[str, object], *, is_head: bool = False) -> None:
        if others:
            others.pop()
            Journal.open(str(tmp_path), "m", {"weights": "a"})
        real(journal, line, is_head=is_head)

    monkeypatch.setattr(Journal, "_append", after_the_other)
    journal = Journal.open(str(tmp_path), "m", {"weights": "a"})
    assert journal.path is not None and journal.path.read_text().count('"kind":"run"') == 1
