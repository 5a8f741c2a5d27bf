from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from safety_tasks import Direction, measure_landscape, perturbed
from safety_tasks.errors import NotPerturbable, WeightsChanged
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.tiny import model_path
from safety_tasks.weights import Weights, fingerprint, movable_parameters

SMALL = dict(n_prompts=6, points=3, directions=2, max_new_tokens=4)


def hashes(model: torch.nn.Module) -> dict[str, str]:
    """Every tensor of the state, hashed apart: a reference that shares no code with the fingerprint."""
    return {
        name: hashlib.sha256(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, tensor in model.state_dict().items()
    }


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def loaded(request: pytest.FixtureRequest, build_model: Callable[..., LoadedModel]) -> LoadedModel:
    return build_model(tied=True, dtype=request.param)


def test_a_landscape_leaves_every_tensor_as_it_was(loaded: LoadedModel) -> None:
    before, pointers = hashes(loaded.model), {n: p.data_ptr() for n, p in loaded.model.named_parameters()}
    measure_landscape(tuple(loaded), **SMALL)
    assert hashes(loaded.model) == before
    assert {n: p.data_ptr() for n, p in loaded.model.named_parameters()} == pointers
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight


@pytest.mark.parametrize("error", [RuntimeError("judge died"), KeyboardInterrupt()], ids=["exception", "ctrl-c"])
def test_an_interrupted_landscape_leaves_every_tensor_as_it_was(
    loaded: LoadedModel, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, calls = hashes(loaded.model), []
    moved: list[bool] = []
    forward = type(loaded.model).forward

    def failing(model: torch.nn.Module, *args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) > 6:
            moved.append(hashes(loaded.model) != before)
            raise error
        return forward(model, *args, **kwargs)

    monkeypatch.setattr(type(loaded.model), "forward", failing)
    with pytest.raises(type(error)):
        measure_landscape(tuple(loaded), **SMALL)
    assert moved == [True], "the interrupt must come while the weights are moved"
    assert hashes(loaded.model) == before


def test_a_second_interrupt_during_the_restoring_does_not_stop_it(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, restore, calls = hashes(loaded.model), Weights.restore, []

    def interrupted_once(weights: Weights) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        restore(weights)

    monkeypatch.setattr(Weights, "restore", interrupted_once)
    with pytest.raises(KeyboardInterrupt), perturbed(loaded.model, Direction(0), 0.3):
        pass
    assert hashes(loaded.model) == before


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(alpha=st.floats(-1, 1), seed=st.integers(0, 99))
def test_any_step_comes_back_bit_for_bit(loaded: LoadedModel, alpha: float, seed: int) -> None:
    before = hashes(loaded.model)
    with perturbed(loaded.model, Direction(seed), alpha):
        pass
    assert hashes(loaded.model) == before


def test_each_tensor_moves_by_alpha_times_its_norm_and_norm_layers_stay(
    build_model: Callable[..., LoadedModel],
) -> None:
    model = build_model(tied=False).model
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with perturbed(model, Direction(1), 0.25):
        for name, parameter in model.named_parameters():
            step = (parameter - before[name]).norm() / before[name].norm()
            assert step.item() == pytest.approx(0 if "norm" in name else 0.25, rel=1e-3), name


def test_tied_embeddings_move_once(build_model: Callable[..., LoadedModel]) -> None:
    model = build_model(tied=True).model
    before = model.lm_head.weight.detach().clone()
    with perturbed(model, Direction(1), 0.5):
        assert ((model.lm_head.weight - before).norm() / before.norm()).item() == pytest.approx(0.5, rel=1e-3)


def test_a_point_is_rounded_once_from_the_pristine_weights(build_model: Callable[..., LoadedModel]) -> None:
    model = build_model(dtype=torch.bfloat16).model
    name, parameter = next(iter(movable_parameters(model).items()))
    pristine = parameter.detach().clone()
    direction = Direction(2)
    coefficient = direction.coefficient(name, pristine.numel(), float(pristine.double().norm()), 0.3)
    noise = torch.from_numpy(direction.noise(name, 0, pristine.numel())).float().view_as(pristine)
    with Weights(model) as weights:
        for alpha in (-0.4, 0.1, 0.3):
            weights.move_to(direction, alpha)
        assert torch.equal(parameter, (pristine.float() + noise * coefficient).bfloat16())


def test_gpt2s_norm_layers_stay_although_their_names_do_not_say_norm() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=50, n_positions=32))
    movable = movable_parameters(model)
    assert "transformer.h.0.mlp.c_fc.weight" in movable
    assert not [name for name in movable if "ln_" in name]


def test_parameters_that_are_not_contiguous_move_and_come_back() -> None:
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.randn(4, 6).t())
    before = module.weight.detach().clone()
    with perturbed(module, Direction(0), 0.5):
        assert ((module.weight - before).norm() / before.norm()).item() == pytest.approx(0.5, rel=1e-3)
    assert torch.equal(module.weight, before)


def test_weights_that_nothing_brings_back_are_reported(
    build_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model().model
    monkeypatch.setattr(Weights, "restore", lambda weights: None)
    with pytest.raises(WeightsChanged, match="reload the model"), perturbed(model, Direction(0), 0.1):
        pass


def test_the_fingerprint_sees_a_single_bit(build_model: Callable[..., LoadedModel]) -> None:
    model = build_model().model
    before = fingerprint(model)
    with torch.no_grad():
        model.lm_head.weight.view(-1)[5].add_(1e-6)
    assert fingerprint(model) != before


def test_weights_that_are_not_there_cannot_be_moved(build_model: Callable[..., LoadedModel]) -> None:
    model = build_model().model.to("meta")
    with pytest.raises(NotPerturbable, match="off-loaded"), perturbed(model, Direction(0), 0.1):
        pass


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own
def test_an_adapter_that_is_not_merged_is_refused() -> None:
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_model("tiny-aligned").model, model_path("tiny-finetuned") / "adapter")
    with pytest.raises(NotPerturbable, match="merge it first"), perturbed(model, Direction(0), 0.1):
        pass
    with perturbed(model.merge_and_unload(), Direction(0), 0.1):
        pass


def test_integer_weights_cannot_be_moved(build_model: Callable[..., LoadedModel]) -> None:
    model = build_model().model
    model.is_quantized = True
    with pytest.raises(NotPerturbable, match="quantised"), perturbed(model, Direction(0), 0.1):
        pass
