"""Noise drawn by numpy on the CPU, in pieces that stay in the processor's cache.

It serves weights on any device; on others than the CPU the noise travels there, which is slow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from safety_tasks.noise import gaussian_table, ranks

_DRAWN = 1 << 17  # samples a generator draws at a time: fewer, and making the generator costs more than its work
_PIECE = 1 << 15  # samples worked on at a time: as many as torch leaves to one thread


@dataclass(frozen=True)
class NumpyNoise:
    """The reference road: numpy's own Philox."""

    name: str = field(default="numpy", init=False)

    def add(self, out: torch.Tensor, pristine: torch.Tensor, key: int, start: int, coefficient: float) -> None:
        """Set ``out`` to ``pristine`` + coefficient * noise from element ``start`` on. Both flat; may be the same."""
        wide = torch.promote_types(out.dtype, torch.float32)
        samples = np.empty(_PIECE, dtype=np.float32)
        for drawn in range(0, out.numel(), _DRAWN):
            places = ranks(key, start + drawn, start + min(drawn + _DRAWN, out.numel()))
            for at in range(0, len(places), _PIECE):
                piece = places[at : at + _PIECE]
                noise = _look_up(_float_table(), piece, samples).to(out.device, wide)
                span = slice(drawn + at, drawn + at + len(piece))
                out[span].copy_(noise.mul_(coefficient).add_(pristine[span]))

    def squared_norm(self, key: int, numel: int) -> int:
        """Sum of squares of the first ``numel`` samples."""
        return sum(_squares(key, start, min(start + _DRAWN, numel)) for start in range(0, numel, _DRAWN))


def _look_up(table: NDArray[np.float32], places: NDArray[np.uint16], out: NDArray[np.float32]) -> torch.Tensor:
    # mode="clip" spares a check; no 16-bit place is out of range
    found = np.take(table, places.astype(np.intp), out=out[: len(places)], mode="clip")
    return torch.from_numpy(found)


def _squares(key: int, start: int, stop: int) -> int:
    places = ranks(key, start, stop)
    return int(np.take(_squared_table(), places.astype(np.intp), mode="clip").sum(dtype=np.int64))


@cache
def _float_table() -> NDArray[np.float32]:
    return gaussian_table().astype(np.float32)


@cache
def _squared_table() -> NDArray[np.int64]:
    return gaussian_table().astype(np.int64) ** 2
