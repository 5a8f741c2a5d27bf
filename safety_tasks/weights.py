"""Moving a model's weights to a point and bringing them back bit for bit.

Every point is computed from a pristine copy and rounded once to the model's dtype; nothing is ever added to or
subtracted from moved weights (in bf16 that leaves a quarter of them changed). Restoring is a copy, in ``finally``,
proved by a fingerprint. Random directions leave norm layers and buffers alone; tied weights move once.
Not covered: quantised, off-loaded and distributed weights and adapters that are not merged, which are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import torch

from safety_tasks.directions import CHUNK, Direction, canonical_name
from safety_tasks.errors import NotPerturbable, WeightsChanged

if TYPE_CHECKING:
    from torch import nn

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Weights:
    """The weights of a model that can be moved; a context manager that brings them back.

    Entering keeps a pristine copy of the movable tensors; leaving, by whatever way, copies it back and compares
    fingerprints. Memory: one copy of the movable tensors, on their own device.
    """

    def __init__(self, model: nn.Module) -> None:
        check_perturbable(model)
        self.model = model
        self._movable = movable_parameters(model)
        self._pristine: dict[str, torch.Tensor] = {}
        self._norms: dict[str, float] = {}
        self._fingerprint = ""

    def __enter__(self) -> Weights:
        """Copy what may move."""
        self._fingerprint = fingerprint(self.model)
        self._pristine = {name: tensor.detach().clone() for name, tensor in self._movable.items()}
        self._norms = {name: float(torch.linalg.vector_norm(t.double())) for name, t in self._pristine.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore and prove it; a second interrupt does not stop the restoring."""
        try:
            self.restore()
        except KeyboardInterrupt:
            self.restore()
            raise
        finally:
            self._pristine = {}
        if fingerprint(self.model) != self._fingerprint:
            raise WeightsChanged("The weights after the measurement differ from those before it: reload the model.")

    @torch.no_grad()
    def move_to(self, direction: Direction, alpha: float) -> None:
        """Set the weights to theta + alpha d, each tensor rounded once from the pristine copy."""
        for name, pristine in self._pristine.items():
            coefficient = direction.coefficient(name, pristine.numel(), self._norms[name], alpha)
            _set_moved(self._movable[name], pristine, direction, name, coefficient)

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the pristine weights back."""
        for name, pristine in self._pristine.items():
            self._movable[name].copy_(pristine)


@contextmanager
def perturbed(model: nn.Module, direction: Direction, alpha: float) -> Iterator[nn.Module]:
    """The model with its weights at theta + alpha d inside the block, and bit-identical to before after it.

    Raises NotPerturbable before anything moves, and WeightsChanged if the restored weights' fingerprint differs.
    """
    with Weights(model) as weights:
        weights.move_to(direction, alpha)
        yield model


def movable_parameters(model: nn.Module) -> dict[str, torch.nn.Parameter]:
    """Parameters that a random direction moves, by canonical name: all but those of norm layers; tied ones once.

    Source: Peng et al. 2024 exclude names that hold "norm" (config/landscape/1d_random.yaml). Differs: layers whose
    class name holds "norm" are left alone as well (GPT-2's ``ln_1``), and buffers never move.
    """
    norms = {
        f"{module_name}.{name}" if module_name else name
        for module_name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }
    return {
        canonical_name(name): parameter
        for name, parameter in model.named_parameters()
        if name not in norms and "norm" not in name.lower() and parameter.numel()
    }


def fingerprint(model: nn.Module) -> str:
    """Hash of every parameter and buffer: name, shape, dtype and bytes. 32 hex digits (BLAKE2b, 128 bits)."""
    digest = hashlib.blake2b(digest_size=16)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{canonical_name(name)}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
        if tensor.numel():
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()


def check_perturbable(model: nn.Module) -> None:
    """Raise NotPerturbable, with what to do, for weights that cannot be moved in place."""
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        raise NotPerturbable(
            "The weights are quantised: noise on packed integers means nothing. Load the model in bf16 or fp16 "
            "(without quantization_config) to measure its landscape; the behaviour tasks run on it as it is."
        )
    if hasattr(model, "peft_config"):
        raise NotPerturbable(
            "The model carries an adapter apart from its weights, and noise on both is not noise on their sum: merge "
            "it first (merge_and_unload) and measure the merged model. The behaviour tasks run on it as it is."
        )
    for name, parameter in model.named_parameters():
        if parameter.device.type == "meta":
            raise NotPerturbable(
                f"Some weights are off-loaded (such as {name}): load the model whole on one or more devices, "
                "or use a smaller dtype."
            )
        if type(parameter.data).__name__ == "DTensor" or parameter.dtype not in _FLOATS:
            raise NotPerturbable(
                f"The weight {name} is a {type(parameter.data).__name__} of {parameter.dtype}: "
                "only plain floating-point weights can be moved."
            )


def _set_moved(
    target: torch.nn.Parameter, pristine: torch.Tensor, direction: Direction, name: str, coefficient: float
) -> None:
    out = (
        target.data.view(-1)
        if target.is_contiguous()
        else torch.empty(pristine.numel(), dtype=pristine.dtype, device=pristine.device)
    )
    flat = pristine.reshape(-1)
    for start in range(0, flat.numel(), CHUNK):
        stop = min(start + CHUNK, flat.numel())
        noise = torch.from_numpy(direction.noise(name, start, stop)).to(flat.device)
        wide = torch.promote_types(flat.dtype, torch.float32)
        out[start:stop] = flat[start:stop].to(wide) + noise.to(wide) * coefficient
    if not target.is_contiguous():
        target.copy_(out.view_as(target))
