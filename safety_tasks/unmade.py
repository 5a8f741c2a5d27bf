"""Unmade: a direction that is named before there is a model, and moves nothing until a model has made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from safety_tasks.directions import Weight
from safety_tasks.errors import NotPerturbable

if TYPE_CHECKING:
    import torch


class Unmade:
    """The refusals of such a direction: it is asked to move only where nothing could make it, as without weights."""

    __slots__ = ()

    @property
    def called(self) -> str:
        """What was not made, in words."""
        raise NotImplementedError

    def moving(self, weights: Sequence[Weight]) -> NoReturn:
        """Refused: raises NotPerturbable."""
        raise NotPerturbable(f"No {self.called} was made: this model type has no weights.")

    def moves(self, weight: Weight) -> NoReturn:
        """Refused."""
        self.moving([weight])

    def step(self, weight: Weight, alpha: float, device: torch.device, dtype: torch.dtype) -> NoReturn:
        """Refused."""
        self.moving([weight])

    def change(self, weight: Weight, alpha: float, device: torch.device) -> NoReturn:
        """Refused."""
        self.moving([weight])
