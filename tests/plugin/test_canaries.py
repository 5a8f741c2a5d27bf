"""Secrets and texts that were planted turn up in no output of any mode: design rules 10 and 13."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import openai  # noqa: F401 - an in-process session forgets it, and cannot import it twice
import pytest

from safety_tasks.prompts import load_prompts

SECRETS = {f"k{number:02d}": f"zq{number:02d}canary9x7" for number in range(1, 21)}
TEXTS = {name: f"The {name} canary sings of {name}ish things." for name in ("prompt", "benign", "answer", "system")}

MODEL = """
from pytest_llmsafety.testing import FakeModel
from safety_tasks.decoding import Completion

class Canary(FakeModel):
    def generate(self, prompts, max_new_tokens, stop_strings):
        {generate}
        answer = {answer!r}
        return [Completion(answer, tuple(range(9)), finished=True) for prompt in prompts]

    def facts(self):
        return {{**super().facts(), **{facts!r}}}

def pytest_llmsafety_load_model(config, model):
    {load}
    return Canary(basin=(-0.3, 0.3), beyond="noise")
"""
FACTS = {
    "api_key": SECRETS["k01"],
    "nested": {"credentials": {"user": "me", "key": SECRETS["k02"]}, "hub_token": SECRETS["k03"]},
    "address": f"https://me:{SECRETS['k04']}@host/v1?access_token={SECRETS['k05']}&x=1",
    "header": f"Authorization: Bearer {SECRETS['k06']}",
    "arguments": [f"password={SECRETS['k07']}", f"--secret {SECRETS['k08']}"],
    "keys": f"hf_{SECRETS['k09']} sk-{SECRETS['k10']} ghp_{SECRETS['k11']}",
}
ENVIRONMENT = {
    "HF_TOKEN": SECRETS["k12"],
    "OPENAI_API_KEY": SECRETS["k13"],
    "AWS_SECRET_ACCESS_KEY": SECRETS["k14"],
    "LLMSAFETY_MODEL_ARGS": f"api_key={SECRETS['k15']},dtype=float32",
}
COMMAND = [
    f"--llm-model=https://me:{SECRETS['k16']}@host/model",
    "-vv",
    "-l",
    "--tb=long",
    "--junitxml=junit.xml",
    "--llm-prompts=harmful.jsonl",
    "--llm-benign-prompts=benign.jsonl",
    "--llm-judge=refusal+keywords-wei",
    "--llm-points=3",
    "--llm-directions=1",
    "--llm-gate=basin_width >= 0.2",
    "--llm-system-prompt",
    TEXTS["system"],
]
INI = f"[pytest]\nllm_backend = hf\n# token = {SECRETS['k17']}\n"
TESTS = """
def test_fixture(llm_safety):
    assert llm_safety.attack_success_rate <= 0.05

def test_answers(llm):
    assert len(llm.generate(["Hello there."])) == 2

def test_configuration(llm_safety, llm, pytestconfig):
    run = llm_safety._run
    assert run is None
