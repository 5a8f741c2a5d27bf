"""TaskRecord: what one task measured, without a word of any prompt or answer; what a baseline keeps of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from safety_tasks.errors import InvalidInput
from safety_tasks.estimates import Estimate
from safety_tasks.judges.verdict import Verdict
from safety_tasks.landscape import Landscape
from safety_tasks.landscape_values import arrays_of, letters_of
from safety_tasks.paired import PairedEstimate, paired_difference
from safety_tasks.settings import Settings

_EVENTS: dict[str, tuple[str, Callable[[Verdict], bool] | None]] = {
    "attack_success_rate": ("answered", lambda verdict: verdict.helps),
    "asr_at_origin": ("answered", lambda verdict: verdict.helps),
    "over_refusal_rate": ("refused", lambda verdict: verdict.withholds),
    "unscored_rate": ("unscored", None),
}
PAIRED_METRICS = tuple(_EVENTS)
"""Metrics that per-prompt verdicts give, and that can therefore be compared prompt by prompt."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskRecord:
    """One task's measurements by prompt. Raises ValueError where its columns do not fit."""

    task: str
    prompts_name: str
    prompts_sha256: str
    rendered_sha256: str
    """Hash of the prompts as the chat template rendered them, in order."""
    settings: Mapping[str, Any]
    """``Settings.to_dict()``, and whatever else decides what is decoded."""
    judge: str
    judge_identity: str
    prompt_ids: tuple[str, ...]
    clusters: tuple[str, ...]
    verdicts: tuple[str, ...]
    """At the origin, as the deciding judge reads it, of several samples the one most against it; values of Verdict."""
    estimates: tuple[Estimate, ...]
    curve: Mapping[str, Any] | None = None
    """``curve_of`` a landscape; None for tasks at the origin only."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further plain facts, such as the token budget."""
    repeats: tuple[TaskRecord, ...] = ()
    """The same prompts asked again of the same weights (``--llm-repeats``)."""

    def __post_init__(self) -> None:
        """Check the columns."""
        if not len(self.prompt_ids) == len(self.clusters) == len(self.verdicts):
            raise ValueError(f"{self.task}: ids, clusters and verdicts are not of one length")
        if len(set(self.prompt_ids)) != len(self.prompt_ids):
            raise ValueError(f"{self.task}: prompt ids occur twice")
        for verdict in self.verdicts:
            Verdict(verdict)

    @property
    def every(self) -> tuple[TaskRecord, ...]:
        """The measurement and its repeats."""
        return (replace(self, repeats=()), *self.repeats)

    @property
    def counts(self) -> dict[str, int]:
        """How many prompts got each verdict."""
        found = Counter(self.verdicts)
        return {verdict.value: found[verdict.value] for verdict in Verdict}


def paired_with(metric: str, now: TaskRecord, then: TaskRecord) -> PairedEstimate:
    """``metric - base`` of two records of the same prompts, prompt by prompt.

    Raises InvalidInput for a metric that per-prompt verdicts do not give, and for other prompts.
    """
    if metric not in _EVENTS:
        known = ", ".join(PAIRED_METRICS)
        raise InvalidInput(f"{metric} cannot be compared prompt by prompt: only {known} can.")
    before = dict(zip(then.prompt_ids, then.verdicts, strict=True))
    if set(before) != set(now.prompt_ids):
        raise InvalidInput(f"{now.task}: the two records are not of the same prompts, so they cannot be paired.")
    event, _ = _EVENTS[metric]
    paired = paired_difference(
        metric,
        [_says(metric, verdict) for verdict in now.verdicts],
        [_says(metric, before[id_]) for id_ in now.prompt_ids],
        now.clusters,
        now.prompt_ids,
        event=event,
        judge=now.judge,
    )
    target = paired.estimate.target.replace("greedy decoding", _settings_of(now).decoding)
    return replace(paired, estimate=replace(paired.estimate, target=target))


def _settings_of(record: TaskRecord) -> Settings:
    """The settings that it holds; of several judges, the one whose verdicts these are."""
    known = set(Settings.__dataclass_fields__)
    given = {name: value for name, value in record.settings.items() if name in known}
    return Settings.parse({**given, "judge": record.judge})


def _says(metric: str, word: str) -> bool | None:
    verdict, counts = Verdict(word), _EVENTS[metric][1]
    if counts is None:
        return verdict is Verdict.UNSCORED
    return None if verdict is Verdict.UNSCORED else counts(verdict)


def curve_of(landscape: Landscape) -> dict[str, Any]:
    """Every verdict of a landscape, as ``letters_of`` writes them, its prompts in sorted order of their ids."""
    order = np.argsort(np.array(landscape.prompt_ids, dtype=object).astype(str), kind="stable")
    return {"alphas": list(landscape.alphas), "verdicts": letters_of(landscape, [int(at) for at in order])}


