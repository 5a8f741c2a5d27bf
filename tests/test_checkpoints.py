from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from safety_tasks import Block, CheckpointDirection, Direction, direction_to, perturbed
from safety_tasks.checkpoints import difference
from safety_tasks.directions import Weight
from safety_tasks.errors import InvalidModel, InvalidSetting
from safety_tasks.fingerprints import fingerprint
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.points import Point
from safety_tasks.tiny import model_path
from safety_tasks.weights import Weights

ADAPTER = str(model_path("tiny-finetuned") / "adapter")
CPU = torch.device("cpu")
Build = Callable[..., LoadedModel]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own


def bits(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone().view(torch.uint8) for name, parameter in model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_ends_are_the_models_own_bits(dtype: str) -> None:
    model, target = (load_model(name, dtype=dtype).model for name in ("tiny-aligned", "tiny-finetuned"))
    start, end = bits(model), bits(target)
    direction = direction_to(model, "tiny-finetuned", dtype=dtype)
    with Weights(model) as weights:
        weights.move_to(direction, 1.0)
        assert same(bits(model), end) and fingerprint(model) == fingerprint(target) == direction.target_fingerprint
        weights.move_to(direction, 0.5)
        assert not same(bits(model), end) and not same(bits(model), start)
        weights.move_to(direction, 0.0)
        assert same(bits(model), start)
    assert same(bits(model), start)


def test_an_adapter_leads_to_its_merged_model() -> None:
    model, target = (load_model(name).model for name in ("tiny-aligned", "tiny-finetuned"))
    start, end = bits(model), dict(target.named_parameters())
    direction = direction_to(model, ADAPTER)
    assert same(bits(model), start) and not hasattr(model, "peft_config")
    with perturbed(model, direction, 1.0):
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter.bfloat16(), end[name].bfloat16()), "the merged file holds bf16 values"


