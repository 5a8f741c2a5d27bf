"""``python -m safety_tasks report``: the page of a run that is over, from lm_eval's results, report.json or journal."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lm_eval.evaluator import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from report_builders import landscape_with, report_on
from typer.testing import CliRunner

from safety_tasks.__main__ import app
from safety_tasks.errors import InvalidInput
from safety_tasks.harness.evaluation import evaluate_tasks, load_lm
from safety_tasks.journal import text_hash
from safety_tasks.prompts import load_prompts
from safety_tasks.report import report_to_dict, write_report
from safety_tasks.report.rebuilt import rebuild
from safety_tasks.report.sources import read_sources, reports_of
from safety_tasks.settings import Settings
from safety_tasks.tiny import model_path

FEW: dict[str, Any] = {"n_prompts": 8, "points": 3, "directions": 1, "max_new_tokens": 24}
ROOT = Path(__file__).parents[2]
TASKS = ROOT / "safety_tasks" / "harness" / "tasks"


class Run:
    """The files of one lm_eval run."""

    def __init__(self, folder: Path) -> None:
        (self.results,) = folder.glob("out/**/results_*.json")
        (self.journal,) = folder.glob(".llmsafety/journal/*.jsonl")
        self.folder = folder

    def answers(self) -> list[str]:
        lines = map(json.loads, self.journal.read_text().splitlines())
        return [row["text"] for line in lines if line["kind"] == "completions" for row in line["results"]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """tiny-aligned, measured and written by lm_eval itself."""
    folder = tmp_path_factory.mktemp("lm_eval")
    metadata = {f"visage_{name}": value for name, value in FEW.items()}
    metadata["visage_journal"] = str(folder / ".llmsafety" / "journal")
    manager = TaskManager(include_defaults=False, include_path=str(TASKS), metadata=metadata)
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    results: Any = simple_evaluate(
        "hf",
        model_args=f"pretrained={model_path('tiny-aligned')},device=cpu",
        tasks=["visage_safety"],
        task_manager=manager,
        evaluation_tracker=tracker,
        log_samples=False,
    )
    tracker.save_results_aggregated(results=results)
    return Run(folder)


def data_in(page: Path, name: str = "samples-data") -> Any:
    """What the page's own script unpacks under a name; None where the page has none."""
    found = re.search(rf'id="{name}">([A-Za-z0-9+/=]*)</script>', page.read_text(encoding="utf-8"))
    return None if found is None else json.loads(gzip.decompress(base64.b64decode(found[1])))


def texts_in(page: Path, column: str = "completion") -> set[str]:
    found = (data_in(page) or {"columns": {}})["columns"].get(column, {"values": []})
    return {text for text in found["values"] if text is not None}


def test_the_page_of_lm_evals_results_has_its_numbers_curves_and_samples(run: Run, tmp_path: Path) -> None:
    lines = rebuild([run.results], tmp_path / "new" / "page.html")
    results = json.loads(run.results.read_text())
    told = json.loads((tmp_path / "new" / "page.json").read_text())
    values = {found["name"]: found["value"] for found in told["estimates"]}
    assert values["attack_success_rate"] == results["results"]["visage_harmful"]["attack_success_rate,refusal"]
    assert values["mean_safety"] == results["results"]["visage_landscape"]["mean_safety,keywords-advbench"]
    assert told["landscape"]["asr"] == results["configs"]["visage_landscape"]["visage_landscape"]["asr"]
    assert told["samples"] == {"visage_landscape": 24, "visage_harmful": 8, "visage_over_refusal": 8}
    assert told["settings"]["judge"] == {
        "visage_landscape": "keywords-advbench",
        "visage_harmful": "refusal",
        "visage_over_refusal": "refusal",
    }
    assert told["model"] == "tiny-aligned" and told["decision"] == "none" and told["gates"] == []
    assert told["command"].startswith("lm_eval --tasks visage_") and "visage_n_prompts" in told["command"]
    samples = data_in(tmp_path / "new" / "page.html")
    assert samples["n"] == 40 and not texts_in(tmp_path / "new" / "page.html")
    assert lines[-1] == f"report: {tmp_path / 'new' / 'page.html'}"


def test_the_journal_alone_gives_the_same_report(run: Run) -> None:
    ((_, by_journal),), ((_, by_results),) = (reports_of(read_sources([p]), "off") for p in (run.journal, run.results))
    kept, expected = report_to_dict(by_journal), report_to_dict(by_results)
    assert kept.pop("command") == "" and expected.pop("command")
    assert expected["facts"].pop("lm_eval") and expected["facts"].pop("started").startswith("20")
    assert sorted(kept.pop("estimates"), key=str) == sorted(expected.pop("estimates"), key=str)
    assert kept == expected
    assert set(by_journal.samples) == set(by_results.samples)


def test_a_folder_of_results_and_a_folder_of_journals_are_read(run: Run) -> None:
    for folder in (run.folder / "out", run.journal.parent):
        assert len(reports_of(read_sources([folder]), "off")) == 1


