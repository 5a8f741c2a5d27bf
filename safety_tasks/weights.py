"""Moving a model's weights to a point and bringing them back bit for bit.

Every point is computed from a pristine copy and rounded once to the model's dtype; nothing is ever added to or
subtracted from moved weights (in bf16 that leaves a quarter of them changed). Restoring is a copy, in ``finally``,
proved by a fingerprint. What moves, and how, the direction says; buffers never move, and tied weights move once.
Not covered: what ``check_perturbable`` refuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from safety_tasks.directions import CHUNK, AnyDirection, Step, Weight, canonical_name
from safety_tasks.errors import InvalidModel, WeightsChanged
from safety_tasks.fingerprints import fingerprint
from safety_tasks.noise.roads import road_for
from safety_tasks.perturbable import check_perturbable
from safety_tasks.pristine import Copy, copy_all
from safety_tasks.threads import in_threads

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Weights", "check_perturbable", "fingerprint", "movable_parameters", "perturbed"]

T = TypeVar("T")
R = TypeVar("R")

_DEVICE_CHUNK = 1 << 24  # elements: on an accelerator few large pieces, as each costs a launch
_ROW = 1 << 15  # elements whose squares are summed in one order, whatever the threads


class Weights:
    """The weights of a model that can be moved; a context manager that brings them back.

    Entering keeps a pristine copy of the parameters; leaving, by whatever way, copies it back and compares
    fingerprints. Memory: one copy of the parameters, on their own device where it fits there beside what decoding
    needs, else in host memory.
    """

    def __init__(self, model: nn.Module, *, copy_on_host: bool | None = None) -> None:
        """Check that the model can be moved. ``copy_on_host`` forces the place of the copy."""
        check_perturbable(model)
        self.model = model
        self.fingerprint = ""
        """Of the pristine weights; empty before entering."""
        self._copy_on_host = copy_on_host
        self._parameters = _parameters(model)
        self._weights: list[Weight] = []
        self._pristine: dict[str, Copy] = {}
        self._copies: dict[str, str] = {}
        self._displaced: set[str] = set()

    def __enter__(self) -> Weights:
        """Copy what may move."""
        self.fingerprint = fingerprint(self.model)
        self._weights = _describe(self._parameters, _names_of_norm_layers(self.model))
        self._pristine = copy_all(self._parameters, self._copy_on_host)
        self._copies = {
            str(self._parameters[name].device): "host" if copy.is_on_host else "device"
            for name, copy in self._pristine.items()
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore and prove it; interrupts do not stop the restoring."""
        interrupt = self._restore_whatever_comes()
        self._pristine = {}
        if fingerprint(self.model) != self.fingerprint:
            raise WeightsChanged("The weights after the measurement differ from those before it: reload the model.")
        if interrupt is not None:
            raise interrupt

    def _restore_whatever_comes(self) -> KeyboardInterrupt | None:
        """Restore; the interrupt that came meanwhile, if one did."""
        interrupt = None
        while True:
            try:
                self.restore()
                return interrupt
            except KeyboardInterrupt as error:
                interrupt = error

    def check(self, direction: AnyDirection) -> list[str]:
        """The canonical names of the parameters that the direction moves.

        Raises InvalidSetting or InvalidModel when the direction does not fit the model.
        """
        return direction.moving(self._weights)

    @torch.no_grad()
    def move_to(self, direction: AnyDirection, alpha: float) -> None:
        """Set the weights to the point at ``alpha`` along the direction, each rounded once from the pristine copy.

        What the direction does not move is at its pristine value. Raises as ``check`` does, before anything moves.
        """
        moving = set(self.check(direction))
        self._restore(self._displaced - moving)
        self._displaced |= moving
        weights = [weight for weight in self._weights if weight.name in moving]
        on_cpu = all(parameter.device.type == "cpu" for parameter in self._parameters.values())
        run = in_threads if on_cpu else _one_by_one
        steps = run(lambda weight: self._step(direction, weight, alpha), weights)
        run(_write, [span for weight, step in zip(weights, steps, strict=True) for span in self._spans(weight, step)])

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the pristine weights back."""
        self._restore(self._pristine)
        self._displaced = set()

    def facts(self) -> dict[str, Any]:
        """Where the pristine copy lies and which implementation draws the noise, by device; also after leaving."""
        kinds = {(parameter.device, parameter.dtype) for parameter in self._parameters.values()}
        roads = {
            f"{device} {str(dtype).removeprefix('torch.')}": str(road_for(device, dtype)) for device, dtype in kinds
        }
        return {"pristine_copy": dict(sorted(self._copies.items())), "noise_roads": dict(sorted(roads.items()))}

    def _step(self, direction: AnyDirection, weight: Weight, alpha: float) -> Step:
        parameter = self._parameters[weight.name]
        return direction.step(weight, alpha, parameter.device, parameter.dtype)

    def _spans(self, weight: Weight, step: Step) -> list[_Span]:
        """The pieces of a parameter; one that is not contiguous is a single piece."""
        parameter, copy = self._parameters[weight.name], self._pristine[weight.name]
        size = _chunk(parameter) if parameter.is_contiguous() else weight.numel
        return [
            _Span(parameter, copy, start, min(start + size, weight.numel), step)
            for start in range(0, weight.numel, size)
        ]

    def _restore(self, names: Iterable[str]) -> None:
        for name in names:
            parameter = self._parameters[name]
            parameter.copy_(self._pristine[name].values.view(parameter.shape), non_blocking=True)


@contextmanager
def perturbed(model: nn.Module, direction: AnyDirection, alpha: float) -> Iterator[nn.Module]:
    """The model with its weights at ``alpha`` along the direction inside the block, bit-identical to before after it.

    Raises NotPerturbable before anything moves, and WeightsChanged if the restored weights' fingerprint differs.
    """
    with Weights(model) as weights:
        weights.move_to(direction, alpha)
        yield model


def movable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that a random direction moves, by canonical name: all but those of norm layers; tied ones once."""
    of_norms = _names_of_norm_layers(model)
    return {name: parameter for name, parameter in _parameters(model).items() if name not in of_norms}


