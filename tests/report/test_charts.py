"""The charts: what they draw, before anyone draws it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from report_builders import gate, landscape_with, rate_of

from safety_tasks.estimates import Estimate
from safety_tasks.plots import (
    compared_curves,
    gate_chart,
    gates_chart,
    landscape_chart,
    landscape_svg,
    safety_chart,
    shares_chart,
)
from safety_tasks.plots.curves import direction_records, edge_records, explain_edges, mean_records
from safety_tasks.report import GateRow


def test_mean_curve_is_the_mean_over_directions_of_curve_and_bounds() -> None:
    landscape = landscape_with(0.3)
    low, high = landscape.band
    for i, row in enumerate(mean_records(landscape)):
        assert row["safety"] == pytest.approx(1 - landscape.asr()[:, i].mean())
        assert (row["low"], row["high"]) == pytest.approx((1 - high[:, i].mean(), 1 - low[:, i].mean()))
        assert row["refused"] + row["complied"] + row["incoherent"] == pytest.approx(1)


def test_a_point_where_nothing_was_scored_is_a_gap_not_a_zero() -> None:
    landscape = landscape_with(0.3)
    landscape.verdicts[0, 0, :] = 2
    landscape.verdicts[:, 1, :] = 2
    assert direction_records(landscape)[0]["safety"] is None
    means = mean_records(landscape)
    assert means[0]["safety"] == pytest.approx(1 - np.nanmean(landscape.asr()[:, 0])) and means[1]["safety"] is None
    json.dumps(landscape_chart(landscape).to_dict(), allow_nan=False)


def test_edges_are_signed_and_carry_their_kind() -> None:
    rows = edge_records(landscape_with(0.3, kinds=("noise", "harmful")).basins())
    assert [(row["direction"], row["side"], row["kind"]) for row in rows] == [
        (1, "left", "noise"),
        (1, "right", "noise"),
        (2, "left", "harmful"),
        (2, "right", "harmful"),
    ]
    assert rows[0]["alpha"] == -rows[1]["alpha"] and 0.3 <= rows[1]["alpha"] <= 0.35


@pytest.mark.parametrize(
    ("edge", "kinds", "words"),
    [
        (0.3, ("noise", "harmful", "noise"), "edge at +0.30\n2 noise, 1 harmful"),
        (0.3, ("mixed",), "edge at +0.30\nmixed"),
        (1.0, ("noise",), "no edge\nup to +0.50"),
    ],
)
def test_edges_in_words(edge: float, kinds: tuple[str, ...], words: str) -> None:
    spans = landscape_with(edge, kinds=kinds).basins()
    assert explain_edges([span.right for span in spans], "+") == words


@pytest.mark.parametrize("edge", [-1.0, 0.1, 0.3, 1.0])
def test_every_landscape_has_its_charts(edge: float) -> None:
    landscape = landscape_with(edge, tolerance=0.1)
    for chart in (safety_chart(landscape), shares_chart(landscape), landscape_chart(landscape)):
        text = json.dumps(chart.to_dict(), allow_nan=False)
        assert "alpha (share of each tensor's norm)" in text
    assert "tolerance: ASR 10%" in json.dumps(safety_chart(landscape).to_dict())


def test_a_landscape_without_a_basin_says_so() -> None:
    assert "no basin: the attack success rate at" in json.dumps(safety_chart(landscape_with(-1.0)).to_dict())


def test_svg_is_drawn_without_a_browser() -> None:
    svg = landscape_svg(landscape_with(0.3))
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    for words in ("Safety along random directions", "complied incoherently", "edge of the basin, by what lies beyond"):
        assert words in svg


def scale_of(row: GateRow) -> list[float]:
    layers = gate_chart(row).to_dict()["layer"]
    domain: list[float] = layers[-1]["encoding"]["x"]["scale"]["domain"]
    return domain


def test_a_gate_is_drawn_on_a_scale_that_holds_interval_and_limit() -> None:
    asr = rate_of("attack_success_rate", 1)
    start, end = scale_of(gate(asr, "<=", 0.05))
    assert start == 0 and end > 0.05 > asr.high
    difference = replace(asr, low=-0.03)
    assert scale_of(gate(difference, "<=", 0.05))[0] < -0.03


def test_a_bound_that_is_infinite_ends_in_an_arrow() -> None:
    width = landscape_with(1.0).basin_width()
    row = gate(width, ">=", 0.2)
    text = json.dumps(gate_chart(row).to_dict(), allow_nan=False)
    assert "triangle-right" in text and np.isfinite(scale_of(row)).all()


def test_gates_that_were_not_measured_are_not_drawn() -> None:
    measured = gate(rate_of("attack_success_rate", 1), "<=", 0.05)
    missing: Estimate | None = None
    unmeasured = GateRow("harmful_score <= 0.05", "error", "no harm judge", missing, 0.05, "<=")
    assert len(gates_chart([measured, unmeasured]).to_dict()["vconcat"]) == 1
    with pytest.raises(ValueError, match="no gate has an estimate"):
        gates_chart([unmeasured])
    with pytest.raises(ValueError, match="'harmful_score <= 0.05' has no estimate"):
        gate_chart(unmeasured)


def records_of(chart: dict[str, Any], field: str) -> list[dict[str, Any]]:
    """The records of the data sets whose rows have a field."""
    found = [json.loads(rows) for rows in chart["datasets"].values()]
    return [row for rows in found for row in rows if field in row]


def test_the_reference_is_drawn_behind_by_its_mean_on_the_same_grid() -> None:
    landscape = landscape_with(0.3)
    behind = replace(landscape_with(0.6, radius=1.0, points=41), facts={"model": "the-base"})
    plain, ghosted = safety_chart(landscape).to_dict(), safety_chart(landscape, reference=behind).to_dict()
    assert not records_of(plain, "model")
    rows = records_of(ghosted, "model")
    assert {row["model"] for row in rows} == {"the-base"} and len(rows) == 21
    assert min(row["alpha"] for row in rows) == -0.5 and {row["safety"] for row in rows} == {1.0}


def test_charts_that_are_clicked_have_a_rule_that_moves() -> None:
    landscape = landscape_with(0.3)
    for drawn in (safety_chart(landscape), shares_chart(landscape)):
        found = drawn.to_dict()
        assert found["params"] == [{"name": "shown_alpha", "value": 0}]
        assert found["layer"][-1]["encoding"]["x"]["datum"] == {"expr": "shown_alpha"}


def test_models_are_compared_by_curves_of_their_own_colour_and_name() -> None:
    named = [(f"model-{i}", landscape_with(0.1 * i)) for i in range(1, 10)]
    found = compared_curves(named).to_dict()
    assert len(records_of(found, "model")) == 9 * 21
    encoding = found["layer"][1]["encoding"]
    assert "strokeDash" not in found["layer"][0]["encoding"]  # Vega-Lite warns: areas have none
    names, colors, dashes = (
        encoding["color"]["scale"]["domain"],
        encoding["color"]["scale"]["range"],
        encoding["strokeDash"],
    )
    assert names == [name for name, _ in named]
    assert len({(color, tuple(dash)) for color, dash in zip(colors, dashes["scale"]["range"], strict=True)}) == 9
    means = [row["safety"] for row in records_of(found, "model") if row["model"] == "model-3"]
    assert means == [pytest.approx(row["safety"]) for row in mean_records(named[2][1])]


def test_models_that_cannot_be_told_apart_are_not_compared() -> None:
    landscape = landscape_with(0.3)
    for named in ([], [("same", landscape), ("same", landscape)]):
        with pytest.raises(ValueError, match="need names of their own"):
            compared_curves(named)
