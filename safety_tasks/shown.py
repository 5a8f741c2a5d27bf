"""Shown: what shows itself as its plot in a notebook."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from safety_tasks.estimates import Estimate


class Shown:
    """A record with scores of which the plots know a chart."""

    def scores(self) -> Sequence[Estimate]:
        """The scores, in the order in which they are printed."""
        raise NotImplementedError

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """In a notebook: its plot, and the scores as text."""
        notebook = importlib.import_module("safety_tasks.plots.notebook")  # a room above, opened only to be shown
        return {**notebook.notebook_bundle(self), "text/plain": "\n".join(map(str, self.scores()))}
