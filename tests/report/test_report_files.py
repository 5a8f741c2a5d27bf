"""The JSON beside the page, and how both reach the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_builders import landscape_with, rate_of, report_on

from safety_tasks.errors import InvalidSetting
from safety_tasks.report import Report, report_to_dict, write_report


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("kind", ["green", "red", "censored"])
def test_json_round_trips_without_nan_or_infinity(kind: str, request: pytest.FixtureRequest) -> None:
    facts = report_to_dict(request.getfixturevalue(kind))
    assert strict(json.dumps(facts, allow_nan=False)) == facts
    assert facts["schema"] == "llmsafety-report/1"


def test_a_censored_bound_is_null_and_marked(censored: Report) -> None:
    width = report_to_dict(censored)["gates"][2]["estimate"]
    assert (width["name"], width["high"], width["censored"]) == ("basin_width", None, True)


def test_unread_points_and_foreign_values_become_plain(tmp_path: Path) -> None:
    landscape = landscape_with(0.3)
    landscape.verdicts[0, 0, :] = 2
    facts = {"ratio": float("nan"), "count": np.int64(3), "curve": np.array([1.0, np.inf]), "path": tmp_path}
    plain = report_to_dict(report_on(landscape, facts=facts))
    assert plain["landscape"]["asr"][0][0] is None
    assert plain["facts"] == {"ratio": None, "count": 3, "curve": [1.0, None], "path": str(tmp_path)}


def test_a_system_prompt_is_named_by_its_hash_only() -> None:
    landscape = landscape_with(0.3, system_prompt="our private instruction")
    report = report_on(landscape, settings=landscape.settings.to_dict())
    assert "private" not in json.dumps(report_to_dict(report))
    assert report_to_dict(report)["settings"]["system_prompt"].startswith("23 characters, sha256 ")


def test_both_files_are_written_beside_each_other(green: Report, tmp_path: Path) -> None:
    page, facts = write_report(green, tmp_path / "new" / "folder" / "report.html")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert strict(facts.read_text(encoding="utf-8")) == report_to_dict(green)
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]


def test_a_failed_write_leaves_the_old_report(green: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "report.html"
    page.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(green, page)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("report.html", "old")]


def test_a_page_cannot_be_named_json(green: Report, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="name the page, as .html"):
        write_report(green, tmp_path / "report.json")


def test_text_that_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    page, facts = write_report(report_on(None, model="a\udcffb\x00c\u202ed\x1b[31m"), tmp_path / "r.html")
    assert "a\ufffdb\ufffdc\ufffdd\ufffd[31m" in page.read_text(encoding="utf-8")
    assert strict(facts.read_text(encoding="utf-8"))["model"] == "a\ufffdb\ufffdc\ufffdd\ufffd[31m"


def test_importing_reports_and_plots_imports_nothing_heavy() -> None:
    heavy = ("altair", "vl_convert", "torch", "lm_eval", "pytest")
    code = f"import sys, safety_tasks.report, safety_tasks.plots; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_rates_keep_their_value_in_json() -> None:
    report = report_on(None, estimates=(rate_of("unscored_rate", 3),))
    assert report_to_dict(report)["estimates"][0]["value"] == pytest.approx(0.015)
