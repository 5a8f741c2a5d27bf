"""RayWorker: a worker as an actor of a Ray cluster, on any of its machines.

Each machine needs this package and the model where this one has it: a hub id, or a folder on a shared disk. Without a
cluster Ray starts one of this machine. Where the model under test lies on a card that the cluster counts as free, an
actor that does nothing holds it, so that no worker is put there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray as ray_library
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from safety_tasks.errors import InvalidSetting, MeasurementFailed
from safety_tasks.workers.host import Host, Order
from safety_tasks.workers.origin import Origin
from safety_tasks.workers.pool import NoRoom, Worker, WorkerDied

ray: Any = ray_library
"""Its types know neither the methods of actors nor its functions on nodes."""
_SECONDS = 60  # for an actor that only says which card it has
_ROOM_SECONDS = 600  # for a cluster to have room for a worker, which may start a machine for it
_MOST_THREADS = 16
_STATISTICS = "RAY_USAGE_STATS_ENABLED"


class RayWorker:
    """An actor with a Host."""

    def __init__(self, gpus: int, cpus: int, node: str | None = None) -> None:
        """What it takes of the cluster; ``node``: where it should be, if that is still there."""
        place = "DEFAULT" if node is None else NodeAffinitySchedulingStrategy(node, soft=True)
        actor = ray.remote(Host).options(num_gpus=gpus, num_cpus=cpus, max_restarts=0, scheduling_strategy=place)
        self._actor = actor.remote()

    def ask(self, request: Origin | Order) -> Any:
        """What ``Host.handle`` returns there; raises WorkerDied, and of an Origin NoRoom."""
        try:
            if isinstance(request, Origin):
                ray.get(self._actor.__ray_ready__.remote(), timeout=_ROOM_SECONDS)
            return ray.get(self._actor.handle.remote(request))
        except GetTimeoutError:
            raise NoRoom(f"Ray found no room for it within {_ROOM_SECONDS} s") from None
        except (RayActorError, OutOfMemoryError) as error:
            raise WorkerDied(str(error).strip().splitlines()[0]) from None
        except RayError as error:  # such as a class that is not to be had there
            raise MeasurementFailed(f"Ray could not ask a worker ({type(error).__name__}: {error})") from error

    def end(self) -> None:
        """Kill it."""
        ray.kill(self._actor)


@contextmanager
def cluster() -> Iterator[None]:
    """The context in which this process belongs to a cluster: the one it is in, one that runs, or a new one."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault(_STATISTICS, "0")  # a new cluster tells nobody of itself
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        ray.init(address="local", include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def hires_of_cpus(count: int | None) -> tuple[list[Callable[[], Worker]], int]:
    """What starts ``count`` - 1 workers on free CPUs, or one on each other machine; and the threads of each.

    Raises InvalidSetting where so many are not free.
    """
    free, here = _free("CPU"), ray.get_runtime_context().get_node_id()
    if count is None:
        nodes = [one for one in ray.nodes() if one["Alive"] and one["NodeID"] != here and one["Resources"].get("CPU")]
        threads = min((int(one["Resources"]["CPU"]) for one in nodes), default=1)
        return [partial(RayWorker, 0, threads, node["NodeID"]) for node in nodes], threads
    if count - 1 > free:
        raise InvalidSetting(f"workers is ray:{count}, and the cluster has {free} free CPUs: give fewer.")
    threads = max(1, free // count)
    return [partial(RayWorker, 0, threads)] * (count - 1), threads


@contextmanager
def hires_of_cards(card: str, count: int | None) -> Iterator[tuple[list[Callable[[], Worker]], int]]:
    """The same on free GPUs, one each: ``count`` - 1 of them or all, but for this process's own, by its name."""
    with _held(card):
        free, cpus = _free("GPU"), _free("CPU")
        if count is not None and count - 1 > free:
            raise InvalidSetting(
                f"workers is ray:{count}, and beside this process's own the cluster has {free} free GPUs: give fewer."
            )
        wanted = free if count is None else count - 1
        yield [partial(RayWorker, 1, 1)] * wanted, max(1, min(_MOST_THREADS, cpus // max(1, wanted)))


def _free(resource: str) -> int:
    """How many GPUs or CPUs (``GPU``, ``CPU``) of the cluster nobody has taken."""
    return int(ray.available_resources().get(resource, 0))


@contextmanager
def _held(card: str) -> Iterator[None]:
    """The context in which Ray gives a card of this machine, by its name, to no worker."""
    here = ray.get_runtime_context().get_node_id()
    node: Any = next((one for one in ray.nodes() if one["NodeID"] == here), {"Resources": {}})
    holders: list[Any] = []
    try:
        while len(holders) < node["Resources"].get("GPU", 0):
            strategy = NodeAffinitySchedulingStrategy(here, soft=False)
            holder = ray.remote(_Holder).options(num_gpus=1, num_cpus=0, scheduling_strategy=strategy).remote()
            holders.append(holder)
            try:
                found = ray.get(holder.cards.remote(), timeout=_SECONDS)
            except GetTimeoutError:  # all that are left are taken: no worker comes here
                break
            if card in found:
                break
        for other in holders[:-1]:  # asked for on the way; the last one has the card
            ray.kill(other)
        del holders[:-1]
        yield
    finally:
        for holder in holders:
            ray.kill(holder)


class _Holder:
    """Takes a card and leaves it alone."""

    def cards(self) -> list[str]:
        """The names of its cards."""
        return [str(name) for name in ray.get_gpu_ids()]
