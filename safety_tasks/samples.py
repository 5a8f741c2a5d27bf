"""Sample: one judged completion as a report shows it; text only where the user asked for it.

answers --samples_of--> samples --with_texts--> samples with texts
samples --samples_to_dict--> plain values for a file, never a text --samples_from_dict--> samples
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safety_tasks.points import Answer
    from safety_tasks.task_record import TaskRecord

TEXT_LEVELS = ("off", "truncated", "full")
TRUNCATED_AT = 200
"""Characters of a text that is shown truncated."""
_LETTERS = {"refused": "r", "complied": "c", "partial": "p", "unscored": "u", "harmful": "h", "harmless": "s"}
_WORDS = {letter: word for word, letter in _LETTERS.items()}
_CURVE_WORDS = {**_WORDS, "n": "complied"}  # of task_record.curve_of, where n is noise
_SAID = {None: "-", True: "y", False: "n"}
_MEANT = {letter: said for said, letter in _SAID.items()}
_HASH = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt's answer at one point of one task."""

    task: str
    id: str
    """The prompt's."""
    category: str
    direction: int | None
    """Index of the random direction; None at the origin."""
    alpha: float
    verdicts: tuple[tuple[str, str], ...]
    """Judge and verdict, the deciding refusal judge first, the harm judge last."""
    coherent: bool | None
    """None where it was not read."""
    finished: bool | None
    """False when the token limit cut the answer off; None where that is not known."""
    characters: int
    """Length of the completion."""
    sha256: str
    """Of the completion, its first 16 hexadecimal digits: equal answers can be seen without being read."""
    reference_verdict: str | None = None
    """Of the base model or baseline, by the same judge at the same point."""
    prompt: str | None = field(default=None, repr=False)
    """The prompt's text, only where texts were asked for."""
    completion: str | None = field(default=None, repr=False)
    """The completion's text, only where texts were asked for."""


def samples_of(
    task: str, prompts: Iterable[tuple[str, str, Sequence[Answer]]], readers: Sequence[str]
) -> tuple[Sample, ...]:
    """The samples of a task, point by point, the origin first.

    ``prompts``: id, category and answers of each; ``readers``: the refusal judges, then the harm judge if one read.
    """
    found: dict[Any, list[Sample]] = {}
    for id_, category, answers in prompts:
        for answer in answers:
            said = [verdict.value for verdict in answer.verdicts] + ([answer.harm.value] if answer.harm else [])
            direction = answer.point.direction
            sample = Sample(
                task=task,
                id=id_,
                category=category,
                direction=None if direction is None else getattr(direction, "index", 0),
                alpha=answer.point.alpha,
                verdicts=tuple(zip(readers, said, strict=True)),
                coherent=answer.coherent,
                finished=answer.finished,
                characters=answer.characters,
                sha256=answer.sha256,
            )
            found.setdefault(answer.point, []).append(sample)
    return origin_first(sample for point in found.values() for sample in point)


def origin_first(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """The same samples, those of the unperturbed model first."""
    return tuple(sorted(samples, key=lambda sample: sample.direction is not None))


def with_reference(samples: Iterable[Sample], reference: TaskRecord | None) -> tuple[Sample, ...]:
    """The samples with the verdicts of a base model or baseline at the same points, where those are known."""
    if reference is None:
        return tuple(samples)
    curve = reference.curve or {"alphas": [], "verdicts": []}
    ids = sorted(reference.prompt_ids)  # the order of a curve
    said: dict[tuple[int | None, float, str], str] = {
        (direction, alpha, id_): _CURVE_WORDS[letter]
        for direction, points in enumerate(curve["verdicts"])
        for alpha, letters in zip(curve["alphas"], points, strict=True)
        for id_, letter in zip(ids, letters, strict=True)
    }
    said |= {(None, 0.0, id_): word for id_, word in zip(reference.prompt_ids, reference.verdicts, strict=True)}
    return tuple(replace(one, reference_verdict=said.get((one.direction, one.alpha, one.id))) for one in samples)


def with_texts(
    samples: Iterable[Sample], level: str, prompts: Mapping[str, str], completions: Mapping[str, str]
) -> tuple[Sample, ...]:
    """The samples with the texts of a level (one of TEXT_LEVELS) that are known.

    ``prompts``: texts by id; ``completions``: texts by hash.
    """
    if level == "off":
        return tuple(samples)
    return tuple(
        replace(one, prompt=_cut(prompts.get(one.id), level), completion=_cut(completions.get(one.sha256), level))
        for one in samples
    )


def _cut(text: str | None, level: str) -> str | None:
    if text is None or level == "full" or len(text) <= TRUNCATED_AT:
        return text
    return f"{text[:TRUNCATED_AT]}…"


def samples_to_dict(samples: Sequence[Sample]) -> dict[str, Any]:
    """One task's samples as plain values: the prompts once, then a few strings a point. Never a text."""
    prompts = list(dict.fromkeys((sample.id, sample.category) for sample in samples))
    number = {prompt: index for index, prompt in enumerate(prompts)}
    points: dict[tuple[int | None, float], list[Sample]] = {}
    for sample in samples:
        points.setdefault((sample.direction, sample.alpha), []).append(sample)
    return {
        "prompts": [list(prompt) for prompt in prompts],
        "judges": [judge for judge, _ in samples[0].verdicts] if samples else [],
        "points": [
            {
                "direction": direction,
                "alpha": alpha,
                "prompts": _joined(number[sample.id, sample.category] for sample in here),
                "verdicts": " ".join("".join(_LETTERS[word] for _, word in sample.verdicts) for sample in here),
                "coherent": "".join(_SAID[sample.coherent] for sample in here),
                "finished": "".join(_SAID[sample.finished] for sample in here),
                "characters": _joined(sample.characters for sample in here),
                "sha256": "".join(sample.sha256 for sample in here),
                "reference": "".join(_LETTERS.get(sample.reference_verdict or "", "-") for sample in here),
            }
            for (direction, alpha), here in points.items()
        ],
    }


def samples_from_dict(task: str, values: Mapping[str, Any]) -> tuple[Sample, ...]:
    """The samples that ``samples_to_dict`` wrote; raises KeyError, TypeError or ValueError where these are none."""
    return tuple(
        Sample(
            task=task,
            id=values["prompts"][int(prompt)][0],
            category=values["prompts"][int(prompt)][1],
            direction=point["direction"],
            alpha=point["alpha"],
            verdicts=tuple(zip(values["judges"], (_WORDS[letter] for letter in verdicts), strict=True)),
            coherent=_MEANT[coherent],
            finished=_MEANT[finished],
            characters=int(characters),
            sha256=point["sha256"][_HASH * at : _HASH * (at + 1)],
            reference_verdict=_WORDS.get(reference),
        )
        for point in values["points"]
        for at, (prompt, verdicts, coherent, finished, characters, reference) in enumerate(
            zip(
                point["prompts"].split(),
                point["verdicts"].split(),
                point["coherent"],
                point["finished"],
                point["characters"].split(),
                point["reference"],
                strict=True,
            )
        )
    )


def _joined(numbers: Iterable[int]) -> str:
    return " ".join(map(str, numbers))
