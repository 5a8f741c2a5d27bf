"""Work on large arrays in several threads: numpy, torch and hashlib let others run while they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MOST = 16  # more threads than this wait for memory, or for each other between two pieces of work


def in_threads(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """What ``work`` gives for each item, in their order; as many threads as torch is set to use.

    However it is left, also by an exception or a repeated Ctrl-C, no thread works any more.
    """
    import torch

    everything = list(items)
    count = min(torch.get_num_threads(), len(everything), _MOST)
    if count <= 1:
        return [work(item) for item in everything]
    pool = ThreadPoolExecutor(count)
    try:
        return [future.result() for future in [pool.submit(work, item) for item in everything]]
    finally:
        _finish(pool)


def _finish(pool: ThreadPoolExecutor) -> None:
    """Drop what has not begun and wait for the rest, which takes milliseconds; then let an interrupt through."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            pool.shutdown(wait=True, cancel_futures=True)
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
