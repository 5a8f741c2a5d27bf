"""Several models, or the checkpoints of one run, on one page: a table of their numbers and their curves together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safety_tasks.errors import InvalidInput
from safety_tasks.estimates import figure
from safety_tasks.landscape import Landscape
from safety_tasks.metrics import METRICS, metrics_of
from safety_tasks.plots import compared_curves
from safety_tasks.plots.trajectory import trajectory_chart
from safety_tasks.records import Report
from safety_tasks.report import wording
from safety_tasks.report.layout import render_page
from safety_tasks.report.redaction import plain, without_secrets
from safety_tasks.report.sources import own_setting

LANDSCAPE = "visage_landscape"
_CHECKPOINT = re.compile(r"(?:^|[/\\_.-])((?:ckpt|checkpoint|step)[-_]?(\d+))(?=$|[/\\_.-])", re.IGNORECASE)
_GRID = ("directions", "points", "radius", "tolerance", "seed")
_JUDGE_OF = "judge of "  # of a metric that only one of the two may have
_OF_JUDGES = ("judge", "harm_judge", "judge_token_limit", "judge_prices")
_FREE = ("journal", "n_prompts", "prompts", "benign_prompts", *_OF_JUDGES)
"""Settings in which reports may differ: their prompts are compared by hash, their judges metric by metric."""
_MARGIN, _OF_A_MARGIN = "visage_margin", ("scales", "asr_limit", "over_refusal_limit")


class Compared(NamedTuple):
    """A model under the name that tells it from the others."""

    name: str
    report: Report
    step: int | None
    """Of a checkpoint; None for other models."""


def compared(found: Sequence[tuple[Path, Report]]) -> list[Compared]:
    """The models in their order, checkpoints after the others and by their numbers.

    Raises InvalidInput where a number of two was not measured alike.
    """
    names = _names(found)
    models = [Compared(name, report, _step(path, report)) for name, (path, report) in zip(names, found, strict=True)]
    models.sort(key=lambda model: -1 if model.step is None else model.step)
    for model in models[1:]:
        check_alike(models[0], model)
    for model in models[2:]:
        check_alike(models[1], model)  # what the first lacks
    return models


def check_alike(one: Compared, other: Compared) -> None:
    """Raise InvalidInput for a task that both measured, but with other prompts, judges or settings."""
    ours, theirs = traits(one.report), traits(other.report)
    for task in ours.keys() & theirs.keys():
        for name in dict.fromkeys((*ours[task], *theirs[task])):
            mine, yours = ours[task].get(name), theirs[task].get(name)
            if mine != yours and not (name.startswith(_JUDGE_OF) and None in (mine, yours)):
                raise InvalidInput(
                    f"{task} was measured with another {name} for {one.name} ({mine}) than for {other.name} ({yours}), "
                    "so that their numbers do not compare. Measure both alike, or make a page of each."
                )


def traits(report: Report) -> dict[str, dict[str, Any]]:
    """By task, all that two reports must share before their numbers stand side by side; plain values."""
    facts = report.facts
    judges = {found.name: found.judge for found in report.estimates if found.judge}
    known = facts.get("judges", {})
    found = {}
    for task, prompts in facts.get("prompt_sets", {}).items():
        if task == LANDSCAPE and report.landscape is None:
            continue
        free = (*_FREE, *_GRID, *(() if task == _MARGIN else _OF_A_MARGIN))
        names = [name for name in report.settings if name not in free]
        own = {name: own_setting(report.settings, name, task) for name in names}
        if task == LANDSCAPE and report.landscape is not None:
            own |= {name: getattr(report.landscape.settings, name) for name in _GRID}
        own["prompt set"] = f"{prompts.get('name')}, sha256 {str(prompts.get('sha256'))[:8]}"
        for metric in metrics_of(task):
            judge = judges.get(metric) if METRICS[metric].tasks == (task,) else None
            if judge:
                own[_JUDGE_OF + metric] = f"{judge} {known.get(judge, {}).get('identity', '')}".strip()
        found[task] = plain(own)
    return found


def render_comparison(models: Sequence[Compared]) -> str:
    """The page as text; it holds no prompt and no completion."""
    landscapes = [(model.name, model.report.landscape) for model in models if model.report.landscape is not None]
    steps = [model for model in models if model.step is not None]
    metrics = _metrics(models)
    charts = {}
    if landscapes:
        charts["curves-chart"] = plain(compared_curves(landscapes).to_dict(validate=False))
    if len(steps) > 1:
        rows = [
            (model.name, model.step or 0, {found.name: found for found in model.report.estimates}) for model in steps
        ]
        charts["trajectory-chart"] = plain(trajectory_chart(rows, metrics).to_dict(validate=False))
    return render_page(
        "comparison.html.j2",
        title=f"LLM safety of {len(models)} models",
        charts=charts,
        models=[_model_row(model) for model in models],
        rows=[_metric_row(metric, models) for metric in metrics],
        symbols=wording.SYMBOLS,
        caption=_caption([landscape for _, landscape in landscapes]),
        note=wording.VISAGE_NOTE if "visage" in metrics else "",
        random_directions=wording.RANDOM_DIRECTIONS,
    )


def table_of(models: Sequence[Compared]) -> list[list[str]]:
    """The comparison as rows of text, a heading first: for terminals."""
    rows = [_metric_row(metric, models) for metric in _metrics(models)]
    cells = [[row["name"], *(_cell(found) for found in row["estimates"])] for row in rows]
    return [["", *(model.name for model in models)], *cells]


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not measured"
    high = "inf)" if found["high"] is None else f"{figure(found, 'high')}]"
    return f"{'>= ' if found['censored'] else ''}{figure(found, 'value')} [{figure(found, 'low')}, {high}"


def _metrics(models: Sequence[Compared]) -> list[str]:
    """Those that somebody measured, in printed order, then those that are of no task of ours."""
    measured = dict.fromkeys(found.name for model in models for found in model.report.estimates)
    return [*(name for name in METRICS if name in measured), *(name for name in measured if name not in METRICS)]


def _metric_row(metric: str, models: Sequence[Compared]) -> dict[str, Any]:
    found = [next((e for e in model.report.estimates if e.name == metric), None) for model in models]
    first = next(estimate for estimate in found if estimate is not None)
    known = METRICS.get(metric)
    behind = sorted({estimate.n for estimate in found if estimate is not None})
    judge = f", judge {without_secrets(first.judge)}" if first.judge else ""
    better = [] if known is None else ["higher is better" if known.higher_is_better else "lower is better"]
    return {
        "name": without_secrets(metric),
        "about": [*better, f"n = {' or '.join(map(str, behind))}{judge}"],
        "estimates": [None if estimate is None else plain(estimate.to_dict()) for estimate in found],
    }


def _model_row(model: Compared) -> dict[str, Any]:
    facts = plain(model.report.facts)
    return {
        "name": model.name,
        "model": without_secrets(model.report.model),
        "decision": model.report.decision if model.report.gates else "",
        "fingerprint": facts.get("weights_fingerprint") or "not known",
        "dtype": facts.get("dtype", "not known"),
        "device": facts.get("device", "not known"),
        "versions": ", ".join(f"{name} {facts[name]}" for name in ("torch", "transformers") if name in facts),
        "missed": [f"{judge}: {', '.join(ids)}" for judge, ids in facts.get("missed_controls", {}).items() if ids],
    }


def _caption(landscapes: Sequence[Landscape]) -> str:
    if not landscapes:
        return "No landscape was measured."
    first = landscapes[0].settings
    return (
        f"Mean safety over {first.directions} random directions (seed {first.seed}) at {first.points} points of "
        f"|alpha| <= {first.radius:g}, {landscapes[0].n_prompts} prompts, judge {first.judge}; bands: means of the "
        "directions' exact 95% bounds at each point, given these directions."
    )


def _names(found: Sequence[tuple[Path, Report]]) -> list[str]:
    """A checkpoint's own name, or the model's; with its folder, or its file, where two have the same."""
    short = [_short(without_secrets(report.model), path) for path, report in found]
    if len(set(short)) < len(short):
        short = [
            name if short.count(name) == 1 else f"{name} ({path})" for name, (path, _) in zip(short, found, strict=True)
        ]
    return [name if short.count(name) == 1 else f"{name} #{at}" for at, name in enumerate(short, start=1)]


def _short(model: str, path: Path) -> str:
    match = _CHECKPOINT.search(model) or _CHECKPOINT.search(str(path.parent))
    if match:
        return match.group(1)
    is_path = model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model
    return Path(model).name if is_path else model or path.stem


def _step(path: Path, report: Report) -> int | None:
    match = _CHECKPOINT.search(report.model) or _CHECKPOINT.search(str(path.parent))
    return int(match.group(2)) if match else None
