"""Memory: how much of it a device has, in all and free.

The host's is what the kernel calls available, within the limit that a container has (control groups, version 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

GIB = 1 << 30
DECODING_SHARE = 0.25
"""Of a device's memory, what a copy of the weights leaves to decoding: the key-value cache, activations, logits."""
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
_DROPPED = ("active_file", "inactive_file", "slab_reclaimable")  # a model's file, read twice, is active


class Memory(NamedTuple):
    """A device's memory, in bytes."""

    free: int
    total: int


def copy_fits(n_bytes: int, memory: Memory) -> bool:
    """Whether a copy of so many bytes leaves enough of a device's memory for decoding."""
    return n_bytes <= memory.free - DECODING_SHARE * memory.total


def pinned_bytes(sizes: Iterable[int]) -> int:
    """What tensors of these sizes take of pinned host memory: torch (2.13) takes a power of two for each."""
    return sum(1 << (size - 1).bit_length() for size in sizes)


def gpu_memory(gpu: int | torch.device) -> Memory:
    """Of one GPU; what torch holds without using it counts as free.

    An integrated one has the host's memory, of which CUDA counts cached files as taken.
    """
    import torch

    free, total = torch.cuda.mem_get_info(gpu)
    if getattr(torch.cuda.get_device_properties(gpu), "is_integrated", False):
        free = max(free, min(total, host_memory().free))
    return Memory(free + torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu), total)


def gpu_memories() -> list[Memory]:
    """Of each GPU; empty without one."""
    import torch

    return [gpu_memory(gpu) for gpu in range(torch.cuda.device_count())]


def host_memory() -> Memory:
    """Of the host, or of the container where that has less."""
    import psutil

    found = psutil.virtual_memory()
    limits = [Memory(found.available, found.total), *_of_groups()]
    return Memory(max(0, min(limit.free for limit in limits)), min(limit.total for limit in limits))


def _of_groups() -> list[Memory]:
    """What the control groups above this process leave it."""
    try:
        own = next(line[3:] for line in _OWN_GROUP.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return []
    path = PurePosixPath("/", *(part for part in PurePosixPath(own).parts if part != "..")).relative_to("/")
    return [found for group in (path, *path.parents) if (found := _of_group(_GROUPS / group))]


def _of_group(group: Path) -> Memory | None:
    """None where it has no limit. What the kernel drops when memory is wanted counts as free: cached files, slabs."""
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    dropped = sum(int(stat.get(name, 0)) for name in _DROPPED)
    return None if limit == "max" else Memory(int(limit) - max(0, used - dropped), int(limit))


def in_gib(n_bytes: float) -> str:
    """As people read it: "13.5 GiB", "250 MiB"."""
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes >= GIB else f"{n_bytes / (1 << 20):.3g} MiB"
