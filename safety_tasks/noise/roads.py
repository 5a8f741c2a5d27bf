"""Which implementation of the noise serves a device: the same bits on every road."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, Protocol

import torch

from safety_tasks.noise.on_cpu import NumpyNoise

_CHECKED = 5003  # elements: several programs of the kernel, the last one not full


class Noise(Protocol):
    """Noise on one kind of device. Hashable."""

    @property
    def name(self) -> str:
        """What facts call it."""

    def add(self, out: torch.Tensor, pristine: torch.Tensor, key: int, start: int, coefficient: float) -> None:
        """Set ``out`` to ``pristine`` + coefficient * noise from element ``start`` on, rounded once to its dtype.

        Both are flat, of one length, dtype and device, and may be the same tensor. The product is exact in fp32 and
        the sum is taken in fp32 (in fp64 for fp64), so that no road differs by a bit from another.
        """

    def squared_norm(self, key: int, numel: int) -> int:
        """Sum of squares of the first ``numel`` samples, an exact integer."""

    def __hash__(self) -> int: ...


class Road(NamedTuple):
    """An implementation, and why it was taken where another would be faster."""

    noise: Noise
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.noise.name} ({self.reason})" if self.reason else self.noise.name


@cache
def road_for(device: torch.device, dtype: torch.dtype) -> Road:
    """What serves a device: numpy the CPU; others the fused Triton kernel, or torch where that cannot be had.

    A road is taken when it gives numpy's bits on that device. The reason says why a faster one was not.
    """
    if device.type == "cpu":
        return Road(NumpyNoise())
    faster = [_triton] if device.type == "cuda" and dtype != torch.float64 else []
    return first_exact([*faster, _torch], device, dtype)


def first_exact(makers: Sequence[Callable[[torch.device], Noise]], device: torch.device, dtype: torch.dtype) -> Road:
    """The first of some implementations that runs on the device and gives numpy's bits; in the end numpy itself."""
    reasons: list[str] = []
    for make in makers:
        try:
            noise = make(device)
            if _is_exact(noise, device, dtype):
                return Road(noise, "; ".join(reasons))
            reasons.append(f"{noise.name}: gives other bits on {device}")
        except Exception as error:  # whatever an import, a compiler or a driver raises, another road is there
            reasons.append(f"{make.__name__.strip('_')}: {type(error).__name__}: {_first_line(error)}")
    return Road(NumpyNoise(), "; ".join(reasons))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _triton(device: torch.device) -> Noise:
    from safety_tasks.noise.on_triton import TritonNoise

    return TritonNoise(device)


def _torch(device: torch.device) -> Noise:
    from safety_tasks.noise.on_torch import TorchNoise

    return TorchNoise(device)


def _is_exact(noise: Noise, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether some elements, from inside a block on, and a squared norm are numpy's."""
    reference, key, start, coefficient = NumpyNoise(), 2**127 + 1, 2**20 + 5, 1 / 1024 + 1 / 2**20
    pristine = torch.linspace(-1, 1, _CHECKED).to(dtype)
    expected, found = torch.empty_like(pristine), torch.empty_like(pristine, device=device)
    reference.add(expected, pristine, key, start, coefficient)
    noise.add(found, pristine.to(device), key, start, coefficient)
    same_norm = noise.squared_norm(key, _CHECKED) == reference.squared_norm(key, _CHECKED)
    return same_norm and torch.equal(found.cpu(), expected)


@cache
def squared_norm(noise: Noise, key: int, numel: int) -> int:
    """Sum of squares of the first ``numel`` samples of a key; computed once, since no alpha changes it."""
    return noise.squared_norm(key, numel)
