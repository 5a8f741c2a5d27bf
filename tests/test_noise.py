"""One noise on every road: numpy says what the bits are, torch and Triton give the same."""

from __future__ import annotations

import hashlib
import importlib.util
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from safety_tasks.directions import Direction
from safety_tasks.noise import gaussian_table, samples, stream_key
from safety_tasks.noise.on_cpu import NumpyNoise
from safety_tasks.noise.on_torch import TorchNoise
from safety_tasks.noise.roads import first_exact, road_for

CPU = torch.device("cpu")
NAMES = ("w", "lm_head.weight", "model.layers.0.mlp.up_proj.weight")
keys = st.builds(stream_key, st.integers(0, 9), st.integers(0, 9), st.sampled_from(NAMES))
coefficients = st.sampled_from([1153 * 2.0**-23, -1999 * 2.0**-16, 1.5])  # of 11 bits
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])


def test_the_gaussian_table_is_pinned() -> None:
    digest = hashlib.sha256(gaussian_table().astype("<i2").tobytes()).hexdigest()
    assert digest == "a5d7b838ce7ab1c1b0c4ad98b0587cd5fbeddcc4d9535e7036d7206f9bf57e00"


@given(keys, st.integers(0, 70_000), st.integers(0, 5000))
def test_torch_draws_the_bits_of_numpy_in_any_slice(key: int, start: int, length: int) -> None:
    found = TorchNoise(CPU).samples(key, start, start + length)
    assert (found.numpy() == samples(key, start, start + length)).all()


@pytest.mark.parametrize("name", NAMES)
def test_torch_draws_the_bits_of_numpy_in_a_whole_tensor(name: str) -> None:
    key = stream_key(3, 1, name)
    assert (TorchNoise(CPU).samples(key, 0, 1_000_003).numpy() == samples(key, 0, 1_000_003)).all()


def test_elements_far_into_a_tensor_are_drawn_by_their_own_index() -> None:
    far, key = 2**40 + 3, stream_key(0, 0, "w")
    assert (TorchNoise(CPU).samples(key, far, far + 100).numpy() == samples(key, far, far + 100)).all()


@hypothesis_settings(max_examples=30)
@given(
    keys,
    st.integers(0, 1000),
    st.integers(1, 150_000),
    dtypes,
    st.sampled_from([1153 * 2.0**-23, -1999 * 2.0**-16, 1.5]),
)
def test_a_step_has_the_same_bits_on_every_road(
    key: int, start: int, length: int, dtype: torch.dtype, coefficient: float
) -> None:
    pristine = torch.linspace(-1, 1, length).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    noise = torch.from_numpy(samples(key, start, start + length))
    expected = (pristine.to(wide) + noise.to(wide) * coefficient).to(dtype)
    for road in (NumpyNoise(), TorchNoise(CPU), TorchNoise(CPU, piece=999)):
        apart, in_place = torch.empty_like(pristine), pristine.clone()
        road.add(apart, pristine, key, start, coefficient)
        road.add(in_place, in_place, key, start, coefficient)
        assert torch.equal(apart, expected) and torch.equal(in_place, expected)


@hypothesis_settings(max_examples=30)
@given(keys, st.integers(0, 150_000))
def test_squared_norms_are_exact_on_every_road(key: int, numel: int) -> None:
    wide = samples(key, 0, numel).astype(np.int64)
    found = {road.squared_norm(key, numel) for road in (NumpyNoise(), TorchNoise(CPU), TorchNoise(CPU, piece=4096))}
    assert found == {int(wide @ wide)}


def test_one_and_four_processes_draw_the_same_bits() -> None:
    direction, size = Direction(5, 2), 25_001
    parts = [("lm_head.weight", start, start + size) for start in range(0, 4 * size, size)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        drawn = np.concatenate(pool.starmap(direction.noise, parts))
    assert (drawn == direction.noise("lm_head.weight", 0, 4 * size)).all()


# -- the Triton kernel -------------------------------------------------------------------------------------------------

INTERPRETED = """
import torch
from safety_tasks.noise import stream_key
from safety_tasks.noise.on_cpu import NumpyNoise
from safety_tasks.noise.on_triton import TritonNoise

cpu = torch.device("cpu")
kernel, reference = TritonNoise(cpu), NumpyNoise()
for name in ("w", "model.layers.0.mlp.up_proj.weight"):
    key = stream_key(7, 1, name)
    for numel in (1, 16, 1000, 5000):
        assert kernel.squared_norm(key, numel) == reference.squared_norm(key, numel), numel
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for start, numel in ((0, 4096), (5, 3000), (31, 1), (1000, 5000), (2**33 + 1, 100)):
            pristine = torch.linspace(-1, 1, numel).to(dtype)
            found, expected = torch.empty_like(pristine), torch.empty_like(pristine)
            kernel.add(found, pristine, key, start, 0.0001220703125 * 1.375)
            reference.add(expected, pristine, key, start, 0.0001220703125 * 1.375)
            assert torch.equal(found, expected), (dtype, start, numel)
print("the same bits")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_triton_kernel_draws_the_bits_of_numpy() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    found = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert found.stdout == "the same bits\n", found.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_cuda_device_draws_the_bits_of_numpy(dtype: torch.dtype) -> None:
    device, key = torch.device("cuda", 0), stream_key(0, 0, "w")
    pristine = torch.randn(100_003).to(dtype)
    expected, found = torch.empty_like(pristine), torch.empty_like(pristine, device=device)
    NumpyNoise().add(expected, pristine, key, 3, 0.000244140625)
    road_for(device, dtype).noise.add(found, pristine.to(device), key, 3, 0.000244140625)
    assert torch.equal(found.cpu(), expected)


# -- the choice of a road ----------------------------------------------------------------------------------------------


class WrongNoise(TorchNoise):
    """An implementation whose bits are off by one element."""

    name = "wrong"

    def samples(self, key: int, start: int, stop: int) -> torch.Tensor:
        return super().samples(key, start + 1, stop + 1)


def missing(device: torch.device) -> TorchNoise:
    raise ImportError("No module named 'triton'")


def test_the_cpu_takes_numpy() -> None:
    assert str(road_for(CPU, torch.float32)) == "numpy"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_implementation_with_other_bits_is_not_taken_and_said(dtype: torch.dtype) -> None:
    road = first_exact([WrongNoise, TorchNoise], CPU, dtype)
    assert type(road.noise) is TorchNoise
    assert str(road) == "torch (wrong: gives other bits on cpu)"


def test_an_implementation_that_cannot_be_had_is_not_taken_and_said() -> None:
    assert str(first_exact([missing, TorchNoise], CPU, torch.float32)) == (
        "torch (missing: ImportError: No module named 'triton')"
    )


def test_numpy_serves_where_nothing_else_gives_its_bits() -> None:
    assert str(first_exact([missing, WrongNoise], CPU, torch.float32)).startswith("numpy (missing: ImportError")


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="triton is installed")
def test_the_road_of_a_cuda_device_without_triton_says_so() -> None:
    from safety_tasks.noise import roads

    road = first_exact([roads._triton, roads._torch], CPU, torch.float32)
    assert road.noise.name == "torch" and "ModuleNotFoundError: No module named 'triton'" in road.reason
