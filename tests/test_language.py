"""What the project never says (each would promise more than was measured), in any text that a reader meets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEVER = {
    r"\bcertif(?:y|ied|icate|ies)\b": "nothing here certifies",
    r"safe to (?:fine-?tune|release|deploy)": "no measurement says that",
    r"guarantee[sd]? (?:the |a |of )?(?:model )?safe": "nothing here guarantees safety",
    r"VISAGE predicts": "its paper rests on two fine-tuned models",
    r"restores? safety": "a repair may only break harmful text",
    r"(?:worst[- ]case|worst) random direction": "random directions are no worst case",
    r"basins? (?:is|are) unique to safety": "capability has basins too",
    r"/(?:work|tmp|root|home)/": "no machine's paths",
}


def texts() -> list[Path]:
    suffixes = {".py", ".md", ".toml", ".j2", ".yaml", ".yml", ".txt", ".json", ".js", ".css", ".pth", ".start"}
    folders = ("safety_tasks", "pytest_llmsafety", "startup", "reports", "examples", "benchmarks", ".github", "docs")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    found = [path for path in found if "tiny" not in path.parts]  # training texts and weights
    single = ("CITATION.cff", "mkdocs.yml", "pyproject.toml", "Makefile", ".ci/run")
    return [*found, *ROOT.glob("*.md"), *(ROOT / name for name in single)]


@pytest.mark.parametrize("pattern", NEVER, ids=NEVER.values())
def test_no_text_says_it(pattern: str) -> None:
    said = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(pattern, line, re.IGNORECASE)
    ]
    assert not said


def test_the_patterns_catch_what_they_are_for() -> None:
    caught = ["This model is certified.", "It is safe to fine-tune.", "Antidote restores safety.", "See /work/x."]
    for sentence in caught:
        assert any(re.search(pattern, sentence, re.IGNORECASE) for pattern in NEVER), sentence
