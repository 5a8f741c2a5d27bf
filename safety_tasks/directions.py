"""Direction: a seeded Gaussian step in weight space, each tensor scaled to its weight's Frobenius norm.

The noise of an element is a function of (seed, index of the direction, canonical parameter name, element index)
and of nothing else: not of the order of parameters, their dtype, device, or how much of a tensor is asked for.
Source: Peng et al. 2024 (arXiv 2405.17374), eq. 1 and 2 ("layer normalisation"). Differs: N(0, 1) is quantised to
65,536 equally likely values (standard deviation 1.0000, largest value 4.32 standard deviations), and the coefficient
of a tensor is rounded to 11 significant bits (relative error below 4.9e-4) so that every product is exact in fp32.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

NOISE_VERSION = "philox4x64-table16-v1"
_SAMPLES_PER_BLOCK = 16  # a Philox4x64 block is 4 words of 64 bits; a sample takes 16 bits
_STEPS_PER_SIGMA = 1890  # the largest |sample| is 8,164 < 2^13, which with 11 bits of coefficient fits fp32's 24
_COEFFICIENT_BITS = 11


@dataclass(frozen=True, slots=True)
class Direction:
    """The ``index``-th random direction of a seed."""

    seed: int
    index: int = 0

    def noise(self, name: str, start: int, stop: int) -> NDArray[np.int16]:
        """Elements ``start`` to ``stop`` of the flattened tensor ``name``: shape (stop - start,), in 1/1890 sigma."""
        first, last = start // _SAMPLES_PER_BLOCK, -(-stop // _SAMPLES_PER_BLOCK)
        bits = np.random.Philox(key=self._key(name))
        bits.advance(first)
        words = bits.random_raw(4 * (last - first)).astype("<u8")
        offset = first * _SAMPLES_PER_BLOCK
        samples: NDArray[np.int16] = _gaussian_table()[words.view("<u2")[start - offset : stop - offset]]
        return samples

    def squared_norm(self, name: str, numel: int) -> int:
        """Sum of squares of the tensor's noise, an exact integer, so that no order of summation matters."""
        return _squared_norm(self, name, numel)

    def coefficient(self, name: str, numel: int, weight_norm: float, alpha: float) -> float:
        """What multiplies the noise so that the step's Frobenius norm is |alpha| times ``weight_norm``."""
        squared = self.squared_norm(name, numel)
        return _round_to_bits(alpha * weight_norm / math.sqrt(squared)) if squared else 0.0

    def _key(self, name: str) -> int:
        text = f"{NOISE_VERSION}:{self.seed}:{self.index}:{name}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


CHUNK = 1 << 20
"""Elements worked on at a time: bounds the memory that noise takes."""


@cache
def _squared_norm(direction: Direction, name: str, numel: int) -> int:
    total = 0
    for start in range(0, numel, CHUNK):
        samples = direction.noise(name, start, min(start + CHUNK, numel)).astype(np.int64)
        total += int(samples @ samples)
    return total


@cache
def _gaussian_table() -> NDArray[np.int16]:
    """The standard normal's quantiles at (i + 1/2) / 65,536 in steps of 1/1890 sigma. Shape (65536,)."""
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(65536) + 0.5) / 65536)
    table: NDArray[np.int16] = np.rint(quantiles * _STEPS_PER_SIGMA).astype(np.int16)
    return table


def _round_to_bits(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * (1 << _COEFFICIENT_BITS)), exponent - _COEFFICIENT_BITS)


# Prefixes that wrappers (peft, torch.compile, DataParallel) put before a checkpoint's own names.
_WRAPPERS = re.compile(r"^(?:base_model\.model\.|_orig_mod\.|module\.)+|(?<=\.)_orig_mod\.")


def canonical_name(name: str) -> str:
    """The checkpoint's own name of a parameter, without the prefixes of wrappers."""
    return _WRAPPERS.sub("", name)