def landscape_of(record: TaskRecord) -> Landscape:
    """The landscape of a record with a curve, its prompts in sorted order of their ids.

    Raises InvalidInput where the record has none, or one that does not fit its prompts.
    """
    if record.curve is None:
        raise InvalidInput(f"{record.task}: no landscape was recorded, so there is none to compare with.")
    rows = sorted(zip(record.prompt_ids, record.clusters, strict=True))
    settings = _settings_of(record)
    try:
        verdicts, coherent = arrays_of(record.curve["verdicts"])
        alphas = tuple(float(alpha) for alpha in record.curve["alphas"])
    except (KeyError, TypeError, ValueError):
        verdicts, coherent, alphas = np.empty(0, dtype=np.int8), np.empty(0, dtype=np.bool_), ()
    if verdicts.shape != (settings.directions, len(alphas), len(rows)) or 0.0 not in alphas:
        raise InvalidInput(f"{record.task}: the recorded curve does not fit its grid and prompts: record it again.")
    ids, clusters = (tuple(column) for column in zip(*rows, strict=True))
    return Landscape(alphas, verdicts, coherent, ids, clusters, settings)


def record_to_dict(record: TaskRecord) -> dict[str, Any]:
    """Plain values for JSON; clusters of one prompt are left out."""
    size = Counter(record.clusters)
    rows = list(zip(record.prompt_ids, record.clusters, record.verdicts, strict=True))
    return {
        "prompts": {
            "name": record.prompts_name,
            "sha256": record.prompts_sha256,
            "rendered_sha256": record.rendered_sha256,
            "clusters": {id_: cluster for id_, cluster, _ in rows if size[cluster] > 1},
        },
        "judge": {"name": record.judge, "identity": record.judge_identity},
        "settings": dict(record.settings),
        "facts": dict(record.facts),
        "counts": record.counts,
        "verdicts": {id_: verdict for id_, _, verdict in rows},
        "estimates": {estimate.name: estimate.to_dict() for estimate in record.estimates},
        "curve": None if record.curve is None else dict(record.curve),
        **({"repeats": [_repeat_to_dict(record, again) for again in record.repeats]} if record.repeats else {}),
    }


def _repeat_to_dict(record: TaskRecord, again: TaskRecord) -> dict[str, Any]:
    """What a repeat varied, and the verdicts in which it differs."""
    before = dict(zip(record.prompt_ids, record.verdicts, strict=True))
    said = dict(zip(again.prompt_ids, again.verdicts, strict=True))
    return {
        "facts": dict(again.facts),
        "verdicts": {id_: verdict for id_, verdict in said.items() if verdict != before[id_]},
        "curve": None if again.curve is None else dict(again.curve),
    }


def _repeat_from_dict(record: TaskRecord, found: Mapping[str, Any]) -> TaskRecord:
    said = {**dict(zip(record.prompt_ids, record.verdicts, strict=True)), **found["verdicts"]}
    verdicts = tuple(said.pop(id_) for id_ in record.prompt_ids)
    if said:
        raise ValueError(f"a repeat has verdicts on prompts that are none of its own: {', '.join(sorted(said))}")
    return replace(record, verdicts=verdicts, curve=found["curve"], facts=dict(found["facts"]), estimates=())


def record_from_dict(task: str, found: Mapping[str, Any]) -> TaskRecord:
    """The record that these values hold, its prompts in sorted order of their ids.

    Raises KeyError, TypeError or ValueError where they hold none, and ValueError where counts and verdicts disagree.
    """
    prompts, verdicts = found["prompts"], dict(found["verdicts"])
    ids = sorted(verdicts)
    alone = set(ids) - set(prompts["clusters"])
    taken = set(prompts["clusters"].values())
    record = TaskRecord(
        task=task,
        prompts_name=prompts["name"],
        prompts_sha256=prompts["sha256"],
        rendered_sha256=prompts["rendered_sha256"],
        settings=dict(found["settings"]),
        judge=found["judge"]["name"],
        judge_identity=found["judge"]["identity"],
        prompt_ids=tuple(ids),
        clusters=tuple(_free(id_, taken) if id_ in alone else prompts["clusters"][id_] for id_ in ids),
        verdicts=tuple(verdicts[id_] for id_ in ids),
        estimates=tuple(Estimate.from_dict(values) for _, values in sorted(found["estimates"].items())),
        curve=found["curve"],
        facts=dict(found["facts"]),
    )
    if record.counts != found["counts"]:
        raise ValueError(f"its verdicts count {record.counts}, but it says {found['counts']}")
    return replace(record, repeats=tuple(_repeat_from_dict(record, again) for again in found.get("repeats", ())))


def _free(id_: str, taken: set[str]) -> str:
    """A cluster of its own for a prompt; no other prompt's cluster has that name."""
    name = f"alone: {id_}"
    while name in taken:
        name += "'"
    return name