"""
# What foreign code may put into an error: addresses, headers, and what it was asked with.
BREAKS = (
    f"raise RuntimeError('401 for https://me:{SECRETS['k18']}@host, api_key={SECRETS['k19']}, "
    f"Bearer {SECRETS['k20']}, incorrect key: {ENVIRONMENT['OPENAI_API_KEY']}')"
)


def plant(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *, generate: str, load: str) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(name, str(pytester.path / name))
    pytester.makeconftest(MODEL.format(generate=generate, load=load, answer=TEXTS["answer"], facts=FACTS))
    pytester.makeini(INI)
    pytester.makepyfile(test_it=TESTS)
    for name, text in {"harmful": TEXTS["prompt"], "benign": TEXTS["benign"]}.items():
        lines = [json.dumps({"id": f"{name}-{i}", "cluster": i, "prompt": f"{text} Number {i}."}) for i in range(100)]
        (pytester.path / f"{name}.jsonl").write_text("\n".join(lines))


def outputs(pytester: pytest.Pytester, result: pytest.RunResult) -> dict[str, str]:
    """All that the session printed and wrote, but for what was planted, by name."""
    planted = {"conftest.py", "tox.ini", "test_it.py", "harmful.jsonl", "benign.jsonl"}
    paths = [path for path in pytester.path.rglob("*") if path.is_file() and path.name not in planted]
    written = {str(path.relative_to(pytester.path)): path.read_text(errors="ignore") for path in paths}
    return {**{name: text for name, text in written.items() if "__pycache__" not in name}, **shown(result)}


def unpacked(found: dict[str, str]) -> dict[str, str]:
    """The samples that pages hold, as their scripts read them."""
    packed = {name: re.search(r'id="samples-data">([A-Za-z0-9+/=]+)<', text) for name, text in found.items()}
    data = {name: gzip.decompress(base64.b64decode(hit[1])).decode() for name, hit in packed.items() if hit}
    return {f"{name}#samples-data": text for name, text in data.items()}


def shown(result: pytest.RunResult) -> dict[str, str]:
    return {"stdout": str(result.stdout), "stderr": str(result.stderr)}


def leaks(found: dict[str, str]) -> list[tuple[str, str]]:
    """(output, canary): secrets anywhere; texts anywhere but in the journal, which is for them."""
    secrets = [(where, name) for where, text in found.items() for name, secret in SECRETS.items() if secret in text]
    public = {where: text for where, text in found.items() if not where.startswith(".llmsafety/journal")}
    return secrets + [(where, name) for where, text in public.items() for name, words in TEXTS.items() if words in text]


@pytest.mark.parametrize(
    ("generate", "load", "decision"),
    [("pass", "pass", "fail"), (BREAKS, "pass", "error"), ("pass", BREAKS, "error")],
    ids=["measured", "answering-breaks", "loading-breaks"],
)
def test_no_planted_secret_or_text_is_in_any_output(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, generate: str, load: str, decision: str
) -> None:
    plant(pytester, monkeypatch, generate=generate, load=load)
    result = pytester.runpytest_inprocess(*COMMAND, "--llm-model-card=card.yaml")
    found = outputs(pytester, result)
    result.stdout.fnmatch_lines([f"decision: {decision}"])
    expected = {".llmsafety/report.html", ".llmsafety/report.json", "junit.xml", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"}
    assert expected <= set(found) and ("card.yaml" in found)
    assert any(name.startswith(".llmsafety/runs/") for name in found)
    assert leaks({**found, **unpacked(found)}) == []


@pytest.mark.parametrize("text", ["off", "full"])
def test_texts_are_in_the_page_where_they_were_asked_for_and_a_page_of_the_run_log_has_none(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    from pytest_llmsafety.recovery import rebuild

    plant(pytester, monkeypatch, generate="pass", load="pass")
    result = pytester.runpytest_inprocess(*COMMAND, f"--llm-report-text={text}")
    rebuild(pytester.path / ".llmsafety" / "runs", pytester.path / "rebuilt.html")
    found = outputs(pytester, result)
    packed = unpacked(found)
    assert {Path(name).name for name in packed} == {"report.html#samples-data", "rebuilt.html#samples-data"}
    shown = [("report.html#samples-data", name) for name in ("prompt", "benign", "answer")]
    told = [(Path(where).name, name) for where, name in leaks({**found, **packed})]
    assert sorted(told) == (sorted(shown) if text == "full" else [])


def test_reports_of_earlier_runs_hold_no_planted_secret_or_text(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safety_tasks.harness.evaluation import EngineLM, evaluate_tasks
    from safety_tasks.report.rebuilt import rebuild
    from safety_tasks.settings import Settings

    plant(pytester, monkeypatch, generate="pass", load="pass")
    pytester.runpytest_inprocess(*COMMAND)
    names: dict[str, object] = {}
    exec((pytester.path / "conftest.py").read_text(), names)
    model = names["Canary"]()  # type: ignore[operator]
    model.identity = lambda: {"weights_fingerprint": "canary"}
    options = {"prompts": "harmful.jsonl", "benign_prompts": "benign.jsonl", "system_prompt": TEXTS["system"]}
    settings = Settings(**options, journal="kept", points=3, directions=1, judge="refusal+keywords-wei")
    tasks = evaluate_tasks(EngineLM(model), ["visage_safety"], settings, quiet=True)
    results = {"configs": {name: task.dump_config() for name, task in tasks.items()}, "model_name": "m"}
    results["config"] = {"model": "hf", "model_args": {"token": SECRETS["k01"], "pretrained": "m"}}
    Path("results.json").write_text(json.dumps(results, default=str))
    (journal,) = Path("kept").glob("*.jsonl")
    journal.rename("journal.jsonl")
    Path("report.json").write_text(Path(".llmsafety/report.json").read_text())
    printed = {}
    for source in ("results.json", "report.json", "journal.jsonl"):
        printed[source] = "".join(rebuild([Path(source)], Path(f"{source}.html")))
    printed["compared"] = "".join(rebuild([Path("results.json"), Path("report.json")], Path("compared.html")))
    written = {str(path): path.read_text() for path in Path().glob("*.html*")}
    assert len(written) == 4 and len(unpacked(written)) == 2
    assert leaks({**printed, **written, **unpacked(written)}) == []
    rebuild([Path("journal.jsonl")], Path("journal.jsonl.html"), "full")
    again = Path("journal.jsonl.html").read_text()
    shown = {name for _, name in leaks(unpacked({"page": again}))}
    assert shown == {"prompt", "benign", "answer"} and leaks({"page": again}) == []


def test_a_backend_that_cannot_be_reached_shows_no_secret(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(pytester, monkeypatch, generate="pass", load="return None")
    arguments = f"model=m,base_url=http://me:{SECRETS['k18']}@127.0.0.1:9/v1/chat/completions,max_retries=1,token={SECRETS['k19']}"
    own = [argument for argument in COMMAND[1:] if "basin_width" not in argument]
    command = [*own, "--llm-model=m", "--llm-backend=local-chat-completions", "--llm-n-prompts=90"]
    result = pytester.runpytest_inprocess(*command, f"--llm-model-args={arguments}")
    result.stdout.fnmatch_lines(["decision: error"])
    assert leaks(outputs(pytester, result)) == []


def test_a_judge_behind_a_server_shows_no_secret(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(pytester, monkeypatch, generate="pass", load="pass")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://me:{SECRETS['k18']}@127.0.0.1:9/v1?token={SECRETS['k19']}")
    monkeypatch.setattr("safety_tasks.judges.endpoint.MAX_RETRIES", 0)
    result = pytester.runpytest_inprocess(*COMMAND, "--llm-harm-judge=policy:judge", "--log-level=DEBUG")
    result.stdout.fnmatch_lines(["*policy:judge*127.0.0.1:9 cannot be reached*", "decision: error"])
    assert leaks(outputs(pytester, result)) == []


def test_what_lm_eval_writes_down_of_a_task_holds_neither_prompts_nor_secrets(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safety_tasks.harness.evaluation import EngineLM, evaluate_tasks
    from safety_tasks.settings import Settings

    plant(pytester, monkeypatch, generate="pass", load="pass")
    names: dict[str, object] = {}
    exec((pytester.path / "conftest.py").read_text(), names)
    settings = Settings(
        prompts="harmful.jsonl",
        benign_prompts="benign.jsonl",
        system_prompt=TEXTS["system"],
        journal="off",
        points=3,
        directions=1,
    )
    tasks = evaluate_tasks(
        EngineLM(names["Canary"]()), ["visage_harmful", "visage_landscape", "visage_over_refusal"], settings, quiet=True
    )
    written = {name: json.dumps(task.dump_config(), default=str) for name, task in tasks.items()}
    assert len(written) == 3 and all("visage_estimates" in text for text in written.values())
    assert leaks(written) == []


def test_the_canaries_are_found_where_they_do_stand(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(pytester, monkeypatch, generate=BREAKS, load="pass")
    planted = "".join(
        Path(pytester.path / name).read_text() for name in ("conftest.py", "tox.ini", "harmful.jsonl", "benign.jsonl")
    )
    everything = {"planted": planted + "".join(COMMAND) + "".join(ENVIRONMENT.values())}
    assert {name for _, name in leaks(everything)} == {*SECRETS, *TEXTS}
    assert load_prompts("harmful.jsonl").prompts[0].text.startswith(TEXTS["prompt"])
