"""Hiring: how many workers a measurement has, where they are, and what of the machine each gets."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from safety_tasks.answering import Answerer, Job
from safety_tasks.engine import Engine
from safety_tasks.errors import InvalidModel, InvalidSetting
from safety_tasks.gpus import visible_gpus
from safety_tasks.points import Point
from safety_tasks.settings import Settings
from safety_tasks.workers.host import Order, Reply
from safety_tasks.workers.origin import Origin, origin_of
from safety_tasks.workers.pool import Pool, Worker
from safety_tasks.worst_points import WorstFor

_log = logging.getLogger(__name__)
_ALONE = "Measure it with workers=1"


class Hires(NamedTuple):
    """The workers that there may be beside this process."""

    workers: Sequence[Callable[[], Worker]]
    """Each starts one."""
    threads: int
    """Of each, and of this process on a CPU."""


@contextmanager
def helped(
    answerer: Answerer,
    jobs: Sequence[Job],
    planned: Mapping[Point, Point],
    workers: str,
    may_begin: Callable[[], bool],
) -> Iterator[Callable[[], dict[str, int]]]:
    """The context in which workers answer jobs ahead of the answerer; yields what tells the facts of it.

    ``planned``: made points with what they were made of; ``workers``: the setting. ``may_begin``: whether there is
    time for another job. Raises InvalidSetting where there are fewer cards than workers, and InvalidModel where they
    cannot have the model.
    """
    origin = _origin(answerer.engine, workers)
    jobs = [job for job in jobs if not isinstance(planned.get(job.point, job.point).direction, WorstFor)]
    with ExitStack() as stack:
        found = Hires([], 1)
        if origin is not None and len(jobs) > 1:
            found = stack.enter_context(_hires(answerer.engine, origin, workers))
        hires = found.workers[: len(jobs) - 1]
        if origin is None or not hires:
            yield dict
            return
        origin = replace(origin, threads=found.threads)
        pool = Pool(hires, origin, partial(_order, planned), partial(_keep, answerer), may_begin)
        stack.enter_context(_threads(origin))
        stack.enter_context(pool)
        pool.offer(jobs)
        answerer.helper = pool
        try:
            yield lambda: {"workers": 1 + len(hires), "workers_replaced": pool.n_replaced}
        finally:
            answerer.helper = None


def refuse_processes(settings: Settings, processes: int) -> None:
    """Raise InvalidSetting where a launcher's processes share the prompts, and the cards, already."""
    if processes > 1 and settings.workers not in ("1", "auto"):
        raise InvalidSetting(
            f"workers is {settings.workers!r}, and {processes} processes share the prompts here: run it in one process "
            "(without accelerate launch), or leave workers at 1."
        )


def _order(planned: Mapping[Point, Point], job: Job) -> Order:
    return Order(planned.get(job.point, job.point), job.point.identity(), job.batch)


def _keep(answerer: Answerer, job: Job, reply: Reply) -> None:
    """Write a reply to the journal, and keep how far its batch was halved."""
    answerer.keep(job, reply.completions, reply.seconds)
    log = getattr(answerer.engine, "log", None)
    if log is not None and reply.smallest_batch is not None:
        log.smallest_batch = min(reply.smallest_batch, log.smallest_batch or reply.smallest_batch)


def _origin(engine: Engine, workers: str) -> Origin | None:
    """Where the workers get the model; None where there are none.

    A number or a cluster was asked for: a model that they cannot have is refused. ``auto`` goes without them, as it
    does where a launcher has a process on each card.
    """
    if workers == "1" or (workers == "auto" and (_is_one_of_several() or len(visible_gpus(os.environ)) < 2)):
        return None
    try:
        return origin_of(engine)
    except InvalidModel as error:
        if workers == "auto":
            _log.warning("One process measures: workers cannot have the model, as %s.", error)
            return None
        raise InvalidModel(f"workers is {workers!r}, and workers cannot have the model: {error}. {_ALONE}.") from None


@contextmanager
def _hires(engine: Engine, origin: Origin, workers: str) -> Iterator[Hires]:
    """The workers that there may be, with what they need while they live."""
    index = None
    if origin.device == "cuda":
        index = torch.device((engine.identity() or {})["device"]).index or 0
    if not workers.startswith("ray"):
        yield _processes(index, workers)
        return
    from safety_tasks.workers.on_ray import cluster, hires_of_cards, hires_of_cpus

    count = int(workers[4:]) if workers[4:] else None
    with cluster():
        if index is None:
            yield Hires(*hires_of_cpus(count))
            return
        with hires_of_cards(_cards()[index], count) as found:
            yield Hires(*found)


def _processes(index: int | None, workers: str) -> Hires:
    """One a card beside this process's own; on a CPU as many as were asked for."""
    from safety_tasks.workers.process import ProcessWorker

    cards = _cards()
    if index is None:
        others = [] if workers == "auto" else [""] * (int(workers) - 1)
    else:
        others = [card for at, card in enumerate(cards) if at != index]
        count = len(others) if workers == "auto" else int(workers) - 1
        if count > len(others):
            raise InvalidSetting(f"workers is {workers}, and {len(cards)} GPUs are visible: each worker needs its own.")
        others = others[:count]
    threads = max(1, min(torch.get_num_threads(), _cores() // (1 + len(others))))
    return Hires([partial(ProcessWorker, card, threads) for card in others], threads)


def _is_one_of_several() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _cards() -> list[str]:
    """By their names, as torch counts them where there is no nvidia-smi."""
    return visible_gpus(os.environ) or [str(at) for at in range(torch.cuda.device_count())]


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _threads(origin: Origin) -> Iterator[None]:
    """The context in which this process, too, takes its share of the cores and no more."""
    before = torch.get_num_threads()
    if origin.device == "cpu":
        torch.set_num_threads(min(before, origin.threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)
