"""The pristine copy of a model's weights: where it lies, and what it costs.

Beside the weights, restoring takes milliseconds; in host memory it takes a transfer, and no memory of the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch

from safety_tasks.errors import NotPerturbable
from safety_tasks.memory import copy_fits, gpu_memory, host_memory, in_gib, pinned_bytes


class Copy(NamedTuple):
    """The pristine values of one parameter."""

    values: torch.Tensor
    """Flat. Shape (numel,)."""
    is_on_host: bool
    """Whether the values are brought to the parameter's device piece by piece."""


def copy_all(parameters: Mapping[str, torch.nn.Parameter], on_host: bool | None) -> dict[str, Copy]:
    """A copy of every parameter; ``on_host`` None: on its own device where it fits there.

    Of a model on several devices each decides for itself. Raises NotPerturbable where the host has no room.
    """
    sizes: dict[torch.device, list[int]] = {}
    for parameter in parameters.values():
        sizes.setdefault(parameter.device, []).append(parameter.numel() * parameter.element_size())
    goes_to_host = {
        device: not fits_on(device, sum(found)) if on_host is None else on_host for device, found in sizes.items()
    }
    check_host(sum(bytes_on_host(device, found, goes_to_host[device]) for device, found in sizes.items()))
    return {name: _copy(parameter, goes_to_host[parameter.device]) for name, parameter in parameters.items()}


def bytes_on_host(device: torch.device, sizes: Iterable[int], on_host: bool) -> int:
    """What copies of tensors of these sizes take of host memory."""
    if on_host and device.type == "cuda":
        return pinned_bytes(sizes)
    return sum(sizes) if on_host or device.type == "cpu" else 0


def check_host(n_bytes: int) -> None:
    """Raise NotPerturbable where the host has not so many bytes free: it would kill the process without a word."""
    memory = host_memory()
    if n_bytes > memory.free:
        raise NotPerturbable(
            f"The pristine copy of the weights, from which they come back, takes {in_gib(n_bytes)} of host memory, and "
            f"{in_gib(memory.free)} of {in_gib(memory.total)} are free: load the model in bfloat16, on more or larger "
            "GPUs (--llm-model-args parallelize=True), or on a machine with more memory; the behaviour tasks need no "
            "copy."
        )


def _copy(parameter: torch.nn.Parameter, on_host: bool) -> Copy:
    device = torch.device("cpu") if on_host else parameter.device
    pinned = on_host and parameter.device.type == "cuda"  # so that transfers need no second copy
    values = torch.empty(parameter.numel(), dtype=parameter.dtype, device=device, pin_memory=pinned)
    values.view(parameter.shape).copy_(parameter.detach())
    return Copy(values, on_host)


def fits_on(device: torch.device, n_bytes: int) -> bool:
    """True where a device does not tell its memory: the CPU's is the host's, and that of others is shared with it."""
    return device.type != "cuda" or copy_fits(n_bytes, gpu_memory(device))
