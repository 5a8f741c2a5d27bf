"""Directions: ways through weight space, and the random one.

A random direction is a seeded Gaussian step, each tensor scaled to its weight's Frobenius norm. The noise of an
element is a function of (seed, index of the direction, canonical parameter name, element index) and of nothing else:
not of the order of parameters, their dtype, device, or how much of a tensor is asked for.
Source: Peng et al. 2024 (arXiv 2405.17374), eq. 1 and 2 ("layer normalisation"). Differs: N(0, 1) is quantised to
65,536 equally likely values (standard deviation 1.0000, largest value 4.32 standard deviations), and the coefficient
of a tensor is rounded to 11 significant bits (relative error below 4.9e-4) so that every product is exact in fp32.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from safety_tasks.blocks import Block, limited_to
from safety_tasks.noise import NOISE_VERSION, samples, stream_key

if TYPE_CHECKING:
    import torch

    from safety_tasks.noise.roads import Noise

__all__ = ["CHUNK", "NOISE_VERSION", "AnyDirection", "Change", "Direction", "Step", "Weight", "canonical_name"]

CHUNK = 1 << 20
"""Elements worked on at a time on a CPU: bounds the memory that a step takes."""
_COEFFICIENT_BITS = 11

Step: TypeAlias = "Callable[[torch.Tensor, torch.Tensor, int], None]"
"""``step(out, pristine, start)`` sets ``out`` to the moved values of ``pristine``, a parameter from ``start`` on.

Both are flat, of the parameter's dtype and on its device, and may be the same tensor. Several threads may call it at
once. The values depend on nothing but the arguments, and are rounded once.
"""
Change: TypeAlias = "Callable[[torch.Tensor, torch.Tensor, int], None]"
"""``change(total, pristine, start)`` adds alpha d to ``total``, of float64; ``pristine`` and ``start`` as of a Step.

Both tensors are on one device. What is added is not rounded before the sum is: that is how two directions make a point.
"""


@dataclass(frozen=True, slots=True)
class Weight:
    """What a direction may know of a parameter of the model that it moves."""

    name: str
    """Canonical: the checkpoint's own name."""
    shape: tuple[int, ...]
    dtype: str
    norm: float
    """Frobenius norm of the pristine tensor."""
    is_of_norm_layer: bool

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class AnyDirection(Protocol):
    """A way through weight space. Hashable and equatable, so that it can stand in a Point."""

    def moving(self, weights: Sequence[Weight]) -> list[str]:
        """The names, of all parameters of a model, of those that move; the others stay at their pristine values.

        Raises InvalidSetting or InvalidModel when the direction does not fit the model, before anything moves.
        """

    def step(self, weight: Weight, alpha: float, device: torch.device, dtype: torch.dtype) -> Step:
        """How one parameter moves to ``alpha``; several threads may ask at once."""

    def moves(self, weight: Weight) -> bool:
        """Whether the parameter is one of ``moving``."""

    def change(self, weight: Weight, alpha: float, device: torch.device) -> Change:
        """What ``step`` adds to one parameter that moves, before anything is rounded."""

    def identity(self) -> dict[str, Any]:
        """Everything that tells this direction from others, as plain values for JSON."""


@dataclass(frozen=True, slots=True)
class Direction:
    """The ``index``-th random direction of a seed; a block limits what moves and changes no noise inside it."""

    seed: int
    index: int = 0
    block: Block | None = None

    def moving(self, weights: Sequence[Weight]) -> list[str]:
        """The parameters inside the block, norm layers left out."""
        return limited_to(self.block, [weight.name for weight in weights if not weight.is_of_norm_layer])

    def step(self, weight: Weight, alpha: float, device: torch.device, dtype: torch.dtype) -> Step:
        """To theta + alpha d."""
        noise, key, coefficient = self._scaled(weight, alpha, device, dtype)
        return lambda out, pristine, start: noise.add(out, pristine, key, start, coefficient)

    def moves(self, weight: Weight) -> bool:
        """Whether it is inside the block and in no norm layer."""
        return not weight.is_of_norm_layer and (self.block is None or self.block.holds(weight.name))

    def change(self, weight: Weight, alpha: float, device: torch.device) -> Change:
        """Alpha d: its products are exact in float32."""
        import torch

        noise, key, coefficient = self._scaled(weight, alpha, device, torch.float32)

        def add(total: torch.Tensor, pristine: torch.Tensor, start: int) -> None:
            products = torch.zeros(len(total), dtype=torch.float32, device=total.device)
            noise.add(products, products, key, start, coefficient)
            total.add_(products)

        return add

    def _scaled(
        self, weight: Weight, alpha: float, device: torch.device, dtype: torch.dtype
    ) -> tuple[Noise, int, float]:
        """The noise of a parameter, its key, and what multiplies it."""
        from safety_tasks.noise.roads import road_for, squared_norm

        noise, key = road_for(device, dtype).noise, stream_key(self.seed, self.index, weight.name)
        return noise, key, step_coefficient(squared_norm(noise, key, weight.numel), weight.norm, alpha)

    def identity(self) -> dict[str, Any]:
        """Seed, index, version of the noise, block."""
        return {
            "kind": "random",
            "seed": self.seed,
            "index": self.index,
            "noise": NOISE_VERSION,
            "block": self.block.identity() if self.block else None,
        }

    def noise(self, name: str, start: int, stop: int) -> NDArray[np.int16]:
        """Elements ``start`` to ``stop`` of the flattened tensor ``name``: shape (stop - start,), in 1/1890 sigma."""
        return samples(stream_key(self.seed, self.index, name), start, stop)


def step_coefficient(squared_norm: int, weight_norm: float, alpha: float) -> float:
    """What multiplies the noise so that the step's Frobenius norm is |alpha| times ``weight_norm``."""
    return _round_to_bits(alpha * weight_norm / math.sqrt(squared_norm)) if squared_norm else 0.0


def _round_to_bits(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * (1 << _COEFFICIENT_BITS)), exponent - _COEFFICIENT_BITS)


# Prefixes that wrappers (peft, torch.compile, DataParallel) put before a checkpoint's own names.
_WRAPPERS = re.compile(r"^(?:base_model\.model\.|_orig_mod\.|module\.)+|(?<=\.)_orig_mod\.")


@cache
def canonical_name(name: str) -> str:
    """The checkpoint's own name of a parameter, without the prefixes of wrappers."""
    return _WRAPPERS.sub("", name)
