"""GroupOfLayers: a random direction limited to a part of the depth of a model that is not loaded yet.

Tasks plan their points before there is a model, and only the model tells how many layers it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safety_tasks.blocks import Block, layer_of
from safety_tasks.directions import Direction, canonical_name
from safety_tasks.errors import NotPerturbable
from safety_tasks.unmade import Unmade

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class GroupOfLayers(Unmade):
    """The ``index``-th random direction of a seed in one group of layers; it moves nothing before a model made it."""

    seed: int
    index: int
    group: int
    """From 0, the layers next to the input."""
    groups: int

    def made(self, n_layers: int) -> Direction:
        """The direction for a model of so many layers. Raises NotPerturbable where they are fewer than the groups."""
        return Direction(self.seed, self.index, block_of_group(self.group, self.groups, n_layers))

    @property
    def called(self) -> str:
        """What it is, in words."""
        return "group of layers"

    def identity(self) -> dict[str, Any]:
        """The group among the groups; a made direction is told by its layers instead."""
        return {"kind": "group", "seed": self.seed, "index": self.index, "group": self.group, "groups": self.groups}


def block_of_group(group: int, groups: int, n_layers: int) -> Block:
    """The layers of a group: groups differ in size by one layer at most."""
    if groups > n_layers:
        layers = f"{n_layers} numbered layers" if n_layers else "no numbered layers that its names tell"
        raise NotPerturbable(
            f"The model has {layers}, which {groups} groups cannot divide: choose fewer with "
            "--metadata visage_layer_groups=N (pytest: --llm-layer-groups N)."
        )
    return Block(layers=(round(n_layers * group / groups), round(n_layers * (group + 1) / groups)))


def layers_among(names: Iterable[str]) -> int:
    """How many layers the parameters of these names are in; 0 where no name tells."""
    return 1 + max((layer for name in names if (layer := layer_of(canonical_name(name))) is not None), default=-1)
