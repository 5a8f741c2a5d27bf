from __future__ import annotations

from collections.abc import Callable

import torch

from safety_tasks.fingerprints import fingerprint
from safety_tasks.models import LoadedModel


def test_the_fingerprint_sees_every_piece_and_what_a_tensor_is() -> None:
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.zeros(5_000_000), requires_grad=False)  # two pieces of 16 MiB
    found = {fingerprint(module)}
    for at in (0, 4_194_303, 4_194_304, 4_999_999):
        module.weight.data[at] = 1
        found.add(fingerprint(module))
    module.weight.data = module.weight.data.view(5000, 1000)
    found.add(fingerprint(module))
    module.weight.data = module.weight.data.view(torch.int32)
    found.add(fingerprint(module))
    module.other = torch.nn.Parameter(module.weight.data.float())
    found.add(fingerprint(module))
    assert len(found) == 8


def test_the_fingerprint_is_blind_to_wrappers_strides_and_the_order_of_parameters() -> None:
    def module(*names: str) -> torch.nn.Module:
        found = torch.nn.Module()
        for name in names:
            values = torch.arange(6.0).view(2, 3) if name == "a" else torch.arange(6.0).view(3, 2) + 7
            found.register_parameter(name, torch.nn.Parameter(values))
        return found

    plain = module("a", "b")
    wrapped = torch.nn.Module()
    wrapped._orig_mod = module("b", "a")
    strided = torch.nn.Module()
    strided.a, strided.b = (torch.nn.Parameter(p.detach().t().contiguous().t()) for p in (plain.a, plain.b))
    assert fingerprint(plain) == fingerprint(wrapped) == fingerprint(strided)


def test_the_fingerprint_sees_a_single_bit(build_model: Callable[..., LoadedModel]) -> None:
    model = build_model().model
    before = fingerprint(model)
    with torch.no_grad():
        model.lm_head.weight.view(-1)[5].add_(1e-6)
    assert fingerprint(model) != before