class _Span(NamedTuple):
    """A piece of one parameter and how it moves."""

    parameter: nn.Parameter
    copy: Copy
    start: int
    stop: int
    step: Step


def _write(span: _Span) -> None:
    values = span.copy.values[span.start : span.stop]
    if not span.parameter.is_contiguous():
        moved = values.to(span.parameter.device, copy=True)
        span.step(moved, moved, 0)
        span.parameter.detach().copy_(moved.view(span.parameter.shape))
        return
    out = span.parameter.detach().view(-1)[span.start : span.stop]
    span.step(out, out.copy_(values, non_blocking=True) if span.copy.is_on_host else values, span.start)


def _one_by_one(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    return [work(item) for item in items]


def _chunk(parameter: nn.Parameter) -> int:
    return CHUNK if parameter.device.type == "cpu" else _DEVICE_CHUNK


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """By canonical name; parameters that share their storage, tied or not, once."""
    found: dict[tuple[object, ...], tuple[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.numel():
            place = (parameter.device, parameter.data_ptr(), tuple(parameter.shape), parameter.stride())
            found.setdefault(place if parameter.device.type != "meta" else (name,), (canonical_name(name), parameter))
    return dict(found.values())


def _names_of_norm_layers(model: nn.Module) -> set[str]:
    """Canonical names of the parameters that a random direction leaves alone.

    Source: Peng et al. 2024 exclude names that hold "norm" (config/landscape/1d_random.yaml). Differs: layers whose
    class name holds "norm" are left alone as well (GPT-2's ``ln_1``).
    """
    return {
        canonical_name(f"{module_name}.{name}" if module_name else name)
        for module_name, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if "norm" in type(module).__name__.lower() or "norm" in f"{module_name}.{name}".lower()
    }


def _describe(parameters: Mapping[str, nn.Parameter], of_norms: Set[str]) -> list[Weight]:
    norms = in_threads(lambda item: _norm(*item), parameters.items())
    return [
        Weight(name, tuple(p.shape), str(p.dtype).removeprefix("torch."), norm, name in of_norms)
        for (name, p), norm in zip(parameters.items(), norms, strict=True)
    ]


def _norm(name: str, parameter: nn.Parameter) -> float:
    """Frobenius norm: rows of squares summed in fp64, and the rows exactly, so that threads and chunks do not count."""
    flat = parameter.detach().reshape(-1)
    size = _ROW if flat.device.type == "cpu" else _DEVICE_CHUNK  # one row is as much as torch leaves to one thread
    rows = (_squares(flat[start : start + size]) for start in range(0, len(flat), size))
    norm = math.sqrt(math.fsum(chain.from_iterable(rows)))
    if not math.isfinite(norm):
        raise InvalidModel(f"The weight {name} holds values that are not finite: no direction can be scaled to it.")
    return norm


def _squares(values: torch.Tensor) -> list[float]:
    """Sums of squares of rows of 32,768 elements and of what is left."""
    wide = values.cpu().double() if values.device.type == "mps" else values.double()  # MPS has no fp64
    whole = len(wide) // _ROW * _ROW
    rows = wide[:whole].view(-1, _ROW).square().sum(dim=1).tolist()
    return [*rows, float(wide[whole:].square().sum())]