@pytest.mark.parametrize("alpha", [-0.25, 0.3, 1.25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_between_and_beyond_a_point_is_computed_in_fp32_and_rounded_once(
    build_model: Build, dtype: torch.dtype, alpha: float
) -> None:
    model, target = build_model(dtype=dtype).model, build_model(dtype=dtype, seed=1).model
    wanted = {
        name: (p.double() + alpha * (dict(target.named_parameters())[name].double() - p.double()))
        for name, p in model.named_parameters()
    }
    with perturbed(model, difference(model, target), alpha):
        for name, parameter in model.named_parameters():
            step = torch.finfo(dtype).eps * wanted[name].abs().clamp(min=0.2)
            assert ((parameter.double() - wanted[name]).abs() <= step).all(), name


@given(st.floats(-2, 2), st.integers(0, 50), st.integers(1, 50))
def test_a_piece_moves_as_the_whole_does(alpha: float, start: int, length: int) -> None:
    begin, end = torch.randn(100, generator=torch.Generator().manual_seed(1)), torch.linspace(-1, 1, 100)
    direction = CheckpointDirection("0", 1.0, {"w": end})
    step = direction.step(Weight("w", (100,), "float32", 1.0, False), alpha, CPU, torch.float32)
    whole, piece = torch.empty(100), begin[start : start + length].clone()
    step(whole, begin, 0)
    step(piece, piece, start)
    assert torch.equal(whole[start : start + length], piece)


def test_the_ends_keep_negative_zeros() -> None:
    begin, end = torch.tensor([-0.0, 0.0, 1.0]), torch.tensor([0.0, -0.0, 2.0])
    direction = CheckpointDirection("0", 1.0, {"w": end})
    for alpha, wanted in ((0.0, begin), (1.0, end)):
        out = torch.empty(3)
        direction.step(Weight("w", (3,), "float32", 1.0, False), alpha, CPU, torch.float32)(out, begin, 0)
        assert torch.equal(out.view(torch.int32), wanted.view(torch.int32))


def test_norm_layers_move_and_come_back_before_a_random_direction(build_model: Build) -> None:
    model, target = build_model().model, build_model(seed=1).model
    with torch.no_grad():
        target.model.norm.weight.mul_(2)
    norm = model.model.norm.weight.detach().clone()
    with Weights(model) as weights:
        weights.move_to(difference(model, target), 0.5)
        assert torch.equal(model.model.norm.weight, norm * 1.5)
        weights.move_to(Direction(0), 0.5)
        assert torch.equal(model.model.norm.weight, norm)


def test_its_size_is_a_share_of_the_weights_norm(build_model: Build) -> None:
    model, target = build_model().model, build_model(seed=1).model
    ours, theirs = (torch.cat([p.detach().flatten() for p in side.parameters()]) for side in (model, target))
    share = float((theirs - ours).norm() / ours.norm())
    assert difference(model, target).relative_norm == pytest.approx(share)
    assert 0 < difference(model, target, block=Block(part="mlp")).relative_norm < share


def test_a_block_limits_what_moves(build_model: Build) -> None:
    model, target = build_model().model, build_model(seed=1).model
    start, end = bits(model), bits(target)
    with perturbed(model, difference(model, target, block=Block(layers=(1, 2), part="attention")), 1.0):
        moved = bits(model)
    for name in start:
        inside = "layers.1.self_attn" in name
        assert torch.equal(moved[name], (end if inside else start)[name]), name


def test_it_stands_in_a_point_and_is_told_by_its_target(build_model: Build) -> None:
    model, target, other = build_model().model, build_model(seed=1).model, build_model(seed=2).model
    one, again = difference(model, target), difference(model, target)
    assert one == again and hash(one) == hash(again) and {Point(one, 0.5), Point(again, 0.5)} == {Point(one, 0.5)}
    assert one != difference(model, other) and one != difference(model, target, block=Block(part="mlp"))
    assert json.loads(json.dumps(one.identity())) == {
        "kind": "checkpoint",
        "target": fingerprint(target),
        "block": None,
    }


def test_a_target_that_does_not_differ_is_refused(build_model: Build) -> None:
    with pytest.raises(InvalidModel, match="does not differ from the model anywhere"):
        direction_to(load_model("tiny-aligned").model, "tiny-aligned")
    model, target = build_model().model, build_model().model
    with torch.no_grad():
        target.model.norm.weight.mul_(2)
    with pytest.raises(InvalidModel, match=r"in the block \(mlp\)"):
        difference(model, target, block=Block(part="mlp"))
    with pytest.raises(InvalidSetting, match="holds no parameter"):
        difference(model, target, block=Block(layers=(7, 9)))


def test_a_target_of_another_architecture_is_refused(build_model: Build) -> None:
    with pytest.raises(InvalidModel, match="the target lacks .* and [0-9]+ more"):
        direction_to(load_model("tiny-aligned").model, "tiny-judge")
    model = build_model(tied=False).model
    with pytest.raises(InvalidModel, match="the target lacks lm_head.weight"):
        difference(model, build_model(tied=True).model)


def test_a_target_of_other_shapes_is_refused(build_model: Build) -> None:
    target = build_model().model
    target.resize_token_embeddings(500, mean_resizing=False)
    with pytest.raises(InvalidModel, match=r"embed_tokens.weight \(\(500, 64\) instead of"):
        difference(build_model().model, target)


def test_a_target_that_would_be_rounded_is_refused(build_model: Build) -> None:
    narrow, wide = build_model(dtype=torch.bfloat16).model, build_model(seed=1).model
    with pytest.raises(InvalidModel, match="holds float32 and the model bfloat16.*--llm-dtype float32"):
        difference(narrow, wide)
    with perturbed(wide, difference(wide, narrow), 1.0):
        assert torch.equal(wide.lm_head.weight, narrow.lm_head.weight.float())


def test_a_target_with_other_buffers_is_refused(build_model: Build) -> None:
    model, target = build_model().model, build_model(seed=1).model
    target.model.rotary_emb.inv_freq *= 2
    with pytest.raises(InvalidModel, match="inv_freq"):
        difference(model, target)


def test_a_direction_does_not_move_another_model(build_model: Build) -> None:
    direction = difference(build_model().model, build_model(seed=1).model)
    other = build_model(tied=False).model
    with pytest.raises(InvalidModel, match="lm_head"), perturbed(other, direction, 0.5):
        pass


def test_an_adapter_without_effect_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ADAPTER, tmp_path / "adapter"))
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({k: v * 0 if "lora_B" in k else v for k, v in weights.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(InvalidModel, match="an adapter without effect"):
        direction_to(load_model("tiny-aligned").model, str(folder))


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_an_adapter_for_another_model_is_refused(tmp_path: Path, build_model: Build) -> None:
    with pytest.raises(InvalidModel, match="is not for this model.*size mismatch .* and [0-9]+ more"):
        direction_to(build_model().model, ADAPTER)
    folder = Path(shutil.copytree(ADAPTER, tmp_path / "adapter"))
    weights = load_file(folder / "adapter_model.safetensors")
    first = next(iter(weights))
    save_file({k.replace(first, f"other.{k}"): v for k, v in weights.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(InvalidModel, match="is not for this model"):
        direction_to(load_model("tiny-aligned").model, str(folder))


def test_a_pickled_adapter_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ADAPTER, tmp_path / "adapter"))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InvalidModel, match="only safetensors"):
        direction_to(load_model("tiny-aligned").model, str(folder))
