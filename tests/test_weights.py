from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from safety_tasks import Direction, measure_landscape, perturbed
from safety_tasks.directions import step_coefficient
from safety_tasks.errors import InvalidModel, WeightsChanged
from safety_tasks.memory import Memory, copy_fits
from safety_tasks.models import LoadedModel
from safety_tasks.threads import in_threads
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
    before, moved = hashes(loaded.model), []
    forward = type(loaded.model).forward

    def failing(model: torch.nn.Module, *args: object, **kwargs: object) -> object:
        if hashes(loaded.model) != before:
            moved.append(True)
            raise error
        return forward(model, *args, **kwargs)

    monkeypatch.setattr(type(loaded.model), "forward", failing)
    with pytest.raises(type(error)):
        measure_landscape(tuple(loaded), **SMALL)
    assert moved, "the interrupt must come while the weights are moved"
    assert hashes(loaded.model) == before


def test_interrupts_during_the_restoring_do_not_stop_it(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before, restore, calls = hashes(loaded.model), Weights.restore, []

    def interrupted_once(weights: Weights) -> None:
        calls.append(1)
        if len(calls) <= 3:
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
    noise = torch.from_numpy(direction.noise(name, 0, pristine.numel())).float().view_as(pristine)
    squared = int(noise.double().square().sum())
    coefficient = step_coefficient(squared, float(pristine.double().norm()), 0.3)
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


# -- the pristine copy -------------------------------------------------------------------------------------------------


def test_a_copy_on_the_host_gives_the_same_points_and_comes_back(loaded: LoadedModel) -> None:
    before, points = hashes(loaded.model), []
    for on_host in (False, True):
        with Weights(loaded.model, copy_on_host=on_host) as weights:
            weights.move_to(Direction(1), 0.3)
            weights.move_to(Direction(2), -0.2)
            points.append(hashes(loaded.model))
        assert weights.facts()["pristine_copy"] == {"cpu": "host" if on_host else "device"}
        assert hashes(loaded.model) == before
    assert points[0] == points[1] != before


@pytest.mark.parametrize(
    ("free", "fits"),
    [(140, True), (40, True), (36, True), (35, False), (16, False), (0, False)],
)
def test_a_copy_of_16_gb_stays_on_a_device_of_80_that_has_as_much_left_and_a_quarter(free: int, fits: bool) -> None:
    assert copy_fits(16 << 30, Memory(free << 30, 80 << 30)) is fits


def test_the_facts_say_where_the_copy_lies_and_who_draws_the_noise(loaded: LoadedModel) -> None:
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    with Weights(loaded.model) as weights:
        assert weights.facts() == {"pristine_copy": {"cpu": "device"}, "noise_roads": {f"cpu {dtype}": "numpy"}}
        assert weights.fingerprint == fingerprint(loaded.model)


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def n_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_point_does_not_depend_on_the_number_of_threads(n_threads: Callable[[int], None], dtype: torch.dtype) -> None:
    module = torch.nn.Module()
    module.large = torch.nn.Parameter(torch.linspace(-1, 1, 3_000_001).to(dtype))
    module.strided = torch.nn.Parameter(torch.linspace(-1, 1, 60_000).to(dtype).view(200, 300).t())
    points = []
    for count in (1, 3):
        n_threads(count)
        with perturbed(module, Direction(0), 0.5):
            points.append((module.large.detach().clone(), module.strided.detach().clone(), fingerprint(module)))
    (one, strided, digest), (again, strided_again, digest_again) = points
    assert torch.equal(one, again) and torch.equal(strided, strided_again) and digest == digest_again


def test_no_thread_works_any_more_when_one_has_failed(n_threads: Callable[[int], None]) -> None:
    n_threads(3)
    finished: list[int] = []

    def work(item: int) -> None:
        if item == 0:
            raise KeyboardInterrupt
        time.sleep(0.01)
        finished.append(item)

    with pytest.raises(KeyboardInterrupt):
        in_threads(work, range(500))
    count = len(finished)
    time.sleep(0.05)
    assert count == len(finished) < 499


def test_weights_that_are_not_finite_are_refused(build_model: Callable[..., LoadedModel]) -> None:
    model = build_model().model
    model.lm_head.weight.data[3, 2] = torch.nan
    with pytest.raises(InvalidModel, match="embed_tokens.weight holds values that are not finite"), Weights(model):
        pass


def test_parameters_that_share_their_storage_without_being_tied_move_once(
    build_model: Callable[..., LoadedModel],
) -> None:
    model, tied = build_model(tied=True).model, build_model(tied=True).model
    model.lm_head.weight = torch.nn.Parameter(model.model.embed_tokens.weight.data)
    before = hashes(model)
    with perturbed(model, Direction(1), 0.4), perturbed(tied, Direction(1), 0.4):
        assert torch.equal(model.lm_head.weight, tied.lm_head.weight)
    assert hashes(model) == before
