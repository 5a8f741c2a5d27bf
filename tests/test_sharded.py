"""One model on several devices: its shards move as the whole does, and it answers as the whole does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import accelerate
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from transformers.cache_utils import DynamicLayer

from safety_tasks import Direction, measure_landscape
from safety_tasks.chat import Rendered
from safety_tasks.decoding.forward import Batch
from safety_tasks.directions import Weight
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import NotPerturbable
from safety_tasks.models import LoadedModel
from safety_tasks.weights import Weights, fingerprint

CPU = torch.device("cpu")
PROMPTS = [Rendered(text, is_templated=True) for text in ("I'm sorry", "Here is a plan for that", "thing")]
PARTS = ("model.embed_tokens", "model.rotary_emb", "model.layers.0", "model.layers.1", "model.norm", "lm_head")


@hypothesis_settings(max_examples=40)
@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_shard_of_a_tensor_moves_by_the_bits_of_the_whole(data: st.DataObject, dtype: torch.dtype) -> None:
    rows, columns = data.draw(st.integers(1, 40), label="rows"), data.draw(st.integers(1, 70), label="columns")
    whole = torch.from_numpy(np.random.default_rng(0).standard_normal((rows, columns))).to(dtype)
    name = str(dtype).removeprefix("torch.")
    weight = Weight("layer.weight", (rows, columns), name, float(whole.double().norm()), is_of_norm_layer=False)
    step = Direction(seed=3).step(weight, 0.2, CPU, dtype)
    moved = torch.empty_like(whole)
    step(moved.view(-1), whole.view(-1), 0)
    assert not torch.equal(moved, whole)

    cut = data.draw(st.integers(0, rows * columns - 1), label="from")  # rows of a shard lie in one piece
    end = data.draw(st.integers(cut + 1, rows * columns), label="to")
    piece = torch.empty(end - cut, dtype=dtype)
    step(piece, whole.view(-1)[cut:end], cut)
    assert torch.equal(piece, moved.view(-1)[cut:end])

    left = data.draw(st.integers(0, columns - 1), label="left")  # columns in as many pieces as there are rows
    right = data.draw(st.integers(left + 1, columns), label="right")
    shard = torch.empty(rows, right - left, dtype=dtype)
    for row in range(rows):
        step(shard[row], whole[row, left:right], row * columns + left)
    assert torch.equal(shard, moved[:, left:right])


def spread(model: torch.nn.Module, devices: list[object], **options: object) -> torch.nn.Module:
    """The model's parts on the devices in turn, with accelerate's hooks between them."""
    places = dict(zip(PARTS, [devices[i * len(devices) // len(PARTS)] for i in range(len(PARTS))], strict=True))
    if model.lm_head.weight is model.model.embed_tokens.weight:
        places["lm_head"] = places["model.embed_tokens"]
    accelerate.dispatch_model(model, places, force_hooks=True, **options)
    return model


def answers(loaded: LoadedModel) -> list[list[str]]:
    """The texts at the origin, at two moved points and at the origin again."""
    engine = HuggingFaceEngine(loaded)
    found = []
    with engine.moving() as weights:
        for direction, alpha in ((0, 0.0), (0, 0.4), (1, -0.7), (0, 0.0)):
            weights.restore() if not alpha else weights.move_to(Direction(direction), alpha)
            found.append([one.text for one in engine.generate(PROMPTS, 12, ())])
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_model_spread_by_a_device_map_has_the_landscape_of_the_whole(
    dtype: torch.dtype, build_model: Callable[..., LoadedModel]
) -> None:
    whole, parts = (build_model(dtype=dtype, tied=False) for _ in range(2))
    spread(parts.model, ["cpu"])
    assert all(hasattr(parts.model.get_submodule(name), "_hf_hook") for name in PARTS)
    before, expected = fingerprint(parts.model), answers(whole)
    assert expected[0] != expected[1] != expected[2] and expected[0] == expected[3]
    assert answers(parts) == expected
    assert before == fingerprint(parts.model) == fingerprint(whole.model)
    small = dict(n_prompts=6, points=3, directions=2, max_new_tokens=4, journal="off")
    one, other = (measure_landscape(tuple(loaded), **small) for loaded in (whole, parts))
    assert (one.asr() == other.asr()).all()
    assert one.facts["coherence_cuts"] == other.facts["coherence_cuts"]


def test_a_model_spread_over_one_processor_is_the_whole_to_the_journal(build_model: Callable[..., LoadedModel]) -> None:
    whole, parts = build_model(), build_model()
    spread(parts.model, ["cpu"])
    identity = HuggingFaceEngine(parts).identity()
    assert identity is not None and identity == HuggingFaceEngine(whole).identity()


def test_a_map_that_leaves_weights_on_the_disk_is_refused_and_the_model_still_answers(
    model_folder: Path, build_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    whole = build_model()
    places = dict.fromkeys(PARTS, "cpu") | {"model.layers.1": "disk"}
    model = AutoModelForCausalLM.from_pretrained(model_folder, device_map=places, offload_folder=tmp_path)
    engine = HuggingFaceEngine(LoadedModel(model, whole.tokenizer))
    with pytest.raises(NotPerturbable, match=r"off-loaded to the CPU or the disk \(such as model.layers.1.*device_map"):
        engine.moving()
    assert engine.identity() is None
    assert engine.generate(PROMPTS, 4, ()) == HuggingFaceEngine(whole).generate(PROMPTS, 4, ())


def test_rows_leave_a_cache_whose_layers_lie_on_different_devices() -> None:
    layers = [DynamicLayer(), DynamicLayer()]
    for layer, device in zip(layers, ("cpu", "meta"), strict=True):
        states = torch.arange(3.0, device=device)[:, None, None, None].expand(3, 1, 2, 4)
        layer.update(states, states)
    tokens = torch.zeros(3, 1, dtype=torch.long, device="meta")  # the first part's device is not the last one's
    batch = Batch(tokens, tokens, tokens, SimpleNamespace(layers=layers))
    batch.keep([0, 2])
    assert layers[0].keys[:, 0, 0, 0].tolist() == [0, 2]
    assert [len(tensor) for tensor in (layers[1].values, batch.inputs, batch.mask, batch.positions)] == [2] * 4


GPUS = torch.cuda.device_count()


@pytest.mark.skipif(not GPUS, reason="needs two GPUs, or one and the CPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_model_on_two_devices_moves_answers_leaves_and_comes_back_as_on_one(
    dtype: torch.dtype, tied: bool, build_model: Callable[..., LoadedModel]
) -> None:
    """Of one GPU and the CPU, whose kernels differ, the weights alone are compared."""
    whole, parts = (build_model(dtype=dtype, tied=tied) for _ in range(2))
    pair: list[object] = [0, 1] if GPUS > 1 else ["cpu", 0]
    spread(parts.model, pair, **({} if GPUS > 1 else {"main_device": "cpu"}))
    spread(whole.model, [0])
    assert len({p.device for p in parts.model.parameters()}) == 2
    before, found = fingerprint(parts.model), answers(parts)
    if GPUS > 1:
        assert found == answers(whole)
    engine = HuggingFaceEngine(parts)
    assert engine.identity() is not None and "," in engine.facts()["device"]
    with engine.aside():
        assert {p.device.type for p in parts.model.parameters()} == {"cpu"}
    assert before == fingerprint(parts.model) == fingerprint(whole.model)
    moved = []
    for loaded in (whole, parts):
        with Weights(loaded.model) as weights:
            weights.move_to(Direction(1), 0.3)
            moved.append(fingerprint(loaded.model))
    assert moved[0] == moved[1] != before
