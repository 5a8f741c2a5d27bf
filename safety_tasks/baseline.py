"""Baseline: the stored measurements of an accepted release, as JSON that a reviewer can read.

It holds verdicts by prompt id, estimates, hashes and provenance, never a prompt's or an answer's text; secrets are
stripped where it is written. Where it is read, prompts, judge, rendered prompts and decoding must be those of the run
that is compared with it; dtype, device and versions may differ, with a sentence that says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safety_tasks.errors import InvalidInput
from safety_tasks.noise_floor import noise_floor_of
from safety_tasks.report.files import write_whole
from safety_tasks.report.redaction import plain
from safety_tasks.task_record import TaskRecord, record_from_dict, record_to_dict

SCHEMA = "llmsafety-baseline/1"
_FAMILY, _, _VERSION = SCHEMA.partition("/")
UPDATE = "--llm-update-baseline"
# Said otherwise (prompts and judge by their hashes), or without influence on what is decoded and judged.
_NOT_COMPARED = {"prompts", "benign_prompts", "n_prompts", "judge", "harm_judge", "journal", "workers"}
_NOT_COMPARED |= {"target", "second_target", "coefficients", "plane", "plane_points"}  # no record holds these shapes
_NOT_COMPARED |= {"judge_token_limit", "judge_prices"}
_NOT_COMPARED |= {"mode", "decide"}  # every record is of the full grid
_NOT_COMPARED |= {"scales", "asr_limit", "over_refusal_limit"}  # no margin is compared with one
_NOT_COMPARED |= {"capability_task", "capability_limit", "capability_share", "layer_groups", "system_prompts"}
_NOT_COMPARED |= {"prefill_words", "trigger", "attack_data"}  # nor what these are of
_DESCRIBED = re.compile(r"\d+ characters, sha256 [0-9a-f]{16}")  # as redaction writes a system prompt
_GRID = ("directions", "points", "radius", "tolerance", "seed")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where measurements come from."""

    date: str
    """As the caller writes it, such as ``2026-05-04``."""
    model: str
    weights_fingerprint: str | None
    dtype: str
    device: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {"versions": dict(self.versions)}


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """What was measured of one release, by task."""

    provenance: Provenance
    tasks: Mapping[str, TaskRecord]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without secrets; a system prompt as its length and hash."""
        return {
            "schema": SCHEMA,
            "provenance": plain(self.provenance.to_dict()),
            "tasks": {name: _without_secrets(record_to_dict(record)) for name, record in self.tasks.items()},
        }


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write the baseline: parents are made, and the file appears whole or stays as it was. Keys are sorted."""
    text = json.dumps(baseline.to_dict(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def read_baseline(path: Path) -> Baseline:
    """The baseline of a file.

    Raises InvalidInput for a file that is missing, is not JSON, has another or a newer schema, or whose parts do not
    fit each other, such as verdicts and their counts.
    """
    where = f"The baseline {str(path)!r}"
    again = f"Write it again with {UPDATE}."
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InvalidInput(f"{where} cannot be read ({error.strerror}). Write one with {UPDATE}.") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where} is not JSON ({type(error).__name__}). {again}") from None
    _check_schema(where, found.get("schema") if isinstance(found, dict) else None)
    try:
        return baseline_from_dict(found)
    except KeyError as error:
        raise InvalidInput(f"{where} lacks {error.args[0]!r}. {again}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidInput(f"{where} does not fit together: {error}. {again}") from None


def baseline_from_dict(values: Mapping[str, Any]) -> Baseline:
    """The baseline of its plain values; raises KeyError, AttributeError, TypeError or ValueError."""
    tasks = {name: record_from_dict(name, record) for name, record in values["tasks"].items()}
    return Baseline(Provenance(**values["provenance"]), tasks)


def _check_schema(where: str, schema: object) -> None:
    if schema == SCHEMA:
        return
    family, _, version = str(schema).partition("/")
    if family == _FAMILY and version.isdigit() and int(version) > int(_VERSION):
        raise InvalidInput(
            f"{where} has the newer schema {schema!r}, this version reads {SCHEMA!r}: update the package."
        )
    raise InvalidInput(
        f"{where} has the schema {schema!r}, not {SCHEMA!r}: it is another file, or an old one. Write it with {UPDATE}."
    )


def check_comparable(baseline: Baseline, now: Baseline) -> list[str]:
    """Sentences on what differs harmlessly between a baseline and the current run's measurements.

    Raises InvalidInput naming every task that the baseline lacks and every difference in prompts, judge, rendered
    prompts, decoding or grid, after which verdicts cannot be compared.
    """
    differ = [sentence for name, record in now.tasks.items() for sentence in _mismatches(name, record, baseline)]
    if differ:
        raise InvalidInput(
            f"The baseline ({baseline.provenance.model}, {baseline.provenance.date}) cannot be compared with this run. "
            f"{'. '.join(differ)}. Run with the baseline's settings, or write it again with {UPDATE}."
        )
    then, here = plain(baseline.provenance.to_dict()), plain(now.provenance.to_dict())
    pairs = [(name, then[name], here[name]) for name in ("dtype", "device")]
    names = sorted({*then["versions"], *here["versions"]})
    pairs += [(name, then["versions"].get(name), here["versions"].get(name)) for name in names]
    differing = [
        f"{name} was {before or 'not recorded'} in the baseline and is {after or 'not recorded'}: verdicts near a "
        "judge's threshold may flip without any change of the weights."
        for name, before, after in pairs
        if before != after
    ]
    return [*differing[:-1], f"{differing[-1]} {_noise(baseline, now)}"] if differing else []


def _noise(baseline: Baseline, now: Baseline) -> str:
    """The noise floors that both sides measured of the tasks that are compared, or how to measure one."""
    told, is_known = [], True
    for whose, side in (("The baseline's", baseline), ("this run's", now)):
        known = {name: noise_floor_of(side.tasks[name]) for name in now.tasks}
        counts = [f"{name} {floor.counts} over {floor.repeats} repeats" for name, floor in known.items() if floor]
        told.append(f"{whose} noise floor: {', '.join(counts) or 'not measured'}")
        is_known = is_known and bool(counts)
    advice = "" if is_known else " --llm-repeats 3 measures it, and gates include it."
    return f"{'; '.join(told)}.{advice}"


def _mismatches(name: str, now: TaskRecord, baseline: Baseline) -> Iterator[str]:
    then = baseline.tasks.get(name)
    if then is None:
        yield f"{name}: not in the baseline"
        return
    for what, before, after in (
        ("prompts (sha256)", then.prompts_sha256, now.prompts_sha256),
        ("prompt ids", sorted(then.prompt_ids), sorted(now.prompt_ids)),
        ("rendered prompts (sha256)", then.rendered_sha256, now.rendered_sha256),
        ("judge", then.judge, now.judge),
        ("judge's identity", then.judge_identity, now.judge_identity),
        ("token budget", then.facts.get("token_budget"), now.facts.get("token_budget")),
    ):
        if before != after:
            yield f"{name}: {what} {_shown(before)} then, {_shown(after)} now"
    before, after = _flat(_plain_settings(then.settings)), _flat(_plain_settings(now.settings))
    skipped = _NOT_COMPARED | (set() if then.curve or now.curve else set(_GRID))
    for key in sorted({*before, *after} - skipped):
        if before.get(key) != after.get(key):
            yield f"{name}: {key} {_shown(before.get(key))} then, {_shown(after.get(key))} now"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables within tables as names with dots."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"{len(value)} of them"
    text = "not set" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are written: a system prompt that was read from a baseline is its description already."""
    found: dict[str, Any] = plain(settings)
    prompt = settings.get("system_prompt")
    return {**found, "system_prompt": prompt} if isinstance(prompt, str) and _DESCRIBED.fullmatch(prompt) else found


def _without_secrets(record: dict[str, Any]) -> dict[str, Any]:
    """Settings, facts and names stripped; ids are left as they are, or two of them could become one."""
    names = {key: {**record[key], "name": plain(record[key]["name"])} for key in ("prompts", "judge")}
    return {**record, **names, "settings": _plain_settings(record["settings"]), "facts": plain(record["facts"])}
