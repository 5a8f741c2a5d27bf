"""What the visits say: ratios by the kind of point and over the grid, verdicts that differ, tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from point_times import Visit

KINDS = ("inside", "edge", "outside")
ROADS = {
    "reference": "reference, fp32, batch 4",
    "hflm": "lm_eval HFLM, fp32, batch {hflm_batch}",
    "ours_fp32": "ours, fp32",
    "ours_bf16": "ours, bf16",
}
FULL = "ours_full_fp32"
AGAIN = " again"
"""Marks the visits beside ours without stop strings, which were taken after the grid."""
TOLERANCE = 0.10  # the landscape's default: inside the basin the ASR is at most this
NOISE = 0.80  # outside it is at least this: a fifth of the noise happens to hold a keyword


def kind_of(asr: float) -> str:
    """Inside the basin, at its edge, or outside."""
    return "inside" if asr <= TOLERANCE else "edge" if asr < NOISE else "outside"


def kinds(visits: Sequence[Visit]) -> dict[tuple[int, float], str]:
    """The kind of every point, by the reference's ASR."""
    return {visit.place: kind_of(visit.asr) for visit in visits if visit.road == "reference"}


def examples(visits: Sequence[Visit], direction: int) -> dict[str, float]:
    """One alpha of each kind along a direction: the middle one of those on the positive side, else of all."""
    of_kinds = kinds(visits)
    found = {}
    for kind in KINDS:
        alphas = sorted(a for (d, a), k in of_kinds.items() if k == kind and d == direction)
        alphas = [alpha for alpha in alphas if alpha > 0] or alphas
        if alphas:
            found[kind] = alphas[len(alphas) // 2]
    return found


def summarise(visits: Sequence[Visit], entering: Mapping[str, float]) -> dict[str, Any]:
    """Every number that is printed. ``entering``: seconds that our roads took once, to copy, prove and restore.

    A road that did not visit every point is set against the others on the points that it did visit.
    """
    of_kinds = kinds(visits)
    times = {road: {visit.place: visit.seconds for visit in visits if visit.road == road} for road in ROADS}
    found: dict[str, Any] = {
        "points": {kind: list(of_kinds.values()).count(kind) for kind in KINDS},
        "visits": {road: len(times[road]) for road in ROADS},
        "mean_seconds": {road: _by_kind(times[road], of_kinds) for road in ROADS},
        "grid_seconds": {road: sum(times[road].values()) + entering.get(road, 0.0) for road in ROADS},
        "entering_s": dict(entering),
    }
    for dtype in ("fp32", "bf16"):
        ours = times[f"ours_{dtype}"]
        for base, name in (("reference", "speedup"), ("hflm", "speedup_hflm")):
            once = entering.get(f"ours_{dtype}", 0.0)
            both = [place for place in ours if place in times[base]]
            found[f"{name}_{dtype}"] = _total(times[base], both) / (_total(ours, both) + once)
            for kind in KINDS:
                places = [place for place in both if of_kinds[place] == kind]
                if places:
                    found[f"{name}_{kind}_{dtype}"] = _total(times[base], places) / _total(ours, places)
    for kind in KINDS:
        places = [place for place in times["hflm"] if of_kinds[place] == kind]
        if places:
            found[f"hflm_speedup_{kind}"] = _total(times["reference"], places) / _total(times["hflm"], places)
    found["hflm_speedup"] = _total(times["reference"], times["hflm"]) / _total(times["hflm"], times["hflm"])
    found["same_work"] = _same_work(visits, of_kinds)
    return {**found, **_verdicts(visits)}


def _total(times: Mapping[tuple[int, float], float], places: Iterable[tuple[int, float]]) -> float:
    return sum(times[place] for place in places)


def _by_kind(times: Mapping[tuple[int, float], float], of_kinds: Mapping[tuple[int, float], str]) -> dict[str, float]:
    """Mean seconds of a point of each kind that there is."""
    groups = {kind: [s for place, s in times.items() if of_kinds[place] == kind] for kind in KINDS}
    return {kind: sum(group) / len(group) for kind, group in groups.items() if group}


def _same_work(visits: Sequence[Visit], of_kinds: Mapping[tuple[int, float], str]) -> dict[str, dict[str, float]]:
    """Ours without stop strings, which decodes all that the others decode, against them: one point of each kind."""
    found = {}
    for full in (visit for visit in visits if visit.road == FULL):
        beside = {v.road.removesuffix(AGAIN): v for v in visits if v.place == full.place and v.road.endswith(AGAIN)}
        found[of_kinds[full.place]] = {
            "alpha": full.alpha,
            "ours_s": full.seconds,
            "ours_stopping_s": beside["ours_fp32"].seconds,
            "vs_reference": beside["reference"].seconds / full.seconds,
            "vs_hflm": beside["hflm"].seconds / full.seconds,
            "stopping_saves": full.seconds / beside["ours_fp32"].seconds,
        }
    return found


def _verdicts(visits: Sequence[Visit]) -> dict[str, Any]:
    """Which verdicts differ from the reference's, by point and prompt."""
    reference = {visit.place: visit.verdicts for visit in visits if visit.road == "reference"}
    flips = {
        road: [
            {"direction": visit.direction, "alpha": visit.alpha, "prompt": index, "reference": theirs, "here": here}
            for visit in visits
            if visit.road == road
            for index, (theirs, here) in enumerate(zip(reference[visit.place], visit.verdicts, strict=True))
            if theirs != here
        ]
        for road in ("hflm", "ours_fp32", "ours_bf16")
    }
    return {
        "verdicts": sum(len(row) for row in reference.values()),
        "verdicts_equal": not flips["ours_fp32"],
        "flips": flips["ours_fp32"],
        "flips_hflm": len(flips["hflm"]),
        "flips_bf16": len(flips["ours_bf16"]),
        "walk_distance": max(visit.distance for visit in visits),
    }


def table(found: Mapping[str, Any]) -> str:
    """Seconds and ratios as a Markdown table."""
    there = [kind for kind in KINDS if found["points"][kind]]
    heads = [f"{kind}, {found['points'][kind]} points" for kind in there]
    head = ["mean seconds of a point (times faster than the reference)", *heads, "whole grid"]
    rows = [[_label(road, found), *_cells(road, found, there)] for road in ROADS]
    return _markdown([head, *rows])


def same_work_table(found: Mapping[str, Any]) -> str:
    """What stopping saves, beside what the same work costs, as a Markdown table."""
    head = ["one point of each kind, fp32", "same work, vs reference", "same work, vs HFLM", "stopping saves"]
    rows = [
        [f"{kind}, alpha {row['alpha']:g}", *(f"{row[key]:.1f}x" for key in _SAME_WORK)]
        for kind, row in found["same_work"].items()
    ]
    return _markdown([head, *rows])


_SAME_WORK = ("vs_reference", "vs_hflm", "stopping_saves")


def _label(road: str, found: Mapping[str, Any]) -> str:
    visits, every = found["visits"][road], found["visits"]["reference"]
    partly = f", {visits} of {every} points" if visits < every else ""
    return ROADS[road].format(hflm_batch=found.get("hflm_batch", "?")) + partly


def _cells(road: str, found: Mapping[str, Any], there: Sequence[str]) -> list[str]:
    """Mean seconds by kind, and those of the points that the road visited together."""
    seconds = found["mean_seconds"][road]
    cells = [f"{seconds[kind]:.2f}{_times(road, found, kind)}" if kind in seconds else "" for kind in there]
    return [*cells, f"{found['grid_seconds'][road]:.0f}{_times(road, found, '')}"]


def _times(road: str, found: Mapping[str, Any], kind: str) -> str:
    if road == "reference":
        return ""
    name = "hflm_speedup" if road == "hflm" else "speedup"
    dtype = "" if road == "hflm" else road.removeprefix("ours")
    return f" ({found[name + (f'_{kind}' if kind else '') + dtype]:.1f}x)"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def claims(found: Mapping[str, Any]) -> str:
    """The lines below the tables: verdicts, and what is not in the ratios."""
    flips = [
        f"  direction {f['direction']}, alpha {f['alpha']:g}, prompt {f['prompt']}: reference {f['reference']}, "
        f"ours {f['here']}"
        for f in found["flips"]
    ]
    equal = "identical" if found["verdicts_equal"] else f"{len(flips)} differ:"
    return "\n".join(
        [
            f"Verdicts of ours in fp32 against the reference's, {found['verdicts']} of them: {equal}",
            *flips,
            f"Flips of others against the reference: HFLM {found['flips_hflm']}, ours in bf16 {found['flips_bf16']}.",
            f"Weights of ours and of the walk: at most {found['walk_distance']:.1e} of a tensor's norm apart.",
            f"Over HFLM, on the points that both visited: {found['speedup_hflm_fp32']:.1f}x in fp32, "
            f"{found['speedup_hflm_bf16']:.1f}x in bf16.",
        ]
    )
