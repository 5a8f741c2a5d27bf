"""ProcessWorker: a worker in a process of its own on this machine.

Not multiprocessing's: its processes import the caller's main module again, which a script without a guard does not
survive, and outlive a parent that was killed. Requests come on standard input, replies go to what was standard output;
the card and the threads are chosen in the environment, before Python starts. The process ends when its input does.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from queue import SimpleQueue
from typing import Any

from safety_tasks.gpus import VISIBLE
from safety_tasks.workers.host import Host, Order
from safety_tasks.workers.origin import Origin
from safety_tasks.workers.pool import WorkerDied

_COMMAND = (
    "import os, sys; out = os.dup(1); os.dup2(2, 1); sys.path = [entry for entry in sys.path if entry]; "
    "from safety_tasks.workers.process import serve; serve(out)"
)
"""The pipe has replies alone: what is printed, by imports too, goes to standard error. No import is of the folder."""
_SECONDS = 30  # for a process that ends to be gone
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


class ProcessWorker:
    """A child of this process."""

    def __init__(self, gpu: str, threads: int) -> None:
        """``gpu``: its name in CUDA_VISIBLE_DEVICES, empty for none."""
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        own = {VISIBLE: gpu, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore", **dict.fromkeys(_THREADS, str(threads))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND],
            env={**os.environ, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which ends its workers
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, request: Origin | Order) -> Any:
        """What ``Host.handle`` returns there; raises WorkerDied."""
        assert self._process.stdin and self._process.stdout
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):  # torn, or closed by ``end``
            raise WorkerDied(_ended(self._process)) from None

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was not flushed has no reader any more
                if pipe is not None:
                    pipe.close()


def _ended(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return "it wrote what is no reply, or did not end"
    if code >= 0:
        return f"it ended with exit status {code}"
    name = signal.Signals(-code).name
    return f"it was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def serve(out: int) -> None:
    """Handle what comes on standard input, until it ends; replies go to this file descriptor."""
    replies = os.fdopen(out, "wb")
    from transformers.utils import logging

    logging.disable_progress_bar()
    host, inbox = Host(), SimpleQueue[Any]()
    threading.Thread(target=_read, args=(inbox,), daemon=True).start()
    while True:
        pickle.dump(host.handle(inbox.get()), replies)
        replies.flush()


def _read(inbox: SimpleQueue[Any]) -> None:
    while True:
        try:
            inbox.put(pickle.load(sys.stdin.buffer))
        except EOFError:  # the process that measures is gone
            os._exit(0)
        except Exception as error:  # such as a class that is not to be had here
            inbox.put(error)
