"""Toward: a direction to a checkpoint that is known by name, and what makes it for a model.

Tasks plan their points before there is a model, and the answers that they read name the same points: neither holds a
checkpoint's weights. A measurement makes the directions once, from the unperturbed model, before anything moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from safety_tasks.directions import AnyDirection
from safety_tasks.layer_groups import GroupOfLayers
from safety_tasks.parallel import Orthogonal, Parallel
from safety_tasks.points import Point
from safety_tasks.unmade import Unmade
from safety_tasks.worst_points import Differentiable, WorstFor

if TYPE_CHECKING:
    from safety_tasks.checkpoints import CheckpointDirection


@dataclass(frozen=True, slots=True)
class Toward(Unmade):
    """The direction to a target by its name; it moves nothing before a model has made it."""

    target: str
    """A model as ``load_model`` takes it, or a LoRA adapter's folder."""
    beside: str | None = None
    """Another target: what is meant is the part at right angles to the direction to that one, as long as it."""

    @property
    def called(self) -> str:
        """What it is, in words."""
        return f"direction to the target {self.target!r}"

    def identity(self) -> dict[str, Any]:
        """The names; a made direction is told by fingerprints instead."""
        return {"kind": "toward", "target": self.target, "beside": self.beside}


class Guide(Protocol):
    """An engine whose model can be led to a target, and told in layers."""

    @property
    def n_layers(self) -> int:
        """How many layers the model has; 0 where the names of its parameters do not tell."""

    def direction_to(self, target: str) -> CheckpointDirection:
        """The direction to a target, made once; the weights are the model's own when this is asked."""

    def orthogonal(self, first: CheckpointDirection, second: CheckpointDirection) -> Orthogonal:
        """The second axis of the plane through the model and two targets."""


def points_made(engine: object, points: Iterable[Point]) -> dict[Point, Point]:
    """Each point that names a target, a group of layers or a worst direction, with that made for the engine's model.

    Others are left out. A point of an engine that leads to no target (a test double's) stays as it is.
    """
    if not hasattr(engine, "direction_to"):
        return {}
    guide = cast(Guide, engine)  # also one that stands before another, and passes on what it is asked
    named = [point for point in dict.fromkeys(points) if _has_to_be_made(point)]
    ways = {way: made(guide, way) for way in dict.fromkeys(point.direction for point in named)}
    return {point: Point(ways[point.direction], point.alpha) for point in named}


def _has_to_be_made(point: Point) -> bool:
    return isinstance(point.direction, GroupOfLayers | WorstFor) or bool(toward_of(point.direction))


def toward_of(direction: AnyDirection | None) -> list[Toward]:
    """The targets that a direction names."""
    if isinstance(direction, Parallel):
        return [*toward_of(direction.first), *toward_of(direction.second)]
    return [direction] if isinstance(direction, Toward) else []


def made(guide: Guide, direction: AnyDirection | None) -> AnyDirection | None:
    """The direction with all that is named in it made. Raises InvalidModel for a target that does not fit."""
    if isinstance(direction, Parallel):
        first, second = made(guide, direction.first), made(guide, direction.second)
        assert first is not None and second is not None
        return replace(direction, first=first, second=second)
    if isinstance(direction, GroupOfLayers):
        return direction.made(guide.n_layers)
    if isinstance(direction, WorstFor):
        return direction.made(cast(Differentiable, guide))
    if not isinstance(direction, Toward):
        return direction
    towards = guide.direction_to(direction.target)
    return guide.orthogonal(guide.direction_to(direction.beside), towards) if direction.beside else towards


def facts_of_made(made_points: dict[Point, Point]) -> dict[str, Any]:
    """What was made, for the record.

    ``targets``, by name: fingerprint, distance as a share of the weights' norm, place in a plane. ``worst_direction``:
    its gradient's hash.
    """
    worst = [at.direction for point, at in made_points.items() if isinstance(point.direction, WorstFor)]
    found = {"targets": _target_facts(made_points)} if made_points else {}
    return {**found, "worst_direction": worst[0].identity()} if worst and worst[0] else found


def _target_facts(made_points: dict[Point, Point]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for point, made_point in made_points.items():
        if isinstance(point.direction, Toward):
            facts: dict[str, Any] = getattr(made_point.direction, "facts", dict)()
            found[point.direction.target] = {**found.get(point.direction.target, {}), **facts}
    return found
