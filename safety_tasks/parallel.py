"""Parallel and Orthogonal: the directions of a plane through the model.

A plane is theta + alpha d1 + beta d2; two random directions are not made orthogonal, two checkpoints' are.
Source: Peng et al. 2024 (arXiv 2405.17374), eq. 3 and 4. Differs: the code published with the paper moves the weights
by repeated additions, and lacks eq. 4; here a point is summed in float64 from the pristine weights and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from safety_tasks.directions import CHUNK, AnyDirection, Change, Step, Weight, canonical_name
from safety_tasks.errors import InvalidModel

if TYPE_CHECKING:
    import torch
    from torch import nn

    from safety_tasks.checkpoints import CheckpointDirection

_PIECE = 1 << 22  # elements summed at a time: a step takes about 30 bytes each
_PARALLEL = 1e-4  # sine of an angle between checkpoints below which rounding makes most of what is left


@dataclass(frozen=True, slots=True)
class Parallel:
    """The line parallel to ``first`` through the point at ``beta`` along ``second``: theta + alpha d1 + beta d2."""

    first: AnyDirection
    second: AnyDirection
    beta: float

    def moving(self, weights: Sequence[Weight]) -> list[str]:
        """What either direction moves, in the model's order."""
        either = {*self.first.moving(weights), *self.second.moving(weights)}
        return [weight.name for weight in weights if weight.name in either]

    def moves(self, weight: Weight) -> bool:
        """Whether either direction moves it."""
        return self.first.moves(weight) or self.second.moves(weight)

    def step(self, weight: Weight, alpha: float, device: torch.device, dtype: torch.dtype) -> Step:
        """To theta + alpha d1 + beta d2."""
        return rounded(self.change(weight, alpha, device))

    def change(self, weight: Weight, alpha: float, device: torch.device) -> Change:
        """Alpha d1 + beta d2."""
        both = ((self.first, alpha), (self.second, self.beta))
        changes = [way.change(weight, at, _summing(device)) for way, at in both if way.moves(weight)]

        def add(total: torch.Tensor, pristine: torch.Tensor, start: int) -> None:
            for change in changes:
                change(total, pristine, start)

        return add

    def identity(self) -> dict[str, Any]:
        """Both directions, and beta."""
        return {
            "kind": "parallel",
            "first": self.first.identity(),
            "second": self.second.identity(),
            "beta": self.beta,
        }


@dataclass(frozen=True, slots=True)
class Orthogonal:
    """What the direction to ``second`` has at right angles to that to ``first``, as long as the latter: eq. 4.

    (d2 - ratio d1) scale, over all parameters as one vector.
    """

    first: CheckpointDirection
    second: CheckpointDirection
    ratio: float
    """d1 d2 / |d1|^2."""
    scale: float
    """|d1| / |d2 - ratio d1|."""

    def moving(self, weights: Sequence[Weight]) -> list[str]:
        """Every parameter; raises InvalidModel when this is not the model it was made for."""
        self.first.moving(weights)
        return self.second.moving(weights)

    def moves(self, weight: Weight) -> bool:
        """Always."""
        return True

    def step(self, weight: Weight, alpha: float, device: torch.device, dtype: torch.dtype) -> Step:
        """To theta + alpha d."""
        return rounded(self.change(weight, alpha, device))

    def change(self, weight: Weight, alpha: float, device: torch.device) -> Change:
        """Alpha d."""
        towards = self.second.change(weight, alpha * self.scale, _summing(device))
        back = self.first.change(weight, -alpha * self.scale * self.ratio, _summing(device))

        def add(total: torch.Tensor, pristine: torch.Tensor, start: int) -> None:
            towards(total, pristine, start)
            back(total, pristine, start)

        return add

    @property
    def place(self) -> tuple[float, float]:
        """Where the second target lies in the plane of both: (alpha, beta)."""
        return self.ratio, 1 / self.scale

    def facts(self) -> dict[str, Any]:
        """As of the second target's direction, and its place in the plane."""
        return {**self.second.facts(), "place": list(self.place)}

    def identity(self) -> dict[str, Any]:
        """Both targets."""
        return {"kind": "orthogonal", "first": self.first.identity(), "second": self.second.identity()}


def rounded(change: Change) -> Step:
    """The step that a change makes: summed in float64, rounded to the parameter's dtype.

    To half precision the rounding goes by way of float32, as torch does it.
    """
    import torch

    def write(out: torch.Tensor, pristine: torch.Tensor, start: int) -> None:
        for at in range(0, len(out), _PIECE):
            piece = slice(at, at + _PIECE)
            before = pristine[piece].to(_summing(out.device))
            total = before.to(torch.float64, copy=True)
            change(total, before, start + at)
            out[piece].copy_(total)

    return write


def _summing(device: torch.device) -> torch.device:
    """Where sums are taken: on the device, or in host memory where it has no float64 (MPS)."""
    import torch

    return torch.device("cpu") if device.type == "mps" else device


class _Products(NamedTuple):
    first: float
    second: float
    both: float


def orthogonal(model: nn.Module, first: CheckpointDirection, second: CheckpointDirection) -> Orthogonal:
    """The second axis of the plane through a model and two targets; ``model`` is the one that both were made for.

    Raises InvalidModel when the three lie on one line.
    """
    found = _products(model, first, second)
    ratio = found.both / found.first
    left = found.second - ratio * found.both
    if left <= _PARALLEL**2 * found.second:
        raise InvalidModel(
            "The model and its two targets lie on one line: there is no plane through them. Name a target of another "
            "fine-tuning, or draw the line itself (visage_interpolation)."
        )
    return Orthogonal(first, second, ratio, math.sqrt(found.first / left))


def _products(model: nn.Module, first: CheckpointDirection, second: CheckpointDirection) -> _Products:
    """|d1|^2, |d2|^2 and d1 d2, in float64, by pieces."""
    total = _Products(0.0, 0.0, 0.0)
    for name, parameter in model.named_parameters():
        if not parameter.numel():
            continue
        flat = parameter.detach().reshape(-1)
        one, other = (side.target[canonical_name(name)] for side in (first, second))
        for start in range(0, len(flat), CHUNK):
            piece = slice(start, start + CHUNK)
            begin = flat[piece].cpu().double()
            d1, d2 = one[piece].double() - begin, other[piece].double() - begin
            total = _Products(*(t + float(p) for t, p in zip(total, (d1 @ d1, d2 @ d2, d1 @ d2), strict=True)))
    return total
