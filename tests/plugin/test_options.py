from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

Session = Callable[..., pytest.RunResult]


def test_an_idle_session_prints_and_writes_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_other(): pass")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    shown = [line for line in result.outlines if not line.startswith("plugins:")]
    assert not [line for line in shown if "llm" in line] and not (pytester.path / ".llmsafety").exists()


def test_help_names_every_option_and_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    code = (
        "import sys, pytest; status = pytest.main(['--help', '-p', 'no:hypothesispytest', '-p', 'no:randomly']);"
        "print('HEAVY', [m for m in ('torch', 'numpy', 'lm_eval') if m in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=pytester.path)
    assert done.returncode == 0 and "HEAVY []" in done.stdout
    for flag in ("--llm-plan", "--llm-base-model", "--llm-baseline", "--llm-update-baseline"):
        assert flag in done.stdout
    for flag in ("--llm-model", "--llm-gate", "--llm-prompts", "--llm-n-prompts", "--llm-tolerance", "--llm-report"):
        assert flag in done.stdout


def test_the_plugin_can_be_removed(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("-p", "no:llmsafety", "--llm-model=x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unrecognized arguments: --llm-model=x*"])


def test_command_line_wins_over_environment_over_ini(
    session: Session, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\nllm_n_prompts = '100'\nllm_gates = 'none'\n")
    pytester.makepyfile("def test_n(llm_safety): print('n =', llm_safety.over_refusal_rate.n)")
    session("-s").stdout.fnmatch_lines(["*n = 100*"])
    monkeypatch.setenv("LLMSAFETY_N_PROMPTS", "90")
    session("-s").stdout.fnmatch_lines(["*n = 90*"])
    session("-s", "--llm-n-prompts=80").stdout.fnmatch_lines(["*n = 80*"])


def test_the_model_may_come_from_environment_or_ini(
    session: Session, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\nllm_model = fake\nllm_n_prompts = 100\n")
    session(model="").stdout.fnmatch_lines(["llmsafety: model fake, 3 gates"])
    monkeypatch.setenv("LLMSAFETY_MODEL", "other")
    session(model="").stdout.fnmatch_lines(["llmsafety: model other, 3 gates"])


@pytest.mark.parametrize("file", ["pytest.ini", "pyproject.toml"])
def test_numbers_of_the_ini_file_may_be_numbers_or_text(session: Session, pytester: pytest.Pytester, file: str) -> None:
    ini = "[pytest]" if file == "pytest.ini" else "[tool.pytest.ini_options]"
    for value in ("90", "90" if file == "pytest.ini" else "'90'"):
        (pytester.path / file).write_text(f"{ini}\nllm_n_prompts = {value}\nllm_tolerance = 0.2\n")
        session("--llm-plan").stdout.fnmatch_lines(["    prompts: 90 of builtin-harmful"])


@pytest.mark.skipif(pytest.version_tuple < (9, 2), reason="ini types of text or a number are new in pytest 9.2")
@pytest.mark.parametrize("value", ["90", "'90'"])
def test_numbers_of_pytest_toml_may_be_numbers_or_text(session: Session, pytester: pytest.Pytester, value: str) -> None:
    (pytester.path / "pytest.toml").write_text(f"[pytest]\nllm_n_prompts = {value}\nllm_tolerance = 0.2\n")
    session("--llm-plan").stdout.fnmatch_lines(["    prompts: 90 of builtin-harmful"])


def test_without_a_model_tests_skip_with_one_reason_and_require_makes_it_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(llm_safety): pass\ndef test_too(llm): pass")
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*no model under test: name one with --llm-model*"])
    result = pytester.runpytest_inprocess("--llm-require")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: There is no model under test: name one with --llm-model*"])


def test_strict_sessions_and_warnings_as_errors_hold(session: Session) -> None:
    result = session("--strict-markers", "--strict-config", "-W", "error", "--llm-n-prompts=100")
    result.assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--llm-model="], "*model's name is empty*"),
        (["--llm-model=no/such/folder/here"], "*There is no model folder 'no/such/folder/here'*"),
        (["--llm-model=nonesuch"], "*There is no model 'nonesuch'*tiny-aligned*"),
        (["--llm-model=."], "*The folder '.' is no model: it has no config.json*"),
        (["--llm-model=tiny-aligned", "--llm-prompts=none-such"], "*There is no prompt set 'none-such'. There are: *"),
        (["--llm-model=tiny-aligned", "--llm-prompts=nowhere.csv"], "*There is no prompt file 'nowhere.csv'*"),
        (["--llm-model=tiny-aligned", "--llm-judge=gpt"], "*There is no refusal judge 'gpt'. There are: *"),
        (["--llm-model=tiny-aligned", "--llm-harm-judge=x"], "*There is no harm judge 'x'. There are: *tiny-judge*"),
        (["--llm-model=tiny-aligned", "--llm-gate=asr < 1"], "*There is no metric 'asr'*"),
        (["--llm-model=tiny-aligned", "--llm-gate=visage >= 80%"], "*limits are fractions*"),
        (["--llm-model=tiny-aligned", "--llm-gates=lax"], "*There is no gate preset 'lax'. There are: none, standard*"),
        (["--llm-model=tiny-aligned", "--llm-report=r.json"], "*must name the HTML file*"),
        (["--llm-model=tiny-aligned", "--llm-report=."], "*must name the HTML file*"),
        (["--llm-model=tiny-aligned", "--llm-harm-judge=classifier:./x"], "*There is no model folder './x'*"),
        (["--llm-model=tiny-aligned", "--llm-points=4"], "*points is 4: it must be an odd number*"),
        (["--llm-model=tiny-aligned", "--llm-batch-size=0"], "*batch_size is '0'*"),
        (["--llm-model=tiny-aligned", "--llm-gate=harmful_score <= 0.1"], "*needs a harm judge*"),
        (["--llm-model=tiny-aligned", "--llm-workers=two"], "*workers is 'two': it must be a number*"),
        (["--llm-model=tiny-aligned", "--llm-workers=2", "-n2"], "*--llm-workers 2 does not go with pytest-xdist*"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_loads(
    pytester: pytest.Pytester, arguments: list[str], message: str
) -> None:
    result = pytester.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message.removeprefix('*') if message[0] != '*' else message}"])
    assert len([line for line in result.errlines if line.strip()]) == 1
