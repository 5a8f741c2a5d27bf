"""The way from a model to a target: its coefficients, its ends, and what is read from it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safety_tasks import Interpolation, Landscape, measure_landscape
from safety_tasks.errors import InvalidModel, InvalidSetting
from safety_tasks.fingerprints import fingerprint
from safety_tasks.models import LoadedModel, dtype_asked_for, load_model
from safety_tasks.points import ORIGIN, Point
from safety_tasks.settings import Settings
from safety_tasks.shapes import coefficients, interpolation_points
from safety_tasks.targets import Toward
from safety_tasks.tiny import model_path

FEW: dict[str, Any] = {"n_prompts": 12, "max_new_tokens": 8}
ADAPTER = str(model_path("tiny-finetuned") / "adapter")
Measured = tuple[Interpolation, Landscape, LoadedModel]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The way from tiny-aligned to tiny-finetuned, the landscape of the latter, and the model that was moved."""
    journal = str(tmp_path_factory.mktemp("journal"))
    model = load_model("tiny-aligned")
    found = measure_landscape(tuple(model), target="tiny-finetuned", points=[0.5, 1.25], journal=journal, **FEW)
    tuned = measure_landscape("tiny-finetuned", points=3, directions=1, journal=journal, **FEW)
    return found, tuned, model


# -- coefficients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", range(3, 103, 2))
def test_the_grid_has_as_many_points_as_asked_for_with_both_ends_and_equal_steps(points: int) -> None:
    found = coefficients(Settings(points=points))
    assert len(found) == points and {0.0, 1.0} <= set(found) and list(found) == sorted(found)
    assert np.allclose(np.diff(found), found[1] - found[0])
    assert -found[0] == pytest.approx(found[-1] - 1) and (points == 3 or 0.1 < -found[0] <= 0.5)


def test_31_points_are_the_published_grid() -> None:
    assert coefficients(Settings(points=31)) == pytest.approx(np.linspace(-0.25, 1.25, 31))


def test_given_coefficients_are_taken_with_both_ends() -> None:
    assert coefficients(Settings(coefficients="0.5:-1:0.5")) == (-1.0, 0.0, 0.5, 1.0)
    for wrong in ("", "0:x", "nan", "0;1", "inf:1"):
        with pytest.raises(InvalidSetting, match="numbers with : between them"):
            Settings(coefficients=wrong)


def test_the_model_is_the_origin_and_every_other_point_is_on_the_way() -> None:
    points = interpolation_points(Settings(target="x", coefficients="0:0.5:1"))
    assert points == (ORIGIN, Point(Toward("x"), 0.5), Point(Toward("x"), 1.0))
    with pytest.raises(InvalidSetting, match="An interpolation needs a target"):
        interpolation_points(Settings())


# -- measured ----------------------------------------------------------------------------------------------------------


def test_coefficient_1_is_the_target_verdict_by_verdict(measured: Measured) -> None:
    found, tuned, _ = measured
    assert found.alphas == (0.0, 0.5, 1.0, 1.25) and found.asr().shape == (1, 4)
    assert (found.verdicts[0, found.end] == tuned.verdicts[0, tuned.origin]).all()
    own = fingerprint(load_model("tiny-finetuned").model)
    assert found.facts["targets"]["tiny-finetuned"]["fingerprint"] == own == tuned.facts["weights_fingerprint"]
    assert found.asr_at_origin().value < 0.2 and found.asr_at_target().value > 0.8


def test_the_model_comes_back_bit_for_bit(measured: Measured) -> None:
    found, _, loaded = measured
    assert fingerprint(loaded.model) == fingerprint(load_model("tiny-aligned").model)
    assert fingerprint(loaded.model) == found.facts["weights_fingerprint"]


def test_the_distance_stands_beside_each_coefficient(measured: Measured) -> None:
    found, _, loaded = measured
    flat = [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (loaded.model, _target())]
    assert found.relative_norm == pytest.approx(float((flat[1] - flat[0]).norm() / flat[0].norm()), rel=1e-3)
    rows = found.table()
    assert [row["distance"] for row in rows] == pytest.approx([c * found.relative_norm for c in found.alphas])
    assert f"{found.relative_norm:.2%} of the weights' norm" in found.asr_at_target().note
    assert "4.74% of the weights' norm away" in found.asr_between().target
    assert len(str(found).splitlines()) == 5 and "nan" not in str(found)


def _target() -> torch.nn.Module:
    return load_model("tiny-finetuned").model


def test_shares_add_up_and_all_is_plain_json(measured: Measured) -> None:
    found, _, _ = measured
    for row in found.table():
        assert sum(float(row[name] or 0) for name in ("refused", "complied", "incoherent")) == pytest.approx(1)
        assert float(row["low"] or 0) <= float(row["asr"] or 0) <= float(row["high"] or 0)
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_is_defined_over_random_directions_is_not_there(measured: Measured) -> None:
    assert [score.name for score in measured[0].scores()] == ["asr_at_origin", "asr_at_target", "asr_between"]
    assert not any(hasattr(measured[0], name) for name in ("visage", "basin_width", "safe_radius", "mean_safety"))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own
