"""How a run was measured, in plain words: its facts grouped and named, and its settings with what they mean."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from safety_tasks.budget import duration
from safety_tasks.settings import Settings

Rows = list[tuple[str, str]]
IDENTITY = {
    "model": "Model",
    "backend": "lm_eval's model type",
    "server": "Server",
    "answered_as": "Answered under the name",
    "adapter": "Adapter",
    "adapters": "Adapters",
    "revision": "Revision",
    "dtype": "Data type",
    "quantisation": "Quantisation",
    "weights_fingerprint": "Fingerprint of the weights",
    "base_model": "Base model",
    "base_weights_fingerprint": "Fingerprint of the base",
    "baseline": "Baseline",
}
"""What is known of the model under test, and of what it is compared with, by the fact's name."""
GROUPS: dict[str, dict[str, str]] = {
    "Model": {**IDENTITY, "architecture": "Architecture", "parameters": "Parameters"},
    "Cost": {
        "started": "Started",
        "wall_time": "Wall time",
        "time_limit": "Time limit",
        "answers_generated": "Answers generated",
        "tokens_generated": "Tokens in the answers",
        "answers_ended_early": "Answers ended early, at the first sign of a refusal",
        "tokens_saved_at_most": "Tokens that this saved, at most",
        "points_measured": "Points measured",
        "points_read_back": "Points read back from the journal",
        "read_from_journal": "Batches read back from the journal",
        "journal_file": "Journal",
        "batch_size": "Batch size",
        "batch_size_after_halving": "Batch size that fitted memory",
    },
    "Machine and software": {
        "device": "Device",
        "gpu": "GPU",
        "processor": "Processor",
        "noise": "Noise generator of the directions",
        "noise_roads": "Noise computed by",
        "gpu_memory_peak": "Most memory held of a GPU",
        "pristine_copy": "Copy of the weights kept on",
        "versions": "Versions",
        "torch": "torch",
        "transformers": "transformers",
        "lm_eval": "lm_eval",
        "pads": "Prompts are padded",
        "shares_prefix": "Common openings are computed once",
    },
    "Answers": {
        "decoding": "Decoding",
        "token_budgets": "Token limit",
        "coherence_cuts": "Cut of coherence (mean negative log-likelihood)",
        "rendered_sha256": "Hash of the prompts as the model read them",
        "answers_with_logits_not_finite": "Answers with logits that are not finite",
        "missed_controls": "Controls that a judge misread",
    },
}
_TABLES = ("judges", "prompt_sets", "compared")  # shown in tables of their own
_HELP = {field.name: field.metadata["help"] for field in dataclasses.fields(Settings)}


class SetRow(NamedTuple):
    """One prompt set of one task."""

    task: str
    name: str
    prompts: str
    effective_n: str
    """Near-duplicates count as one; empty where it is not known."""
    sha256: str
    source: str
    licence: str


def identity(facts: Mapping[str, Any], model: str) -> Rows:
    """Path, adapter, revision, dtype and fingerprint, as far as they are known; the model first."""
    known = {"model": model, **{name: facts[name] for name in IDENTITY if facts.get(name) not in (None, "", [])}}
    return [(IDENTITY[name], words(known[name])) for name in IDENTITY if name in known]


def grouped(facts: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    """The facts under plain headings; those without a plain name under the last one, by their own."""
    facts = _with_times(facts)
    named = [(heading, list(_named(facts, names))) for heading, names in GROUPS.items()]
    known = {name for names in GROUPS.values() for name in names}
    rest = {name: value for name, value in facts.items() if name not in known and name not in _TABLES}
    return [(heading, rows) for heading, rows in (*named, ("Further facts", list(flat(rest)))) if rows]


def prompt_sets(facts: Mapping[str, Any]) -> list[SetRow]:
    """The prompt set of every task, with hash, source and licence where they are known."""
    found = facts.get("prompt_sets")
    if not isinstance(found, Mapping):
        return []
    return [
        SetRow(
            str(task),
            *(words(known[key]) if known.get(key) is not None else "" for key in SetRow._fields[1:]),
        )
        for task, known in found.items()
        if isinstance(known, Mapping)
    ]


def settings_rows(settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and meaning of every setting."""
    return [(name, value, _HELP.get(name, "")) for name, value in flat(settings)]


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and texts of a table, nested names joined by dots."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, words(value)


def words(value: Any) -> str:
    """A plain value as a reader meets it."""
    if value is None or value == "":
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(words(item) for item in value) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _with_times(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with one wall time: the session's where there was one, which holds all of its measurements."""
    known = dict(facts)
    seconds, session = known.pop("wall_seconds", None), known.pop("time", None)
    if isinstance(session, Mapping):
        names = {"started": "started", "measuring": "wall_time", "limit": "time_limit"}
        known |= {name: session[own] for own, name in names.items() if session.get(own)}
        known["answers_generated"] = session.get("answers_generated")
    elif isinstance(seconds, float | int):
        known["wall_time"] = duration(seconds)
    return known


def _named(facts: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, plain_name in names.items():
        if name in facts and facts[name] not in (None, {}, []):
            yield plain_name, words(facts[name])
