"""The queue that this process shares with its workers, on workers that live in threads here."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety_tasks.answering import Batch, Job
from safety_tasks.directions import Direction
from safety_tasks.errors import InvalidModel, MeasurementFailed
from safety_tasks.points import Point
from safety_tasks.workers.host import Failure, Order, Reply
from safety_tasks.workers.origin import Origin
from safety_tasks.workers.pool import NoRoom, Pool, WorkerDied

OURS = {"weights_fingerprint": "a", "device": "cpu"}
ORIGIN = Origin(
    path="m", adapter=None, dtype=None, attention=None, device="cpu", batch_size=None, tokenizer=None,  # type: ignore
    variation=None, identity=OURS, matmul_precision="highest", folder=".",
)  # fmt: skip
LIMIT = 60  # seconds after which a test gives up


def jobs(count: int) -> list[Job]:
    return [Job(Point(Direction(0, 0), 0.1 * (at + 1)), Batch((), 1, (), None)) for at in range(count)]


class ThreadWorker:
    """Answers an order by its point; ``deaths``: how often it dies of each alpha."""

    def __init__(self, said: list[float], deaths: Counter[float], identity: Mapping[str, Any] = OURS) -> None:
        self.said, self.deaths, self.identity = said, deaths, identity
        self.ended = 0

    def ask(self, request: Origin | Order) -> Any:
        if isinstance(request, Origin):
            return self.identity
        alpha = request.point.alpha
        if self.deaths[alpha]:
            self.deaths[alpha] -= 1
            raise WorkerDied("it was killed by SIGKILL")
        self.said.append(alpha)
        return Reply([alpha], 0.0, None)

    def end(self) -> None:
        self.ended += 1


def pool_of(
    hire: Callable[[], Any], count: int = 2, keep: Callable[..., None] = lambda *_: None, may: bool = True
) -> Pool:
    order = lambda job: Order(job.point, job.point.identity(), job.batch)  # noqa: E731
    return Pool([hire] * count, ORIGIN, order, keep, lambda: may)


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 3), st.dictionaries(st.integers(0, 11), st.integers(1, 2)))
def test_every_job_is_answered_once_whoever_dies_meanwhile(n: int, workers: int, deaths: dict[int, int]) -> None:
    every, said, here, kept = jobs(n), [], [], []
    dies = Counter({every[at].point.alpha: times for at, times in deaths.items() if at < n})

    def answer(job: Job) -> list[float]:
        here.append(job.point.alpha)
        return [job.point.alpha]

    with pool_of(lambda: ThreadWorker(said, dies), workers, lambda job, reply: kept.append(job)) as pool:
        pool.offer(every)
        found = [pool.answers(job, answer) for job in every]
    assert found == [[job.point.alpha] for job in every], "in their order, each its own"
    assert Counter(said) + Counter(here) == Counter(job.point.alpha for job in every)
    assert Counter(job.point.alpha for job in kept) == Counter(said), "what workers said was kept, and nothing else"


def blocked(until: threading.Event) -> Callable[[Job], list[Any]]:
    def answer(job: Job) -> list[Any]:
        assert until.wait(LIMIT)
        return []

    return answer


def test_a_job_during_which_three_workers_died_is_an_error_that_names_it() -> None:
    every, died = jobs(2), threading.Event()

    class Mortal(ThreadWorker):
        def end(self) -> None:
            if not self.deaths[every[1].point.alpha]:
                died.set()

    deaths = Counter({every[1].point.alpha: 3})
    with pool_of(lambda: Mortal([], deaths), 1) as pool, pytest.raises(MeasurementFailed, match="3 workers died") as it:
        pool.offer(every[1:])
        pool.answers(every[0], blocked(died))
        pool.answers(every[1], lambda job: pytest.fail("a job that kills is not for this process"))
    assert "alpha +0.20" in str(it.value) and "SIGKILL" in str(it.value)


def test_a_job_during_which_the_last_worker_died_is_this_processs_where_no_other_finds_room() -> None:
    every, died = jobs(3), threading.Event()
    hired: list[ThreadWorker] = []

    class Mortal(ThreadWorker):
        def ask(self, request: Origin | Order) -> Any:
            if self is not hired[0]:
                died.set()
                raise NoRoom("there is no room")
            return super().ask(request)

    def hire() -> ThreadWorker:
        hired.append(Mortal([], Counter({every[1].point.alpha: 1})))
        return hired[-1]

    with pool_of(hire, 1) as pool:
        pool.offer(every[1:])
        pool.answers(every[0], blocked(died))
        assert [pool.answers(job, lambda job: [job]) for job in every[1:]] == [[job] for job in every[1:]]
    assert hired[1].ended and pool.n_replaced == 1


def test_workers_that_die_while_they_load_are_an_error() -> None:
    class Stillborn(ThreadWorker):
        def ask(self, request: Origin | Order) -> Any:
            raise WorkerDied("it ended with exit status 1")

    first, second = jobs(2)
    with pool_of(lambda: Stillborn([], Counter())) as pool, pytest.raises(MeasurementFailed, match="while they loaded"):
        pool.offer([first, second])
        while True:
            pool.answers(first, lambda job: [])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({**OURS, "weights_fingerprint": "b"}, r"weights_fingerprint: a here, b there"),
        ({**OURS, "torch": "9"}, "torch: None here, 9 there"),
        (Failure("There is no model folder 'm'.", True), "In a worker: There is no model folder"),
    ],
)
def test_a_worker_that_has_another_model_answers_nothing(said: Any, message: str) -> None:
    answered: list[float] = []
    first, second = jobs(2)
    with pool_of(lambda: ThreadWorker(answered, Counter(), said), 1) as pool:
        pool.offer([first, second])
        with pytest.raises(InvalidModel, match=message):
            while True:
                pool.answers(first, lambda job: [])
    assert answered == []


def test_nothing_begins_once_the_time_is_spent() -> None:
    said: list[float] = []
    every = jobs(3)
    with pool_of(lambda: ThreadWorker(said, Counter()), may=False) as pool:
        pool.offer(every)
        assert pool.answers(every[0], lambda job: ["here"]) == ["here"], "what this process is told to do"
        assert not pool.will_have(every[1:])
    assert said == []


def test_whatever_ends_a_measurement_ends_its_workers() -> None:
    hired: list[ThreadWorker] = []

    def hire() -> ThreadWorker:
        hired.append(ThreadWorker([], Counter()))
        return hired[-1]

    with pytest.raises(KeyboardInterrupt), pool_of(hire) as pool:
        pool.offer(jobs(3))
        while len(hired) < 2:
            pass
        raise KeyboardInterrupt
    assert all(worker.ended for worker in hired) and not any(thread.is_alive() for thread in pool._threads)
