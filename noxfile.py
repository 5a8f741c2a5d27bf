"""Sessions with other versions: ``nox`` runs the small matrix, ``nox --list`` names it, ``nox -s NAME`` one of it.

Not part of ``make test``. Environments are kept between runs (a few minutes the first time, torch is most of it).
Versions that a session does not name come from constraints.txt.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.4"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["plugin", "harness"]

CONSTRAINTS = Path(__file__).parent / "constraints.txt"
PLUGIN = ["tests/plugin/test_presence.py", "tests/plugin/test_gates.py", "tests/plugin/test_options.py"]
PLUGIN += ["--deselect=tests/plugin/test_gates.py::test_a_bad_model_is_told_once_in_a_few_lines"]  # pytest 9's summary
HARNESS = ["tests/harness/test_tasks.py", "tests/plugin/test_embedded.py"]
OTHERS = ["pytest-html", "pytest-xdist", "pytest-randomly", "pytest-timeout"]


@nox.session
@nox.parametrize("others", [True, False], ids=["beside-others", "alone"])
@nox.parametrize("pytest", ["8.0.*", "8.4.*", "9.0.*", ""], ids=["pytest-8.0", "pytest-8.4", "pytest-9.0", "newest"])
def plugin(session: nox.Session, pytest: str, others: bool) -> None:
    """The plugin's tests with a version of pytest, with and without its most used neighbours."""
    free = {"pytest", "pluggy", *OTHERS}
    _install(session, f"pytest=={pytest}" if pytest else "pytest", *(OTHERS if others else ()), free=free)
    _test(session, *PLUGIN, *(["tests/plugin/test_xdist.py"] if others else _without_timeout(session)))


@nox.session
@nox.parametrize(
    ("lm_eval", "transformers"),
    [("0.4.12", "5.0.*"), ("0.4.13", "")],
    ids=["lowest", "newest"],
)
def harness(session: nox.Session, lm_eval: str, transformers: str) -> None:
    """The tasks with the ends of the ranges of pyproject.toml: lm_eval and transformers."""
    wanted = f"transformers=={transformers}" if transformers else "transformers"
    free = {"lm_eval", "transformers", "huggingface_hub", "tokenizers", "peft", "accelerate"}
    _install(session, f"lm_eval[hf]=={lm_eval}", wanted, "pytest-timeout", "pytest-xdist", free=free)
    _test(session, *HARNESS)


def _install(session: nox.Session, *packages: str, free: set[str]) -> None:
    """This project and these packages; all but the free ones in the versions of constraints.txt."""
    lines = CONSTRAINTS.read_text().splitlines()
    kept = [line for line in lines if line.partition("==")[0].lower() not in {name.lower() for name in free}]
    constraints = Path(session.create_tmp()) / "constraints.txt"
    constraints.write_text("\n".join(kept) + "\n")
    # First and alone, as in the Makefile: its build decides what the others may ask for.
    session.install("--constraint", str(constraints), "torch")
    session.install("--constraint", str(constraints), "--editable", ".", "hypothesis", *packages)


def _without_timeout(session: nox.Session) -> list[str]:
    """An ini file that a strict session without pytest-timeout reads."""
    own = Path(session.create_tmp()).resolve() / "ini" / "pytest.ini"
    own.parent.mkdir(exist_ok=True)
    own.write_text("[pytest]\naddopts = --strict-markers --strict-config\nfilterwarnings = error\n")
    return ["-c", str(own), "--rootdir=.", "--confcutdir=."]


def _test(session: nox.Session, *arguments: str) -> None:
    """Without pytest-randomly outside: the sessions inside the tests have it."""
    # Below this folder the tests' own sessions would find pyproject.toml.
    environment = {"OMP_NUM_THREADS": "1", "TMPDIR": tempfile.gettempdir()}
    session.run("python", "-m", "pytest", "-q", "-p", "no:randomly", *arguments, *session.posargs, env=environment)
