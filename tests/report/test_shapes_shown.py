"""What was measured beside the landscape along random lines: kept in every file, drawn on every page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from report_builders import landscape_with, report_on
from shape_builders import Foreign, by_system_prompt, every_shape, interpolation, margin, plane, worst_width
from typer.testing import CliRunner

import safety_tasks.report
from pytest_llmsafety.testing import FakeModel
from safety_tasks.__main__ import app
from safety_tasks.errors import InvalidInput
from safety_tasks.harness.evaluation import EngineLM, evaluate_tasks
from safety_tasks.report import Report, render_html, report_to_dict
from safety_tasks.report.facts import report_from_dict
from safety_tasks.report.pictures import picture_of
from safety_tasks.report.rebuilt import rebuild
from safety_tasks.report.redaction import plain
from safety_tasks.report.sources import read_sources, reports_of
from safety_tasks.settings import Settings
from safety_tasks.stored_shapes import KINDS, Shape, StoredShape, kind_of, shape_from_dict, shape_to_dict

SHAPES = every_shape()


def through_json(shape: Shape) -> Shape:
    return shape_from_dict(json.loads(json.dumps(plain(shape_to_dict(shape)), allow_nan=False)))


def drawn(name: str, shape: Shape) -> dict[str, Any]:
    """Title, caption and charts, in which data sets are named by their content."""
    found = picture_of(name, shape)
    charts = {heading: chart.to_dict(validate=False) for heading, chart in found.charts.items()}
    return {"title": found.title, "caption": found.caption, "charts": charts}


def section(page: str) -> str:
    found = re.search(r'<section id="shapes".*?</section>', page, re.DOTALL)
    return found[0] if found else ""


@pytest.mark.parametrize("name", SHAPES)
def test_a_stored_shape_is_the_same_and_draws_the_same_picture(name: str) -> None:
    shape = SHAPES[name]
    again = through_json(shape)
    assert (kind_of(again) in KINDS) is (type(again) is type(shape)) and kind_of(again) == kind_of(shape)
    assert plain(shape_to_dict(again)) == plain(shape_to_dict(shape))
    assert drawn(name, again) == drawn(name, shape)
    assert drawn(name, shape)["charts"]


@pytest.mark.parametrize("name", SHAPES)
def test_a_caption_says_what_moved_who_read_it_and_how_many_prompts(name: str) -> None:
    caption = drawn(name, SHAPES[name])["caption"]
    assert "judge " in caption.lower() and re.search(r"\d+ (prompts|points)", caption)
    assert re.search("weights|under each system prompt|points that were asked", caption)
    if "random directions" in caption or "random direction 1" in caption:
        assert "Random directions are not the worst case" in caption


def test_every_shape_is_on_the_page_with_its_charts_numbers_and_text(
    page: Callable[[Report], str], shown_shapes: Report
) -> None:
    whole = page(shown_shapes)
    shown = section(whole)
    for name, shape in SHAPES.items():
        found = drawn(name, shape)
        assert found["title"].replace("'", "&#39;") in shown
        assert f"<code>{name}</code>" in shown or not hasattr(shape, "scores")
        assert all(f"<h4>{heading}</h4>" in shown for heading in found["charts"])
    charts = set(re.findall('data-chart="(shape-[^"]+)"', shown))
    assert charts == set(re.findall('id="(shape-[0-9]+-[0-9]+-chart)">', whole)) and len(charts) == 15
    assert shown.count("<noscript><svg") == len(SHAPES) == shown.count("<figcaption>")
    assert "<code>finetune_margin</code>" in shown and "basin_width[attention]" in shown and "≥ 1.000" in shown
    assert '<a href="#shapes">' in whole


def test_a_report_without_shapes_says_nothing_of_them() -> None:
    page = render_html(report_on(landscape_with(0.3)))
    assert not section(page) and "#shapes" not in page


def test_where_only_other_shapes_were_measured_the_page_does_not_call_the_surroundings_unknown() -> None:
    page = render_html(report_on(None, shapes={"visage_interpolation": interpolation()}))
    assert "nothing is known here of what happens around" not in page and "stands below" in page


def test_report_json_fits_its_schema_and_makes_the_page_again(
    page: Callable[[Report], str], shown_shapes: Report
) -> None:
    report = shown_shapes
    facts = json.loads(json.dumps(report_to_dict(report), allow_nan=False))
    schema = json.loads(Path(safety_tasks.report.__file__).with_name("schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(facts)
    again = report_from_dict(facts)
    shown, shown_again = (re.sub("<noscript>.*?</noscript>", "", section(page(one))) for one in (report, again))
    assert shown_again == shown
    assert report_to_dict(again)["shapes"] == facts["shapes"]
    assert "of our own" not in json.dumps(facts), "system prompts are named by length and hash"


def test_a_report_json_of_before_there_were_shapes_is_read() -> None:
    facts = report_to_dict(report_on(landscape_with(0.3)))
    del facts["shapes"]
    assert not report_from_dict(facts).shapes


def test_a_shape_that_has_no_chart_shows_its_scores_and_its_text() -> None:
    again = through_json(Foreign())
    assert isinstance(again, StoredShape)
    for shape in (Foreign(), again):
        shown = section(render_html(report_on(None, shapes={"visage_new": shape})))
        assert "<code>a_score_of_its_own</code>" in shown and "a text &lt;of&gt; its own" in shown
        assert "data-chart" not in shown and '<details class="part" open>' in shown


def test_a_target_is_shown_as_text_whatever_it_is_called() -> None:
    settings = Settings(judge="refusal", target="<img src=x>/token=abcdefgh12345", plane="interpolation-random")
    page = render_html(report_on(None, shapes={"visage_landscape_2d": replace(plane(), settings=settings)}))
    assert "<img src" not in section(page) and "abcdefgh12345" not in page


@pytest.mark.parametrize("change", [{"verdicts": [["r"]]}, {"kind": None}, {"alphas": [1.0]}, {"scores": 3}])
def test_a_file_with_a_broken_shape_is_refused_when_it_is_read(change: dict[str, Any], tmp_path: Path) -> None:
    facts = report_to_dict(report_on(None, shapes={"visage_interpolation": interpolation()}))
    facts["shapes"]["visage_interpolation"] |= change
    if change == {"scores": 3}:
        facts["shapes"]["visage_interpolation"]["kind"] = "Other"
    (tmp_path / "report.json").write_text(json.dumps(facts))
    with pytest.raises(InvalidInput, match="cannot be read as a source of a report"):
        read_sources([tmp_path / "report.json"])


def test_stills_of_all_shapes_are_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    facts = report_to_dict(report_on(None, shapes=SHAPES))
    (tmp_path / "in" / "report.json").write_text(json.dumps(facts, allow_nan=False))
    result = CliRunner().invoke(app, ["pictures", str(tmp_path / "in"), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(names) == len(SHAPES) and "tiny-aligned-visage_landscape_2d-plane=interpolation-random.png" in names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "out").iterdir())


FEW = {"n_prompts": 40, "points": 3, "directions": 1, "plane_points": 3, "layer_groups": 1, "target": "tiny-finetuned",
       "coefficients": "0:1", "scales": "0:1"}  # fmt: skip
TASKS = ("visage_interpolation", "visage_landscape_2d", "visage_margin", "visage_layers", "visage_system_prompts")


@pytest.mark.parametrize(
    ("names", "options", "kinds"),
    [
        (TASKS, {}, ["Interpolation", "Plane", "Margin", "Blocks", "BySystemPrompt"]),
        (("visage_landscape",), {"mode": "edge"}, ["EdgeScan"]),
        (("visage_landscape",), {"mode": "gate", "decide": "safe_radius >= 0.1"}, ["Curtailed"]),
    ],
)
def test_lm_evals_results_and_the_journal_hold_what_each_task_measured(
    names: tuple[str, ...], options: dict[str, str], kinds: list[str], tmp_path: Path
) -> None:
    fake = FakeModel()
    fake.identity = lambda: {"weights_fingerprint": "fake"}  # type: ignore[assignment, method-assign, return-value]
    settings = Settings(**{**FEW, **options, "journal": str(tmp_path / "journal")})  # type: ignore[arg-type]
    tasks = evaluate_tasks(EngineLM(fake), list(names), settings)
    results = {"configs": {name: task.dump_config() for name, task in tasks.items()}, "model_name": "m", "config": {}}
    (tmp_path / "results.json").write_text(json.dumps(results, default=str))
    for source in (tmp_path / "results.json", tmp_path / "journal"):
        ((_, report),) = reports_of(read_sources([source]), "off")
        assert {name: kind_of(shape) for name, shape in report.shapes.items()} == dict(zip(names, kinds, strict=True))
    rebuild([tmp_path / "results.json"], tmp_path / "page.html")
    assert section((tmp_path / "page.html").read_text()).count("<figure>") == len(names)


def test_what_is_measured_again_from_the_journal_is_not_kept_twice(tmp_path: Path) -> None:
    fake = FakeModel()
    fake.identity = lambda: {"weights_fingerprint": "fake"}  # type: ignore[assignment, method-assign, return-value]
    settings = Settings(**{**FEW, "journal": str(tmp_path / "journal")})  # type: ignore[arg-type]
    for _ in range(2):
        evaluate_tasks(EngineLM(fake), ["visage_interpolation"], settings)
    (journal,) = (tmp_path / "journal").glob("*.jsonl")
    assert journal.read_text().count('"kind":"measured"') == 1


def test_system_prompts_without_landscapes_have_one_chart() -> None:
    found = picture_of("visage_system_prompts", replace(by_system_prompt(), landscapes={}))
    assert list(found.charts) == ["Rates under each system prompt"] and "moved" not in found.caption


@pytest.mark.parametrize("shape", [interpolation(), plane(), worst_width(), margin()], ids=kind_of)
def test_a_notebook_shows_each_shape_as_its_plot_and_its_scores(shape: Any) -> None:
    bundle = shape._repr_mimebundle_()
    (vega,) = (kind for kind in bundle if kind.startswith("application/vnd.vegalite"))
    assert json.dumps(bundle[vega]) and bundle["image/svg+xml"].startswith("<svg")
    assert bundle["text/plain"].count("\n") == len(shape.scores()) - 1


def test_frames_of_a_way_and_of_a_plane_have_their_coordinates() -> None:
    way, both = interpolation().to_frame(), plane().to_frame()
    assert way["coefficient"].tolist() == list(interpolation().alphas)
    assert way["asr"].tolist() == interpolation().asr()[0].tolist()
    at = both.set_index(["alpha", "beta"])["asr"]
    found = plane()
    assert at[found.alphas[0], found.betas[-1]] == found.asr()[0, -1] and len(both) == found.asr().size
