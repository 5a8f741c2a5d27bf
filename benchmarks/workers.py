"""Wall time of one landscape by one process and by several, side by side, one thread each.

The runs take turns, so that what else the machine does falls on all of them. Each is timed twice: from its start, the
loading of the workers in it, and from the moment at which all workers have the model. Verdicts must be equal.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from typing import Any

import torch

from safety_tasks import measure_landscape
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.workers.pool import Pool


class Stopwatch:
    """Has this process begin to answer when all workers are ready, and remembers when that was."""

    def __init__(self) -> None:
        self.ready, self.wanted, self.began = threading.Semaphore(0), 0, 0.0
        hired, generate = Pool._hired, HuggingFaceEngine.generate

        def hiring(pool: Pool, hire: Any) -> Any:
            found = hired(pool, hire)
            self.ready.release()
            return found

        def generating(engine: HuggingFaceEngine, *asked: Any) -> Any:
            for _ in range(self.wanted):
                self.ready.acquire()
            self.wanted, self.began = 0, self.began or time.perf_counter()
            return generate(engine, *asked)

        Pool._hired, HuggingFaceEngine.generate = hiring, generating  # type: ignore[method-assign]

    def start(self, others: int) -> None:
        """Before a run with so many workers beside this process; 0 waits for none."""
        self.ready, self.wanted, self.began = threading.Semaphore(0), others, 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-aligned")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    for name, default in {"directions": 3, "points": 21, "n_prompts": 80, "max_new_tokens": 128}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    given = vars(parser.parse_args())
    model, workers, repeats = given.pop("model"), given.pop("workers"), given.pop("repeats")
    torch.set_num_threads(1)
    loaded, watch = load_model(model), Stopwatch()
    seconds: dict[str, list[float]] = {"one": [], "several, loaded": [], "several": []}
    verdicts = set()
    for _ in range(repeats):
        for name, times in seconds.items():
            watch.start(workers - 1 if name == "several, loaded" else 0)
            begun = time.perf_counter()
            verdicts.add(_verdicts(loaded, workers=1 if name == "one" else workers, **given))
            ended = time.perf_counter()
            times.append(ended - (watch.began if name != "several" else begun))
            print(f"{name}: {times[-1]:.1f} s", flush=True)
    one, ready, whole = (statistics.median(times) for times in seconds.values())
    print(f"{workers} workers, medians of {repeats}: one alone {one:.1f} s")
    print(f"once they have loaded {ready:.1f} s, {one / ready:.2f}x")
    print(f"with their loading {whole:.1f} s, {one / whole:.2f}x")
    print(f"verdicts {'equal' if len(verdicts) == 1 else 'DIFFER'}")


def _verdicts(loaded: LoadedModel, **options: Any) -> bytes:
    found = measure_landscape((loaded.model, loaded.tokenizer), journal="off", **options)
    return found.verdicts.tobytes()


if __name__ == "__main__":
    main()
