"""Drawing tokens: sampling whose randomness is a function of (seed, rendered prompt, answer, token position) alone.

One uniform number a token, from a counter-based generator, is inverted through the distribution that temperature,
top_k and top_p leave, in the order of token ids. So neither batch size, nor what else stands in the batch, nor an early
stop, nor the number of answers changes a draw. What they can change is the last bits of the logits, as other devices,
dtypes and versions do: a token differs where its number falls that near to a boundary, or where the last bits decide
which token is the last one kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from safety_tasks.noise import stream_key, uniforms
from safety_tasks.sampling import Draw

_PIECE = 256  # positions drawn at a time
_ENTRIES = 1 << 24  # logits worked on at a time, in fp64


class Sampler:
    """Draws the next token of each row of a batch."""

    def __init__(self, draw: Draw, keys: Sequence[int]) -> None:
        """``keys``: each row's, see ``row_key``."""
        self.draw, self.keys = draw, keys
        self._piece: tuple[int, np.ndarray] | None = None

    def choose(self, logits: torch.Tensor, rows: Sequence[int], step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens at a position, and whether the logits were finite; ``rows`` names the row of each line.

        Two tensors of shape (rows,). Edge: NaN and +inf forbid a token as -inf does; where all are, it is token 0.
        """
        device = logits.device
        if device.type == "mps":  # it has no fp64
            logits = logits.cpu()
        numbers = torch.from_numpy(self._numbers(step)[list(rows)]).to(logits.device)
        size = max(1, _ENTRIES // logits.shape[-1])
        tokens = [
            invert(kept_probabilities(part, self.draw), number)
            for part, number in zip(torch.split(logits, size), torch.split(numbers, size), strict=True)
        ]
        return torch.cat(tokens).to(device), logits.max(dim=-1).values.isfinite()

    def _numbers(self, step: int) -> np.ndarray:
        """Each row's uniform number at a position. Shape (all rows,)."""
        start = step // _PIECE * _PIECE
        if self._piece is None or self._piece[0] != start:
            self._piece = start, np.stack([uniforms(key, start, start + _PIECE) for key in self.keys])
        column: np.ndarray = self._piece[1][:, step - start]
        return column


def row_key(draw: Draw, rendered: str) -> int:
    """The key of one answer's random numbers."""
    return stream_key(draw.seed, draw.sample, f"answer:{rendered}")


def kept_probabilities(logits: torch.Tensor, draw: Draw) -> torch.Tensor:
    """The distribution that is drawn from, in fp64: 0 for tokens that are cut. Shape (rows, vocabulary), as given.

    Temperature, then top_k, then top_p among what is left, as transformers' ``generate`` has them; differs: tokens
    that tie with the last one kept are kept too, so that no order of sorting decides.
    """
    scores = logits.double()
    scores = torch.where(scores.isnan() | scores.isposinf(), -torch.inf, scores)
    best = scores.max(dim=-1, keepdim=True).values
    scores = torch.where(best.isinf(), _only_token_0(scores), (scores - best) / draw.temperature)
    if draw.top_k is not None and draw.top_k < scores.shape[-1]:
        least = scores.topk(draw.top_k).values[:, -1:]
        scores = scores.where(scores >= least, -torch.inf)
    probabilities = scores.softmax(dim=-1)
    if draw.top_p < 1:
        falling = probabilities.sort(dim=-1, descending=True).values
        before = falling.cumsum(dim=-1) - falling
        least = falling.where(before < draw.top_p, torch.inf).min(dim=-1, keepdim=True).values
        probabilities = probabilities.where(probabilities >= least, 0.0)
    return probabilities


def _only_token_0(scores: torch.Tensor) -> torch.Tensor:
    row = torch.full_like(scores[:1], -torch.inf)
    row[:, 0] = 0.0
    return row


def invert(probabilities: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The first token at which the sum of probabilities exceeds that share of their total. Shape (rows,)."""
    sums = probabilities.cumsum(dim=-1)
    total = sums[:, -1]
    wanted = torch.minimum(numbers * total, total.nextafter(torch.zeros_like(total)))  # rounding may reach the total
    return torch.searchsorted(sums, wanted[:, None], right=True)[:, 0]
