"""Pool: a queue of jobs that this process and its workers share, the next free one first.

Each worker has a thread here that hands it jobs and takes its answers. A worker that dies is replaced and its job
handed out again, to workers as long as there is room for any; a job during which three died is an error. Nothing begins
once the time is spent.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

from safety_tasks.answering import Job
from safety_tasks.errors import InvalidModel, MeasurementFailed
from safety_tasks.workers.host import Failure, Order, Reply
from safety_tasks.workers.origin import Origin, check_same

MOST_DEATHS = 3
_POLL = 0.5  # seconds between two looks at the clock
_log = logging.getLogger(__name__)


class WorkerDied(Exception):
    """A worker ended, or was ended, before it answered."""


class NoRoom(Exception):
    """A worker could not be started, as no machine has room for it."""


class Worker(Protocol):
    """A process with a Host; it may be asked from one thread and ended from another."""

    def ask(self, request: Origin | Order) -> Any:
        """What ``Host.handle`` returns there; raises WorkerDied, and of an Origin NoRoom."""

    def end(self) -> None:
        """End it at once, whatever it does; idempotent."""


class Pool:
    """A context manager: its workers start on entering, and none is left on leaving. A ``Helper`` of an Answerer."""

    def __init__(
        self,
        hires: Sequence[Callable[[], Worker]],
        origin: Origin,
        order: Callable[[Job], Order],
        keep: Callable[[Job, Reply], None],
        may_begin: Callable[[], bool],
    ) -> None:
        """``hires``: start one worker each. ``keep`` takes every reply of a worker in, from its thread."""
        self._origin, self._order, self._keep, self._may_begin = origin, order, keep, may_begin
        self._changed = threading.Condition()
        self._waiting: dict[Job, None] = {}
        self._again: list[Job] = []
        """Those during which a worker died."""
        self._under_way: set[Job] = set()
        self._done: dict[Job, list[Any]] = {}
        self._deaths: Counter[Job | None] = Counter()
        self._workers: list[Worker] = []
        self._failure: Exception | None = None
        self._is_closed = False
        self._threads = [threading.Thread(target=self._tend, args=(hire,), daemon=True) for hire in hires]

    def __enter__(self) -> Pool:
        """Begin to start them; this does not wait until they have loaded."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every worker, whatever it does."""
        with self._changed:
            self._is_closed = True
            workers = list(self._workers)
            self._changed.notify_all()
        for worker in workers:
            worker.end()
        for thread in self._threads:
            thread.join()

    @property
    def n_replaced(self) -> int:
        """Workers that died and were replaced."""
        return sum(self._deaths.values())

    def offer(self, jobs: Sequence[Job]) -> None:
        """Queue jobs, the first of them first."""
        with self._changed:
            self._waiting.update(dict.fromkeys(jobs))
            self._changed.notify_all()

    def answers(self, job: Job, here: Callable[[Job], list[Any]]) -> list[Any]:
        """The answers to a job; while a worker has it, this process does others.

        Raises MeasurementFailed and InvalidModel for what went wrong in a worker.
        """
        while True:
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                if job in self._done:
                    return self._done.pop(job)
                chosen = self._chosen_here(job)
                if chosen is None:
                    self._changed.wait(_POLL)
                    continue
                self._waiting.pop(chosen, None)
                self._again = [one for one in self._again if one != chosen]
            answered = here(chosen)
            if chosen == job:
                return answered
            with self._changed:
                self._done[chosen] = answered

    def has(self, job: Job) -> bool:
        """Whether it was answered ahead."""
        with self._changed:
            return job in self._done

    def will_have(self, jobs: Sequence[Job]) -> bool:
        """Whether all were answered ahead; those that a worker is at are waited for."""
        with self._changed:
            while self._failure is None and self._under_way.intersection(jobs):
                self._changed.wait(_POLL)
            return all(job in self._done for job in jobs)

    def _chosen_here(self, job: Job) -> Job | None:
        """What this process does now; None: wait."""
        is_for_workers = job in self._again and any(thread.is_alive() for thread in self._threads)
        if job not in self._under_way and not is_for_workers:
            return job
        return next(iter(self._waiting), None) if self._may_begin() else None

    # -- the threads ----------------------------------------------------------------------------------------------

    def _tend(self, hire: Callable[[], Worker]) -> None:
        try:
            worker = None
            while (worker := worker or self._hired(hire)) and (job := self._claimed()):
                try:
                    reply = _checked(worker.ask(self._order(job)))
                except WorkerDied as death:
                    self._bury(worker, job, death)
                    worker = None
                else:
                    self._finish(job, reply)
        except Exception as error:  # raised where the answers are asked for
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()

    def _hired(self, hire: Callable[[], Worker]) -> Worker | None:
        """A worker that has the model; None where none is wanted any more, or there is no room for one."""
        while True:
            with self._changed:
                if self._is_closed:
                    return None
            worker = hire()
            with self._changed:
                self._workers.append(worker)
                is_late = self._is_closed
            if is_late:
                worker.end()
                return None
            try:
                check_same(self._origin.identity, _checked(worker.ask(self._origin)))
                return worker
            except WorkerDied as death:
                self._bury(worker, None, death)
            except NoRoom as error:
                _log.warning("The measurement goes on with a worker less: %s.", error)
                worker.end()
                return None

    def _claimed(self) -> Job | None:
        """The next job for a worker, once there is one; None where none will come."""
        with self._changed:
            while not self._is_closed and self._failure is None:
                if self._again:
                    job = self._again.pop(0)
                elif self._waiting and self._may_begin():
                    job = next(iter(self._waiting))
                    del self._waiting[job]
                else:
                    self._changed.wait(_POLL)
                    continue
                self._under_way.add(job)
                return job
        return None

    def _finish(self, job: Job, reply: Reply) -> None:
        self._keep(job, reply)
        with self._changed:
            self._under_way.discard(job)
            self._done[job] = reply.completions
            self._changed.notify_all()

    def _bury(self, worker: Worker, job: Job | None, death: WorkerDied) -> None:
        """Put its job back; raises MeasurementFailed where too many died of it."""
        worker.end()
        with self._changed:
            if self._is_closed:
                return
            self._workers.remove(worker)
            self._deaths[job] += 1
            if self._deaths[job] == MOST_DEATHS:
                during = "while they loaded the model" if job is None else f"while they answered at {job.point}"
                raise MeasurementFailed(
                    f"{MOST_DEATHS} workers died {during}, the last so: {death}. Is there memory for them all? Give "
                    "fewer workers or a smaller batch size; what was measured is in the journal, if there is one."
                )
            if job is not None:
                self._under_way.discard(job)
                self._again.append(job)
            self._changed.notify_all()


def _checked(reply: Any) -> Any:
    if isinstance(reply, Failure):
        raise (InvalidModel if reply.is_input else MeasurementFailed)(f"In a worker: {reply.message}")
    return reply
