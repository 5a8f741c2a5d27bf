"""GPUs: which ones this process may use, by the names that CUDA_VISIBLE_DEVICES has for them.

Counted without torch, which has to be imported after a worker's GPU is chosen. Only NVIDIA's are counted.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from itertools import takewhile

VISIBLE = "CUDA_VISIBLE_DEVICES"
_NAME = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs of a process with this environment, by the names that CUDA_VISIBLE_DEVICES has for them.

    As CUDA reads that variable, the list ends at the first entry that names no GPU. Without it, what nvidia-smi counts.
    """
    given = environment.get(VISIBLE)
    if given is None:
        return [str(index) for index in range(_installed())]
    return list(takewhile(_NAME.fullmatch, (name.strip() for name in given.split(","))))


def _installed() -> int:
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.strip().isdigit() for line in found.stdout.splitlines()) if found.returncode == 0 else 0
