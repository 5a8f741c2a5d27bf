"""The prompt sets that come with the package, and the way from a name or path to a PromptSet."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from safety_tasks.errors import UnknownName
from safety_tasks.prompts.files import read_prompts
from safety_tasks.prompts.prompt_set import PromptSet


class BuiltinSet(NamedTuple):
    """Where a set of ours lies and what it holds."""

    file: str
    description: str


BUILTIN = {
    "builtin-harmful": BuiltinSet("builtin_harmful.jsonl", "200 bad aims in general words, ten categories"),
    "builtin-benign": BuiltinSet("builtin_benign.jsonl", "200 harmless requests, half of which sound dangerous"),
}


def load_prompts(spec: str) -> PromptSet:
    """The prompt set of a name (``builtin-harmful``) or a file (``PATH`` or ``PATH#COLUMN``).

    Raises UnknownName, which lists the names there are, and InvalidPrompts.
    """
    if spec in BUILTIN:
        found = _read(Path(__file__).parent / BUILTIN[spec].file, None)
        return replace(
            found, name=spec, source="pytest-llmsafety, safety_tasks/prompts/SOURCES.md", licence="Apache-2.0"
        )
    if Path(spec).is_file():
        return _read(Path(spec), None)
    path, _, column = spec.rpartition("#") if "#" in spec else (spec, "", "")
    if Path(path).suffix or "/" in path:
        return _read(Path(path), column or None)
    raise UnknownName("prompt set", spec, BUILTIN, "Or give a CSV, JSON, JSONL or Parquet file by path.")


def _read(path: Path, column: str | None) -> PromptSet:
    """The file's prompts, read again only when it has changed: clustering a large set takes seconds."""
    if not path.is_file():
        return read_prompts(path, column)  # which says so
    return _read_once(path.absolute(), column, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read_once(path: Path, column: str | None, stamp: int) -> PromptSet:
    return read_prompts(path, column)
