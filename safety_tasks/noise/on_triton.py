"""Noise by a Triton kernel: drawing, table, weights, coefficient and the one rounding in a single pass over a tensor.

Each program takes whole Philox blocks, so that every element is read and written once and no noise reaches memory.
It is bit-equal to numpy: the product of noise and coefficient is exact in fp32, so that it does not matter whether
the compiler fuses it with the sum, and the sum is rounded to the nearest, ties to even. ``roads`` checks this on the
device before it is used. The module imports triton: import it only where that is known to be there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

from safety_tasks.noise import SAMPLES_PER_BLOCK, gaussian_table

_BLOCKS = 128  # Philox blocks a program takes: 2,048 elements
_TURNS = 64  # of squared norms, where a program has nothing to write but one number: how often it takes _BLOCKS
_ROUNDS: tl.constexpr = tl.constexpr(10)


class TritonNoise:
    """Noise fused with the step, on a CUDA device."""

    name = "triton"

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._table = torch.from_numpy(gaussian_table().copy()).to(device)

    def add(self, out: torch.Tensor, pristine: torch.Tensor, key: int, start: int, coefficient: float) -> None:
        """Set ``out`` to ``pristine`` + coefficient * noise from element ``start`` on. Both flat; may be the same."""
        first = start // SAMPLES_PER_BLOCK
        n_blocks = -(-(start + out.numel()) // SAMPLES_PER_BLOCK) - first
        with _on(self._device):
            _add[(triton.cdiv(n_blocks, _BLOCKS),)](
                out, pristine, self._table, _words(key, self._device), first, start, out.numel(), coefficient,
                BLOCKS=_BLOCKS,
            )  # fmt: skip

    def squared_norm(self, key: int, numel: int) -> int:
        """Sum of squares of the first ``numel`` samples."""
        programs = triton.cdiv(numel, SAMPLES_PER_BLOCK * _BLOCKS * _TURNS)
        sums = torch.empty(programs, dtype=torch.int64, device=self._device)
        with _on(self._device):
            _sum_squares[(programs,)](sums, self._table, _words(key, self._device), numel, BLOCKS=_BLOCKS, TURNS=_TURNS)
        return int(sums.sum())


def _on(device: torch.device) -> Any:
    return torch.cuda.device(device) if device.type == "cuda" else torch.device(device)


@cache
def _words(key: int, device: torch.device) -> torch.Tensor:
    """The key's two words, low first, as int64 with the bits of uint64. Shape (2,)."""
    words = [(key >> shift) % (1 << 64) for shift in (0, 64)]
    return torch.tensor([(word + (1 << 63)) % (1 << 64) - (1 << 63) for word in words], device=device)


@triton.jit
def _samples(table, key, block):
    """The 16 samples of each block, in their order. Shape (16 * blocks,)."""
    k0 = tl.load(key).to(tl.uint64, bitcast=True)
    k1 = tl.load(key + 1).to(tl.uint64, bitcast=True)
    c0 = (block + 1).to(tl.uint64)  # numpy counts up before it draws
    c1 = c0 * 0
    c2 = c1
    c3 = c1
    for _ in tl.static_range(_ROUNDS):
        m0 = tl.full(c0.shape, 0xD2E7470EE14C6C93, tl.uint64)
        m1 = tl.full(c0.shape, 0xCA5A826395121157, tl.uint64)
        high0 = tl.umulhi(c0, m0)
        high1 = tl.umulhi(c2, m1)
        low0 = c0 * m0
        low1 = c2 * m1
        c0 = high1 ^ c1 ^ k0
        c1 = low1
        c2 = high0 ^ c3 ^ k1
        c3 = low0
        k0 = k0 + tl.full((), 0x9E3779B97F4A7C15, tl.uint64)
        k1 = k1 + tl.full((), 0xBB67AE8584CAA73B, tl.uint64)
    words = tl.reshape(tl.join(tl.join(c0, c2), tl.join(c1, c3)), (c0.shape[0], 4, 1))
    shifts = tl.arange(0, 4).to(tl.uint64)[None, None, :] * 16
    places = tl.reshape((words >> shifts) & 0xFFFF, (c0.shape[0] * 16,))
    return tl.load(table + places.to(tl.int32))


@triton.jit
def _add(out, pristine, table, key, first, start, numel, coefficient, BLOCKS: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * BLOCKS + first
    noise = _samples(table, key, begin + tl.arange(0, BLOCKS)).to(tl.float32)
    at = begin * 16 + tl.arange(0, BLOCKS * 16) - start
    inside = (at >= 0) & (at < numel)
    weights = tl.load(pristine + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, _rounded(weights + noise * coefficient, out.dtype.element_ty), mask=inside)


@triton.jit
def _rounded(values, dtype: tl.constexpr):
    """To the nearest, ties to even; bf16 by hand, since not every target of the compiler does it so."""
    if dtype == tl.bfloat16:
        bits = values.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return bits.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return values.to(dtype)


@triton.jit
def _sum_squares(sums, table, key, numel, BLOCKS: tl.constexpr, TURNS: tl.constexpr):
    total = tl.zeros((BLOCKS * 16,), tl.int64)
    for turn in range(TURNS):
        begin = (tl.program_id(0).to(tl.int64) * TURNS + turn) * BLOCKS
        noise = _samples(table, key, begin + tl.arange(0, BLOCKS)).to(tl.int64)
        inside = begin * 16 + tl.arange(0, BLOCKS * 16) < numel
        total += tl.where(inside, noise * noise, 0)
    tl.store(sums + tl.program_id(0), tl.sum(total))
