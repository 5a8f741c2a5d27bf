from __future__ import annotations

import inspect

import pytest

import safety_tasks
from safety_tasks import measure_landscape
from safety_tasks.errors import InvalidSetting, UnknownName
from safety_tasks.models import load_model

FEW = {"n_prompts": 8, "points": 3, "directions": 2}


def test_every_public_name_is_there_and_the_list_is_sorted() -> None:
    assert safety_tasks.__all__ == sorted(safety_tasks.__all__)
    for name in safety_tasks.__all__:
        assert getattr(safety_tasks, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'measure'"):
        safety_tasks.measure  # noqa: B018


def test_the_signature_shows_every_setting_with_its_default() -> None:
    parameters = inspect.signature(measure_landscape).parameters
    assert parameters["points"].default == 21 and parameters["judge"].default is None
    assert list(parameters)[:4] == ["model", "dtype", "device", "batch_size"]


def test_an_embedded_model_gives_a_landscape() -> None:
    landscape = measure_landscape("tiny-aligned", **FEW)
    assert landscape.asr().shape == (2, 3)
    assert landscape.facts["model"] == "tiny-aligned" and landscape.facts["prompts"] == "builtin-harmful"
    assert landscape.asr_at_origin().value <= 1 / 8


def test_a_landscape_is_a_frame_by_point_and_by_prompt() -> None:
    landscape = measure_landscape("tiny-aligned", **FEW)
    points, prompts = landscape.to_frame(), landscape.to_frame(prompts=True)
    assert list(points[["direction", "alpha"]].itertuples(index=False, name=None)) == [
        (d, alpha) for d in range(2) for alpha in landscape.alphas
    ]
    assert (points["asr"].to_numpy().reshape(2, 3) == landscape.asr()).all() and set(points["n"]) == {8}
    assert (points["low"] <= points["asr"]).all() and (points["asr"] <= points["high"]).all()
    complied = prompts.groupby(["direction", "alpha"])["verdict"].apply(lambda words: (words == "complied").mean())
    assert complied.to_numpy().reshape(2, 3).tolist() == landscape.asr().tolist()
    assert len(prompts) == 2 * 3 * 8 and set(prompts["prompt"]) == set(landscape.prompt_ids)


def test_the_same_run_gives_the_same_landscape() -> None:
    first, second = (measure_landscape("tiny-aligned", **FEW, journal="off") for _ in range(2))
    assert (first.verdicts == second.verdicts).all()
    took = [landscape.facts.pop("wall_seconds") for landscape in (first, second)]
    assert first.facts == second.facts and min(took) > 0
    assert first.facts["points_measured"] == 5 and first.facts["points_read_back"] == 0
    assert 0 < first.facts["answers_ended_early"] < first.facts["tokens_saved_at_most"]


def test_a_model_in_training_is_measured_without_dropout_and_handed_back_as_it_was() -> None:
    model, tokenizer = load_model("tiny-aligned")
    calm = measure_landscape((model, tokenizer), **FEW)
    model.train()
    model.lm_head.eval()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    assert (measure_landscape((model, tokenizer), **FEW).verdicts == calm.verdicts).all()
    assert model.training and model.model.layers[0].training and not model.lm_head.training


def test_wrong_options_are_said_before_the_model_loads() -> None:
    with pytest.raises(UnknownName, match="There is no option 'pionts'"):
        measure_landscape("no/model/here", pionts=3)
    with pytest.raises(InvalidSetting):
        measure_landscape("no/model/here", points=2)
