"""Fingerprints: of a model, a hash of every parameter and stored buffer; of a tokenizer, and of texts.

A tree of two levels, so that threads can share the work: each tensor's bytes are hashed in pieces of 16 MiB, and
their digests, in order and behind the tensor's name, shape and dtype, are hashed to one. It is a pure function of
names, shapes, dtypes and bytes: the device, the threads and the order of parameters change nothing.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

import torch

from safety_tasks.directions import canonical_name
from safety_tasks.threads import in_threads

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

_PIECE = 1 << 24  # bytes
_DIGEST = 16  # bytes of a BLAKE2b digest


class _Piece(NamedTuple):
    data: torch.Tensor
    """The whole tensor's bytes, flat: of a tensor that is not contiguous it is a copy."""
    start: int


def fingerprint(model: nn.Module) -> str:
    """Hash of every parameter and stored buffer: name, shape, dtype and bytes. 32 hex digits (BLAKE2b, 128 bits).

    Buffers that no checkpoint stores (rotary frequencies, say) follow from the configuration, and some models write
    them while they compute: they are left out.
    """
    passing = {
        f"{module_name}.{name}" if module_name else name
        for module_name, module in model.named_modules()
        for name in module._non_persistent_buffers_set
    }
    buffers = [(name, buffer) for name, buffer in model.named_buffers() if name not in passing]
    tensors = {canonical_name(name): tensor.detach() for name, tensor in (*model.named_parameters(), *buffers)}
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
    data = tensor.resolve_conj().contiguous().reshape(-1).view(torch.uint8)
    return [_Piece(data, start) for start in range(0, data.numel(), _PIECE)]


def _digest(part: bytes | _Piece) -> bytes:
    data = part if isinstance(part, bytes) else part.data[part.start : part.start + _PIECE].cpu().numpy().data
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of what turns texts into tokens and back: its file, and the settings beside it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    stored = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    beside = [tokenizer.special_tokens_map, tokenizer.model_max_length]
    beside += [getattr(tokenizer, "clean_up_tokenization_spaces", None), type(tokenizer).__name__]
    return digest(str(stored), repr(beside))


def digest(*texts: str) -> str:
    """Hash of texts. 32 hex digits (BLAKE2b, 128 bits)."""
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=_DIGEST).hexdigest()
