"""The pristine copy of a model's weights: where it lies, and what it costs.

Beside the weights, restoring takes milliseconds; in host memory it takes a transfer, and no memory of the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

# Of a device's memory, what a copy leaves to decoding: the key-value cache, activations and logits of a batch.
DECODING_SHARE = 0.25


class Copy(NamedTuple):
    """The pristine values of one parameter."""

    values: torch.Tensor
    """Flat. Shape (numel,)."""
    is_on_host: bool
    """Whether the values are brought to the parameter's device piece by piece."""


def copy_fits(n_bytes: int, free: int, total: int) -> bool:
    """Whether a copy of so many bytes leaves enough of a device's ``total`` for decoding, with ``free`` now free."""
    return n_bytes <= free - DECODING_SHARE * total


def copy_all(parameters: Mapping[str, torch.nn.Parameter], on_host: bool | None) -> dict[str, Copy]:
    """A copy of every parameter; ``on_host`` None: on its own device where it fits there."""
    needed: dict[torch.device, int] = {}
    for parameter in parameters.values():
        needed[parameter.device] = needed.get(parameter.device, 0) + parameter.numel() * parameter.element_size()
    goes_to_host = {
        device: not fits_on(device, n_bytes) if on_host is None else on_host for device, n_bytes in needed.items()
    }
    return {name: _copy(parameter, goes_to_host[parameter.device]) for name, parameter in parameters.items()}


def _copy(parameter: torch.nn.Parameter, on_host: bool) -> Copy:
    device = torch.device("cpu") if on_host else parameter.device
    pinned = on_host and parameter.device.type == "cuda"  # so that transfers need no second copy
    values = torch.empty(parameter.numel(), dtype=parameter.dtype, device=device, pin_memory=pinned)
    values.view(parameter.shape).copy_(parameter.detach())
    return Copy(values, on_host)


def fits_on(device: torch.device, n_bytes: int) -> bool:
    """True where a device does not tell its memory: the CPU's is the host's, and that of others is shared with it."""
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's own, and empty
    return copy_fits(n_bytes, free + unused, total)
