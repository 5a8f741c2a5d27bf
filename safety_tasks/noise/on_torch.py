"""Noise by plain torch operations, on any device: Philox4x64-10 in int64 arithmetic."""

from __future__ import annotations

from functools import cache

import torch

from safety_tasks.noise import SAMPLES_PER_BLOCK, gaussian_table

_PIECE = 1 << 22  # samples drawn at a time: takes about 50 bytes each
_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)  # Salmon et al. 2011, table 2
_KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10


class TorchNoise:
    """Noise on a device that has neither numpy nor Triton."""

    name = "torch"

    def __init__(self, device: torch.device, piece: int = _PIECE) -> None:
        self._device = device
        self._piece = piece
        self._table = torch.from_numpy(gaussian_table().astype("int32")).to(device)

    def add(self, out: torch.Tensor, pristine: torch.Tensor, key: int, start: int, coefficient: float) -> None:
        """Set ``out`` to ``pristine`` + coefficient * noise from element ``start`` on. Both flat; may be the same."""
        wide = torch.promote_types(out.dtype, torch.float32)
        for at in range(0, out.numel(), self._piece):
            span = slice(at, min(at + self._piece, out.numel()))
            noise = self.samples(key, start + span.start, start + span.stop).to(wide)
            out[span].copy_(noise.mul_(coefficient).add_(pristine[span]))

    def squared_norm(self, key: int, numel: int) -> int:
        """Sum of squares of the first ``numel`` samples."""
        return sum(
            int(self.samples(key, start, min(start + self._piece, numel)).long().square().sum())
            for start in range(0, numel, self._piece)
        )

    def samples(self, key: int, start: int, stop: int) -> torch.Tensor:
        """Elements ``start`` to ``stop`` of a key's noise: int32, shape (stop - start,), in 1/1890 sigma."""
        first, last = start // SAMPLES_PER_BLOCK, -(-stop // SAMPLES_PER_BLOCK)
        counters = torch.arange(first + 1, last + 1, dtype=torch.int64, device=self._device)
        words = torch.stack(_philox(counters, key), dim=1)
        shifts = torch.arange(0, 64, 16, dtype=torch.int64, device=self._device)
        places = (words[:, :, None] >> shifts & 0xFFFF).reshape(-1)
        offset = first * SAMPLES_PER_BLOCK
        return self._table[places[start - offset : stop - offset]]


def _philox(counters: torch.Tensor, key: int) -> tuple[torch.Tensor, ...]:
    """The four words at each counter (below 2^63), as int64 with the bits of uint64. Each of shape (blocks,)."""
    zero = torch.zeros_like(counters)
    c0, c1, c2, c3 = counters, zero, zero, zero
    k0, k1 = key & (1 << 64) - 1, key >> 64
    for _ in range(_ROUNDS):
        (high0, low0), (high1, low1) = _product(c0, _MULTIPLIERS[0]), _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ _signed(k0), low1, high0 ^ c3 ^ _signed(k1), low0
        k0, k1 = k0 + _KEY_STEPS[0], k1 + _KEY_STEPS[1]
    return c0, c1, c2, c3


def _product(values: torch.Tensor, multiplier: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low word of the unsigned 128-bit product, by halves of 32 bits; int64 wraps where uint64 would."""
    v0, v1 = values & _LOW, _upper(values)
    m0, m1 = multiplier & _LOW, multiplier >> 32
    p00, p01, p10 = v0 * m0, v0 * m1, v1 * m0
    carries = _upper(p00) + (p01 & _LOW) + (p10 & _LOW)
    return v1 * m1 + _upper(p01) + _upper(p10) + _upper(carries), values * _signed(multiplier)


def _upper(values: torch.Tensor) -> torch.Tensor:
    """The upper 32 bits, without the sign that >> brings."""
    return values >> 32 & _LOW


@cache
def _signed(word: int) -> int:
    """The int64 with the bits of a uint64, which is taken modulo 2^64."""
    return (word + (1 << 63)) % (1 << 64) - (1 << 63)
