from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from safety_tasks.directions import Direction, canonical_name, step_coefficient
from safety_tasks.noise import stream_key
from safety_tasks.noise.on_cpu import NumpyNoise


@given(st.integers(0, 5000), st.integers(0, 300), st.integers(0, 9), st.text(max_size=20))
def test_a_slice_holds_the_bits_of_the_whole(start: int, length: int, seed: int, name: str) -> None:
    direction = Direction(seed)
    whole = direction.noise(name, 0, start + length)
    assert (direction.noise(name, start, start + length) == whole[start:]).all()


def test_the_noise_is_pinned() -> None:
    """A changed bit is a changed measurement: it needs a new NOISE_VERSION."""
    assert Direction(0).noise("model.layers.0.mlp.up_proj.weight", 0, 6).tolist() == [
        1285,
        -2413,
        -2660,
        -1147,
        2898,
        -568,
    ]
    assert Direction(7, 2).noise("lm_head.weight", 100_000, 100_004).tolist() == [-810, 490, 3438, -1386]
    assert NumpyNoise().squared_norm(stream_key(0, 0, "w"), 1000) == 3_425_835_795


@pytest.mark.parametrize("other", [Direction(1, 0), Direction(0, 1)])
def test_seeds_and_indices_give_unrelated_noise(other: Direction) -> None:
    a, b = (d.noise("w", 0, 20_000).astype(float) for d in (Direction(0, 0), other))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


def test_names_give_unrelated_noise() -> None:
    a, b = (Direction(0).noise(name, 0, 20_000).astype(float) for name in ("q_proj", "k_proj"))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


def test_the_noise_is_standard_normal_up_to_its_quantisation() -> None:
    samples = Direction(3).noise("w", 0, 200_000) / 1890
    assert samples.mean() == pytest.approx(0, abs=0.01)
    assert samples.std() == pytest.approx(1, abs=0.005)
    assert (samples**4).mean() == pytest.approx(3, abs=0.06)
    assert kstest(samples, "norm").pvalue > 0.001


@given(st.floats(-2, 2).filter(lambda alpha: abs(alpha) > 1e-6), st.integers(1, 3000), st.floats(1e-6, 1e6))
def test_the_step_has_the_length_that_alpha_says(alpha: float, numel: int, norm: float) -> None:
    direction = Direction(5)
    noise = direction.noise("w", 0, numel).astype(float)
    step = step_coefficient(int(noise @ noise), norm, alpha) * noise
    assert np.linalg.norm(step) == pytest.approx(abs(alpha) * norm, rel=4.9e-4)


def test_products_of_coefficient_and_noise_are_exact_in_float32() -> None:
    noise = Direction(7).noise("w", 0, 4096)
    coefficient = step_coefficient(int((noise.astype(np.int64) ** 2).sum()), 12.34, 0.37)
    assert (np.float32(coefficient) * noise.astype(np.float32) == coefficient * noise.astype(np.float64)).all()


@pytest.mark.parametrize(
    "wrapped",
    [
        "model.norm.weight",
        "base_model.model.model.norm.weight",
        "_orig_mod.model.norm.weight",
        "module._orig_mod.model.norm.weight",
        "model._orig_mod.norm.weight",
    ],
)
def test_wrappers_do_not_change_a_name(wrapped: str) -> None:
    assert canonical_name(wrapped) == "model.norm.weight"
