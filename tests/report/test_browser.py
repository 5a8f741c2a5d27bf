"""The page in a real browser, opened from disk: everything is drawn, nothing is blocked, nothing goes wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from safety_tasks.report import GateRow, Report, render_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


class Shown(NamedTuple):
    dom: str
    console: str


def chromium(path: Path, profile: Path, *flags: str) -> Shown:
    assert CHROMIUM is not None
    run = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=10000",
            "--enable-logging=stderr",
            "--v=0",
            *flags,
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return Shown(run.stdout, "\n".join(line for line in run.stderr.splitlines() if "CONSOLE" in line))


@pytest.mark.parametrize("kind", ["green", "red", "censored"])
def test_every_chart_is_drawn_and_the_console_stays_empty(
    kind: str, page: Callable[[Report], str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(request.getfixturevalue(kind)), encoding="utf-8")
    shown = chromium(path, tmp_path / "profile", "--dump-dom")
    assert shown.console == ""
    drawn = shown.dom.split("<noscript>")[0] + shown.dom.split("</noscript>")[-1]
    assert len(re.findall(r'<svg[^>]*class="marks"', drawn)) == 5
    assert "could not be drawn" not in drawn.split('<script type="application/json"')[0]
    for mark in ("mark-area", "mark-line", "mark-rule", "mark-symbol", "mark-text"):
        assert f'class="{mark} role-mark' in drawn, mark


def test_an_error_in_the_page_would_be_seen(tmp_path: Path) -> None:
    """The instrument itself: a script that the policy blocks and one that throws both reach the console."""
    path = tmp_path / "bad.html"
    policy = "default-src 'none'; script-src 'unsafe-inline'"
    path.write_text(
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<script>fetch('https://example.invalid/')</script><script>eval('1')</script>"
    )
    console = chromium(path, tmp_path / "profile", "--dump-dom").console
    assert "Content Security Policy" in console and "unsafe-eval" in console


def test_hostile_text_runs_no_script_and_stays_text(tmp_path: Path) -> None:
    hostile = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    row = GateRow(hostile, "error", hostile, None, None, None)
    path = tmp_path / "report.html"
    path.write_text(render_html(Report(hostile, "error", (row,), (), None, {hostile: hostile})), encoding="utf-8")
    shown = chromium(path, tmp_path / "profile", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", shown.dom)
    assert title is not None and title[1].startswith("! error:")
    assert shown.console == "" and "<img" not in shown.dom.split("<script", 1)[0]


def test_a_picture_of_the_page_can_be_taken(green: Report, page: Callable[[Report], str], tmp_path: Path) -> None:
    path, picture = tmp_path / "report.html", tmp_path / "report.png"
    path.write_text(page(green), encoding="utf-8")
    chromium(path, tmp_path / "profile", f"--screenshot={picture}", "--window-size=1200,2400")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 50_000