def test_texts_come_from_the_journal_and_only_where_they_are_asked_for(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    rebuild([run.journal], page)
    written = page.read_text() + page.with_suffix(".json").read_text()
    prompts = [prompt.text for prompt in load_prompts("builtin-harmful").prompts[:8]]
    assert texts_in(page) == texts_in(page, "prompt") == set()
    assert not [text for text in (*run.answers(), *prompts) if len(text) > 20 and text in written]
    rebuild([run.results, run.journal], page, "full")
    assert texts_in(page) == set(run.answers()) and texts_in(page, "prompt") >= set(prompts)
    told = page.with_suffix(".json").read_text()
    assert not [text for text in (*run.answers(), *prompts) if len(text) > 20 and text in told], "in the HTML only"


def test_results_without_their_journal_say_where_the_texts_are(run: Run, tmp_path: Path) -> None:
    lines = rebuild([run.results], tmp_path / "page.html", "truncated")
    assert any("They lie in the journal of the run" in line for line in lines)


def test_texts_of_a_gated_set_are_not_shown_though_they_lie_in_the_journal(run: Run, tmp_path: Path) -> None:
    for gated in ('"gated":true', '"other":0'):
        journal = tmp_path / "journal.jsonl"
        journal.write_text(run.journal.read_text().replace('"gated":false', gated))
        rebuild([journal], tmp_path / "page.html", "full")
        assert texts_in(tmp_path / "page.html") == texts_in(tmp_path / "page.html", "prompt") == set()


def test_a_measurement_that_is_read_back_is_in_the_journal_once(tmp_path: Path) -> None:
    settings = Settings(**FEW, journal=str(tmp_path))
    for _ in range(2):
        evaluate_tasks(load_lm("tiny-aligned", settings=settings), ["visage_harmful"], settings, quiet=True)
    (journal,) = tmp_path.glob("*.jsonl")
    assert journal.read_text().count('"kind":"measured"') == 1
    ((_, report),) = reports_of(read_sources([journal]), "full")
    assert {sample.sha256 for sample in report.samples} == {text_hash(str(one.completion)) for one in report.samples}


def test_a_journal_without_a_finished_measurement_says_how_it_goes_on(run: Run, tmp_path: Path) -> None:
    killed = tmp_path / "killed.jsonl"
    lines = [line for line in run.journal.read_text().splitlines() if '"kind":"measured"' not in line]
    killed.write_text("\n".join(lines) + '\n{"kind":"measur')
    with pytest.raises(InvalidInput, match="came to its end.*it goes on from the journal"):
        rebuild([killed], tmp_path / "page.html")


def test_a_report_is_rebuilt_from_its_json_gates_and_all(tmp_path: Path) -> None:
    report = report_on(landscape_with(0.3), answered=190)
    _, facts = write_report(report, tmp_path / "first.html")
    rebuild([facts], tmp_path / "again.html")
    assert (tmp_path / "again.json").read_text() == facts.read_text()
    assert "FAIL" in (tmp_path / "again.html").read_text()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("notes.json", '{"a": 1}', "is no source of a report. A source is lm_eval's results JSON"),
        ("broken.json", '{"a": ', "cannot be read as a source"),
        ("list.json", "[]", "is no source"),
        ("old.json", '{"schema": "llmsafety-report/1", "gates": [], "model": "m"}', "cannot be read as a source"),
        ("other.json", '{"configs": {"hellaswag": {}}}', "hold none of the visage tasks"),
        ("run.jsonl", '{"kind": "head", "schema": "llmsafety-run/1"}', "python -m pytest_llmsafety report"),
        ("samples.jsonl", '{"doc_id": 0}', "is no journal"),
        ("torn.jsonl", '{"kind": "run"}\n{"kind": "measured", "task": "t", "values": {}}', "cannot be read"),
        ("missing.json", None, "There is no file or folder"),
        ("", None, "holds no journal, no results_"),
    ],
)
def test_what_is_no_source_says_so_in_a_sentence(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=message):
        rebuild([tmp_path / name], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_wrong_text_level_or_output_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="There are: full, off, truncated"):
        rebuild([tmp_path / "none"], tmp_path / "page.html", "some")
    for output in (tmp_path, tmp_path / "page.json"):
        with pytest.raises(InvalidInput, match="it must name the HTML file"):
            rebuild([tmp_path / "none"], output)


def test_the_command_prints_numbers_and_where_the_page_is(tmp_path: Path) -> None:
    write_report(report_on(landscape_with(0.3)), tmp_path / "first.html")
    done = CliRunner().invoke(app, ["report", str(tmp_path / "first.json"), "-o", str(tmp_path / "page.html")])
    assert done.exit_code == 0 and "basin_width = 0.6" in done.output and (tmp_path / "page.html").exists()


def test_facts_that_a_page_cannot_show_are_an_error_in_a_sentence(tmp_path: Path) -> None:
    write_report(report_on(landscape_with(0.3)), tmp_path / "first.html")
    values = json.loads((tmp_path / "first.json").read_text())
    (tmp_path / "first.json").write_text(json.dumps({**values, "facts": {"judges": {"refusal": {}}}}))
    with pytest.raises(InvalidInput, match="lacks what a page shows"):
        rebuild([tmp_path / "first.json"], tmp_path / "page.html")


REBUILD = """
import sys
from pathlib import Path
from safety_tasks.report.rebuilt import rebuild
rebuild([Path(sys.argv[1])], Path("page.html"))
print([name for name in ("torch", "transformers", "lm_eval") if name in sys.modules])
"""


def test_neither_torch_nor_lm_eval_is_loaded(tmp_path: Path) -> None:
    write_report(report_on(landscape_with(0.3)), tmp_path / "first.html")
    command = [sys.executable, "-c", REBUILD, str(tmp_path / "first.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
