"""The charts of interpolations and planes: what they draw, before anyone draws it."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from safety_tasks import Interpolation, Plane
from safety_tasks.plots import interpolation_chart, interpolation_png, interpolation_svg, plane_chart, plane_svg
from safety_tasks.plots.interpolation import interpolation_records
from safety_tasks.plots.plane import cell_records, outline_records
from safety_tasks.plots.style import SHARES
from safety_tasks.settings import Settings

IDS = tuple(f"p{i}" for i in range(10))


def way() -> Interpolation:
    verdicts = (np.arange(10) < np.array([0, 2, 10])[:, None]).astype(np.int8)[None]
    facts = {"targets": {"tiny-finetuned": {"relative_norm": 0.05}}}
    settings = Settings(judge="refusal", target="tiny-finetuned")
    return Interpolation((0.0, 0.5, 1.0), verdicts, np.ones((1, 3, 10), bool), IDS, IDS, settings, facts)


def plane(inside: list[list[int]], **settings: str) -> Plane:
    verdicts = np.repeat(1 - np.array(inside)[..., None], 10, axis=2).astype(np.int8)
    facts = {"targets": {"there": {"place": [0.5, 0.9]}}}
    a, b = (tuple((i - n // 2) / 2 for i in range(n)) for n in verdicts.shape[:2])
    chosen = Settings(judge="refusal", **settings)  # type: ignore[arg-type]
    return Plane(a, b, verdicts, np.ones(verdicts.shape, bool), IDS, IDS, chosen, facts)


def test_the_curve_is_safety_with_its_bounds_the_right_way_round() -> None:
    rows = interpolation_records(way())
    assert [row["safety"] for row in rows] == pytest.approx([1, 0.8, 0])
    assert all(row["low"] <= row["safety"] <= row["high"] for row in rows)
    assert [row["distance"] for row in rows] == pytest.approx([0, 0.025, 0.05])


def test_both_ends_are_named_and_the_distance_is_on_the_axis() -> None:
    text = json.dumps(interpolation_chart(way()).to_dict(), allow_nan=False)
    for words in ("target: tiny-finetuned", "5.0% of the weights' norm", SHARES["incoherent"][0]):
        assert words in text, words
    svg = interpolation_svg(way())
    assert ElementTree.fromstring(svg).tag.endswith("svg") and ">model<" in svg
    assert interpolation_png(way()).startswith(b"\x89PNG")


def test_a_point_where_nothing_was_scored_is_a_gap() -> None:
    found = way()
    found.verdicts[0, 1] = 2
    assert interpolation_records(found)[1]["safety"] is None
    json.dumps(interpolation_chart(found).to_dict(), allow_nan=False)
    flat = plane([[1, 1, 1]] * 3)
    flat.verdicts[0, 0] = 2
    assert cell_records(flat)[0]["asr"] is None
    json.dumps(plane_chart(flat).to_dict(), allow_nan=False)


def test_cells_fill_the_plane_and_its_points_are_their_middles() -> None:
    cells = cell_records(plane([[1, 1, 0]] * 5))
    assert len(cells) == 15
    assert sum((c["right"] - c["left"]) * (c["top"] - c["bottom"]) for c in cells) == pytest.approx(2.5 * 1.5)
    assert all((c["left"] + c["right"]) / 2 == pytest.approx(c["alpha"]) for c in cells)


def test_the_outline_runs_round_what_meets_the_tolerance() -> None:
    one = outline_records(plane([[0, 0, 0], [0, 1, 0], [0, 0, 0]]))
    assert len(one) == 4 and {abs(row[name]) for row in one for name in ("x", "x2", "y", "y2")} == {0.25}
    assert outline_records(plane([[1] * 3] * 3)) == []


def test_the_model_and_the_targets_that_are_in_sight_are_marked() -> None:
    settings = {"plane": "interpolation", "target": "here", "second_target": "there"}
    text = json.dumps(plane_chart(plane([[1] * 5] * 5, **settings)).to_dict())
    assert "here" in text and "there" in text and "diamonds: targets" in text
    narrow = json.dumps(plane_chart(plane([[1] * 3] * 3, **settings)).to_dict())
    assert '\\"text\\":\\"there\\"' not in narrow, "0.9 lies beyond the cells, which end at 0.75"
    random = plane_svg(plane([[1] * 3] * 3))
    assert ">model<" in random and "diamonds" not in random