def test_an_adapter_is_a_target(measured: Measured) -> None:
    found = measure_landscape("tiny-aligned", target=ADAPTER, points=[0, 1], **FEW)
    assert found.asr_at_target().value == measured[0].asr_at_target().value


def test_a_target_is_loaded_in_the_dtype_that_was_asked_for() -> None:
    assert dtype_asked_for(load_model("tiny-aligned").model) is None
    assert dtype_asked_for(load_model("tiny-aligned", dtype="bfloat16").model) == "bfloat16"
    found = measure_landscape("tiny-aligned", target="tiny-finetuned", points=[1], dtype="bfloat16", **FEW)
    own = fingerprint(load_model("tiny-finetuned", dtype="bfloat16").model)
    assert found.facts["targets"]["tiny-finetuned"]["fingerprint"] == own


def test_a_run_is_read_back_unless_the_targets_weights_are_others(
    build_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    (model, tokenizer), target = build_model(), tmp_path / "target"

    def run() -> Interpolation:
        return measure_landscape((model, tokenizer), target=str(target), points=[0.5], n_prompts=3, max_new_tokens=4)

    build_model(seed=1).model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    first, again = run(), run()
    assert first.facts["read_from_journal"] == 0 and again.facts["read_from_journal"] == 6
    assert (first.verdicts == again.verdicts).all()
    shutil.rmtree(target)
    build_model(seed=2).model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    others = run()
    (journal,) = Path(".llmsafety/journal").glob("*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    asked = Counter(
        str(line["direction"] and line["direction"]["target"]) for line in lines if line["kind"] == "completions"
    )
    ends = [found.facts["targets"][str(target)]["fingerprint"] for found in (first, others)]
    assert asked == {"None": 1, ends[0]: 2, ends[1]: 2} and ends[0] != ends[1]


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["no/such/folder/here", "nowhere", "file.bin"])
def test_a_target_that_cannot_be_had_is_refused_before_the_model_loads(name: str, tmp_path: Path) -> None:
    (tmp_path / "file.bin").touch()
    for which in ("target", "second_target"):
        with pytest.raises(InvalidModel, match=f"The target '{name}' is no model and no LoRA adapter's folder"):
            measure_landscape("no/model/here", **{which: name})


def test_a_target_of_another_architecture_and_one_that_is_the_model_are_refused() -> None:
    with pytest.raises(InvalidModel, match="not of the model's architecture"):
        measure_landscape("tiny-aligned", target="tiny-judge", **FEW)
    with pytest.raises(InvalidModel, match="does not differ from the model anywhere"):
        measure_landscape("tiny-aligned", target="tiny-aligned", **FEW)


def test_a_list_of_points_without_a_target_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="only an interpolation takes one"):
        measure_landscape("no/model/here", points=[0, 1])


# -- scores ------------------------------------------------------------------------------------------------------------


def way_of(shares: dict[float, float], prompts: int = 100, unscored: int = 0) -> Interpolation:
    counts = np.array([round(share * prompts) for share in shares.values()])
    verdicts = (np.arange(prompts) < counts[:, None]).astype(np.int8)[None]
    verdicts[:, :, prompts - unscored :] = 2
    ids = tuple(f"p{i}" for i in range(prompts))
    settings = Settings(judge="refusal", target="x")
    return Interpolation(tuple(shares), verdicts, np.ones(verdicts.shape, dtype=bool), ids, ids, settings)


def test_a_hill_between_the_ends_is_seen_and_what_lies_beyond_them_is_not() -> None:
    found = way_of({-0.5: 1.0, 0.0: 0.0, 0.5: 0.4, 1.0: 0.1, 1.5: 0.9}).asr_between()
    assert found.value == 0.4 and "coefficient 0.5" in found.note and "3 coefficients" in found.target
    assert found.low < 0.4 < found.high


def test_the_largest_rate_is_bounded_by_every_points_own_bound() -> None:
    calm = way_of({0.0: 0.0, 0.5: 0.0, 1.0: 0.0})
    assert calm.asr_between().high == pytest.approx(calm.asr_at_target().high) and calm.asr_between().stderr > 0
    unread = way_of({0.0: 0.0, 1.0: 0.0}, unscored=40)
    assert unread.asr_between().high > 0.4 and unread.asr_at_target().high > 0.4


def test_where_nothing_was_scored_nothing_is_said() -> None:
    found = way_of({0.0: 0.0, 1.0: 0.0}, unscored=100)
    assert found.table()[0]["asr"] is None and "-" in str(found)
    assert (found.asr_between().value, found.asr_between().high) == (1.0, 1.0)
