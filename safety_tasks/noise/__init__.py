"""The noise of random directions: 16-bit Gaussian samples that are a function of (key, element index) and no more.

This file says what the bits are, in numpy, and draws them on the CPU. ``on_torch`` and ``on_triton`` give the same
bits on other devices; ``roads`` chooses among them. Source: Philox4x64-10 of Salmon et al. 2011 ("Parallel random
numbers: as easy as 1, 2, 3"), with the counter of numpy: block b of 16 samples is drawn at counter b + 1.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

NOISE_VERSION = "philox4x64-table16-v1"
SAMPLES_PER_BLOCK = 16  # a Philox4x64 block is 4 words of 64 bits; a sample takes 16 bits
_WORDS = 4  # a block's
STEPS_PER_SIGMA = 1890  # the largest |sample| is 8,164 < 2^13, which with 11 bits of coefficient fits fp32's 24


def stream_key(seed: int, index: int, name: str) -> int:
    """The 128-bit key of one tensor's noise."""
    text = f"{NOISE_VERSION}:{seed}:{index}:{name}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def samples(key: int, start: int, stop: int) -> NDArray[np.int16]:
    """Elements ``start`` to ``stop`` of a key's noise: shape (stop - start,), in 1/1890 sigma."""
    found: NDArray[np.int16] = gaussian_table()[ranks(key, start, stop)]
    return found


def ranks(key: int, start: int, stop: int) -> NDArray[np.uint16]:
    """The places in the Gaussian table of elements ``start`` to ``stop``. Shape (stop - start,)."""
    first, last = start // SAMPLES_PER_BLOCK, -(-stop // SAMPLES_PER_BLOCK)
    bits = np.random.Philox(key=key)
    bits.advance(first)
    words = bits.random_raw(4 * (last - first)).astype("<u8", copy=False)
    offset = first * SAMPLES_PER_BLOCK
    return words.view("<u2")[start - offset : stop - offset]


def uniforms(key: int, start: int, stop: int) -> NDArray[np.float64]:
    """Elements ``start`` to ``stop`` of a key's stream of uniform draws in [0, 1), of 53 bits each: (stop - start,)."""
    first = start // _WORDS
    bits = np.random.Philox(key=key)
    bits.advance(first)
    words = bits.random_raw(stop - first * _WORDS)[start - first * _WORDS :]
    found: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found


@cache
def gaussian_table() -> NDArray[np.int16]:
    """The standard normal's quantiles at (i + 1/2) / 65,536 in steps of 1/1890 sigma. Shape (65536,)."""
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(65536) + 0.5) / 65536)
    table: NDArray[np.int16] = np.rint(quantiles * STEPS_PER_SIGMA).astype(np.int16)
    return table
