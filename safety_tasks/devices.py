"""Devices: where the tensors of a model lie, and how a model on GPUs makes room there for another.

A model may be spread over several devices of one process (accelerate's ``device_map``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from safety_tasks.errors import WeightsChanged
from safety_tasks.fingerprints import digest, fingerprint
from safety_tasks.memory import host_memory, in_gib
from safety_tasks.perturbable import has_plain_weights

if TYPE_CHECKING:
    from torch import nn

_HOST = torch.device("cpu")


def devices_of(model: nn.Module) -> list[torch.device]:
    """The devices of the model's parameters, in the order of their names."""
    return sorted({parameter.device for parameter in model.parameters()}, key=str)


def processors(model: nn.Module) -> str:
    """What computes: the cards' name, or the instructions that the CPU's kernels use.

    Of processors that differ, with a hash of which parameter lies on which.
    """
    names = {device: _processor(device) for device in devices_of(model)}
    if len(set(names.values())) == 1:
        return next(iter(names.values()))
    placed = sorted((name, names[parameter.device]) for name, parameter in model.named_parameters())
    return f"{', '.join(sorted(set(names.values())))} by {digest(repr(placed))}"


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(torch.backends.cpu.get_cpu_capability()) if device.type == "cpu" else device.type


def gpu_peaks(model: nn.Module) -> dict[str, str]:
    """The most that this process held at once of each GPU on which the model lies."""
    return {
        str(device): in_gib(torch.cuda.max_memory_allocated(device))
        for device in devices_of(model)
        if device.type == "cuda"
    }


@contextmanager
def in_host_memory(model: nn.Module) -> Iterator[None]:
    """The context in which the model lies in host memory, and its GPUs are another's; it comes back bit for bit.

    Nothing moves where the model is on the CPU already, or not all in its parameters (quantised, off-loaded), or where
    the host has no room. Raises WeightsChanged when what came back is not what left.
    """
    homes = on_gpus(model)
    if not homes or sum(one.numel() * one.element_size() for one, _ in homes) > host_memory().free:
        yield
        return
    before = fingerprint(model)
    _carry([(tensor, _HOST) for tensor, _ in homes])
    torch.cuda.empty_cache()
    try:
        yield
    finally:
        _carry(homes)
    if fingerprint(model) != before:
        raise WeightsChanged("The weights that came back to the GPU differ from those that left: reload the model.")


def on_gpus(model: nn.Module) -> list[tuple[torch.Tensor, torch.device]]:
    """Parameters and buffers on GPUs, each with its GPU; none where they are not all that computes."""
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type == "cuda"]
    return [(tensor, tensor.device) for tensor in tensors] if tensors and has_plain_weights(model) else []


@torch.no_grad()
def _carry(places: list[tuple[torch.Tensor, torch.device]]) -> None:
    """Move each tensor to its device; those that share their storage share it there."""
    arrived: dict[tuple[object, ...], torch.Tensor] = {}
    for tensor, device in places:
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), device)
        if place not in arrived:
            arrived[place] = tensor.data.to(device)
        tensor.data = arrived[place]
