"""A local CSV, JSON, JSONL or Parquet file read as a PromptSet.

The instruction's column is named (``FILE#COLUMN``) or the first of PROMPT_COLUMNS that the file has; a ``messages``
column holds whole conversations. Ids, categories and clusters are taken from columns of those names where present.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, cast

from safety_tasks.errors import InvalidPrompts
from safety_tasks.prompts.clusters import cluster_texts
from safety_tasks.prompts.prompt_set import Message, Prompt, PromptSet, Role

# AdvBench: goal, HarmBench: Behavior, JailbreakBench: Goal, StrongREJECT: forbidden_prompt, Do-Not-Answer: question
PROMPT_COLUMNS = ("messages", "prompt", "goal", "Goal", "Behavior", "behavior", "instruction", "forbidden_prompt",
                  "question", "query", "text")  # fmt: skip
CATEGORY_COLUMNS = ("category", "Category", "SemanticCategory", "type", "risk_area", "harm_area")
ID_COLUMNS = ("id", "ID", "BehaviorID", "Index", "index")
_ROLES = ("system", "user", "assistant")
Row = dict[str, Any]


def read_prompts(path: Path, column: str | None = None) -> PromptSet:
    """The prompts of a file, in file order.

    Raises InvalidPrompts: no such file, a type that is not read, no rows, no prompt column, an empty prompt,
    an id twice.
    """
    rows = _read_rows(path)
    if not rows:
        raise InvalidPrompts(f"{path} holds no rows: a prompt set needs at least one.")
    column = _prompt_column(path, rows, column)
    conversations = [_conversation(path, number, row.get(column)) for number, row in enumerate(rows, start=1)]
    clusters = _column(rows, ("cluster",)) or cluster_texts([turns[-1].content for turns in conversations])
    ids = _column(rows, ID_COLUMNS) or [f"{path.stem}-{number}" for number in range(1, len(rows) + 1)]
    categories = _column(rows, CATEGORY_COLUMNS) or ["uncategorised"] * len(rows)
    prompts = tuple(
        Prompt(id=str(id_), messages=turns, category=str(category), cluster=str(cluster))
        for id_, turns, category, cluster in zip(ids, conversations, categories, clusters, strict=True)
    )
    _check_ids(path, prompts)
    return PromptSet(name=path.stem, prompts=prompts, source=f"local file {path.name}", licence="see its source")


def _read_rows(path: Path) -> list[Row]:
    if not path.is_file():
        raise InvalidPrompts(f"There is no prompt file {str(path)!r}.")
    readers = {".csv": _read_csv, ".json": _read_json, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidPrompts(f"{path} is of type {path.suffix!r}: prompts are read from {', '.join(readers)}.")
    try:
        return reader(path)
    except (ValueError, OSError, csv.Error) as error:
        raise InvalidPrompts(f"{path} cannot be read as {path.suffix}: {error}") from error


def _read_csv(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} has more or fewer cells than the header; quote cells that hold a comma")
    return rows


def _read_json(path: Path) -> list[Row]:
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(rows, list):
        raise ValueError(f"the top level is {type(rows).__name__}, and must be a list of rows")
    return [_as_row(row) for row in rows]


def _read_jsonl(path: Path) -> list[Row]:
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [_as_row(json.loads(line)) for line in lines if line.strip()]


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow.parquet

    rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def _as_row(row: object) -> Row:
    if isinstance(row, str):
        return {"prompt": row}
    if not isinstance(row, dict):
        raise ValueError(f"a row is {type(row).__name__}, and must be an object or a string")
    return row


def _prompt_column(path: Path, rows: list[Row], named: str | None) -> str:
    present = list(rows[0])
    if named is not None:
        if named not in present:
            raise InvalidPrompts(f"{path} has no column {named!r}. It has: {', '.join(present)}.")
        return named
    for candidate in PROMPT_COLUMNS:
        if candidate in present:
            return candidate
    raise InvalidPrompts(
        f"{path} has none of the columns {', '.join(PROMPT_COLUMNS)}. It has: {', '.join(present)}. "
        f"Name the column: {path}#COLUMN."
    )


def _conversation(path: Path, number: int, cell: object) -> tuple[Message, ...]:
    turns = cell if isinstance(cell, list) else [{"role": "user", "content": cell}]
    messages = []
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in _ROLES:
            raise InvalidPrompts(f"{path}, row {number}: a message needs a role, one of {', '.join(_ROLES)}.")
        content = turn.get("content")
        if not isinstance(content, str) or not content.strip():
            raise InvalidPrompts(f"{path}, row {number}: the prompt is empty.")
        messages.append(Message(cast(Role, turn["role"]), content))
    if not messages or messages[-1].role != "user":
        raise InvalidPrompts(f"{path}, row {number}: the last message must be the user's.")
    return tuple(messages)


def _column(rows: list[Row], names: tuple[str, ...]) -> list[Any] | None:
    for name in names:
        values = [row.get(name) for row in rows]
        if all(value not in (None, "") for value in values):
            return values
    return None


def _check_ids(path: Path, prompts: tuple[Prompt, ...]) -> None:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise InvalidPrompts(f"{path} has the id {prompt.id!r} twice: verdicts are kept by id.")
        seen.add(prompt.id)
