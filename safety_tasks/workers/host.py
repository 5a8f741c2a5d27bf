"""Host: what a worker does: it loads the model of an origin, and answers batches at points."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any, NamedTuple

from safety_tasks.answering import Answerer, Batch, answer
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidInput, InvalidModel
from safety_tasks.journal import Journal
from safety_tasks.points import ORIGIN, Point
from safety_tasks.repeats import varied_as
from safety_tasks.targets import points_made
from safety_tasks.workers.origin import Identity, Origin, comparable


class Order(NamedTuple):
    """A batch at a point, as it travels: no tensor with it."""

    point: Point
    """As it was planned: the worker makes its direction."""
    identity: Identity
    """Of the point once it is made."""
    batch: Batch


class Reply(NamedTuple):
    """What a worker answered to an order."""

    completions: list[Any]
    """Plain values."""
    seconds: float
    smallest_batch: int | None
    """As DecodingLog has it."""


class Failure(NamedTuple):
    """What went wrong in a worker, as a sentence."""

    message: str
    is_input: bool
    """Whether what was asked for cannot be done, rather than that something broke."""


class Host:
    """A model in a worker's process."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._answerer: Answerer | None = None
        self._made: dict[Point, Point] = {}
        self._log: Any = None

    def handle(self, request: Origin | Order | Exception) -> Identity | Reply | Failure:
        """The identity of what an origin gave, or the reply to an order; never raises an Exception."""
        try:
            if isinstance(request, Exception):
                raise request
            return self._load(request) if isinstance(request, Origin) else self._answer(request)
        except Exception as error:  # goes to the process that measures, which raises it
            is_input = isinstance(error, InvalidInput)
            return Failure(str(error) if is_input else f"{type(error).__name__}: {error}", is_input)

    def _load(self, origin: Origin) -> Identity:
        engine = HuggingFaceEngine(origin.load(), origin.batch_size)
        self._log = engine.log
        varied = engine if origin.variation is None else self._stack.enter_context(varied_as(engine, origin.variation))
        self._answerer = Answerer(varied, Journal(), None)
        identity = varied.identity()
        if identity is None:
            raise InvalidModel(f"The weights of {engine.name} are not all in its parameters.")
        return comparable(identity)

    def _answer(self, order: Order) -> Reply:
        answerer, start = self._answerer, time.monotonic()
        assert answerer is not None
        place = self._place(answerer, order)
        if place != ORIGIN and answerer.mover is None:
            answerer.mover = self._stack.enter_context(answerer.engine.moving())
        answerer.go_to(place)
        completions = [one.to_dict() for one in answer(answerer.engine, *order.batch)]
        return Reply(completions, round(time.monotonic() - start, 6), self._log.smallest_batch)

    def _place(self, answerer: Answerer, order: Order) -> Point:
        """The point with its direction made, which is done at the unperturbed weights."""
        if order.point not in self._made:
            answerer.go_to(ORIGIN)
            self._made[order.point] = points_made(answerer.engine, [order.point]).get(order.point, order.point)
        place = self._made[order.point]
        if place.identity() != order.identity:
            raise InvalidModel(
                f"A worker made another direction to {order.point} than this process: measure it with workers=1."
            )
        return place
