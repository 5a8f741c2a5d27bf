"""Coherence: whether a completion is language at all, apart from what it says.

A completion is coherent when its mean negative log-likelihood under the *unperturbed* weights lies at or below a cut
and it holds no repetition loop. The cut is the 99th percentile of the same model's completions at the origin, but
never below FLOOR: greedy text at the origin is as likely as text gets, and an answer that merely differs from it is
not noise. Source of the loop rule: "HS+" of Booster (git-disl/Booster, eval_sentiment.py: any word more than 3 times
in a row, letters only). Differs: loops of up to 8 words count as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

FLOOR = 3.0
"""Nats a token: a perplexity of 20, above what chat models give to each other's fluent answers."""
ORIGIN_QUANTILE = 0.99
_MOST_REPEATS = 3
_LONGEST_LOOP = 8


def coherence_cut(origin_nll: Sequence[float]) -> float:
    """The largest mean negative log-likelihood (nats a token) that counts as coherent."""
    import numpy as np

    return max(FLOOR, float(np.quantile(origin_nll, ORIGIN_QUANTILE))) if len(origin_nll) else FLOOR


def is_coherent(text: str, nll: float, cut: float) -> bool:
    """Whether a completion of this likelihood is language; an empty one is not."""
    return bool(text.strip()) and nll <= cut and not has_loop(text)


def has_loop(text: str) -> bool:
    """Whether any run of 1 to 8 words stands more than 3 times in a row, letters and case aside."""
    words = [re.sub(r"[^\w]", "", word).lower() for word in text.split()]
    words = [word for word in words if word]
    return any(_repeats(words, length) for length in range(1, _LONGEST_LOOP + 1))


def _repeats(words: list[str], length: int) -> bool:
    equal = 0
    for here, there in zip(words, words[length:], strict=False):
        equal = equal + 1 if here == there else 0
        if equal >= _MOST_REPEATS * length:
            return True
    return False
