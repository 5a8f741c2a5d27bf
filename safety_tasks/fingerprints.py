"""The fingerprint of a model: a hash of every parameter and buffer.

A tree of two levels, so that threads can share the work: each tensor's bytes are hashed in pieces of 16 MiB, and
their digests, in order and behind the tensor's name, shape and dtype, are hashed to one. It is a pure function of
names, shapes, dtypes and bytes: the device, the threads and the order of parameters change nothing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import torch

from safety_tasks.directions import canonical_name
from safety_tasks.threads import in_threads

if TYPE_CHECKING:
    from torch import nn

_PIECE = 1 << 24  # bytes
_DIGEST = 16  # bytes of a BLAKE2b digest


class _Piece(NamedTuple):
    data: torch.Tensor
    """The whole tensor's bytes, flat: of a tensor that is not contiguous it is a copy."""
    start: int


def fingerprint(model: nn.Module) -> str:
    """Hash of every parameter and buffer: name, shape, dtype and bytes. 32 hex digits (BLAKE2b, 128 bits)."""
    tensors = {
        canonical_name(name): tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    parts: list[bytes | _Piece] = []
    for name, tensor in sorted(tensors.items()):
        parts.append(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        parts += _pieces(tensor)
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for part in in_threads(_digest, parts):
        digest.update(part)
    return digest.hexdigest()


def _pieces(tensor: torch.Tensor) -> list[_Piece]:
    if not tensor.numel():
        return []
    data = tensor.contiguous().reshape(-1).view(torch.uint8)
    return [_Piece(data, start) for start in range(0, data.numel(), _PIECE)]


def _digest(part: bytes | _Piece) -> bytes:
    data = part if isinstance(part, bytes) else part.data[part.start : part.start + _PIECE].cpu().numpy().data
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
