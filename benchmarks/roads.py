"""The roads that are compared: from prompts and a point in weight space to one answer a prompt.

``ReferenceRoad`` and ``HarnessRoad`` decode on the model that a ``StoredWalk`` moves, in fp32. ``OurRoad`` moves a
model of its own. All of them answer the same rendered prompts with the same budget of new tokens, greedily.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from safety_tasks.chat import Rendered
from safety_tasks.directions import Direction, step_coefficient
from safety_tasks.engine import HuggingFaceEngine, Mover
from safety_tasks.models import LoadedModel

REFERENCE_BATCH = 4


class Road(Protocol):
    """One way to measure a point."""

    def move_to(self, direction: Direction, alpha: float) -> None:
        """Set the weights, where they are not moved by the walk."""

    def answer(self, prompts: Sequence[Rendered], max_new_tokens: int) -> list[str]:
        """One text a prompt."""


class StoredWalk:
    """The reference's way through weight space: direction tensors that are stored for the whole state dict.

    Restates Peng et al.'s published procedure: fp32 on the CPU, zeros for norm layers, theta - 10 d first and then
    one step of d added in place from point to point, so that rounding adds up; each point is loaded into the model.
    Their directions are ours here: a step is the difference of the coefficients of two points, which ours rounds to
    11 bits, so that both stand at the same place but for what adding up rounds away.
    """

    def __init__(self, model: torch.nn.Module, direction: Direction, alphas: Sequence[float]) -> None:
        self.model, self.alphas = model, alphas
        self.state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        self._check_untied()
        self.noise, self.coefficients = self._stored(direction)
        self.index = -1

    def advance(self) -> float:
        """Move the model to the next point, and tell which it is."""
        self.index += 1
        for name, tensor in self.state.items():
            before, now = (self.coefficients[name][i] if i >= 0 else 0.0 for i in (self.index - 1, self.index))
            tensor.add_(self.noise[name], alpha=now - before)
        self.model.load_state_dict(self.state)
        return self.alphas[self.index]

    def _check_untied(self) -> None:
        if len({tensor.data_ptr() for tensor in self.model.state_dict().values()}) < len(self.state):
            raise SystemExit("The reference moves tied weights twice: take a model whose weights are not tied.")

    def _stored(self, direction: Direction) -> tuple[dict[str, torch.Tensor], dict[str, list[float]]]:
        noise, coefficients = {}, {}
        for name, tensor in self.state.items():
            samples = torch.from_numpy(direction.noise(name, 0, tensor.numel()).copy())
            squared, norm = int(samples.long().square().sum()), float(tensor.double().norm())
            moves = "norm" not in name
            noise[name] = (samples if moves else torch.zeros_like(samples)).view(tensor.shape).float()
            coefficients[name] = [step_coefficient(squared, norm, alpha) for alpha in self.alphas]
        return noise, coefficients


class Walked:
    """A road whose model the walk moves: the walk's time is part of its own."""

    def move_to(self, direction: Direction, alpha: float) -> None:
        """The walk has moved the model."""


@dataclass
class ReferenceRoad(Walked):
    """``generate`` by batches of four, left-padded, sampling with top_p 0 among the 50 likeliest tokens."""

    loaded: LoadedModel

    def answer(self, prompts: Sequence[Rendered], max_new_tokens: int) -> list[str]:
        """One text a prompt."""
        model, tokenizer = self.loaded
        texts = []
        for start in range(0, len(prompts), REFERENCE_BATCH):
            batch = tokenizer(
                [prompt.text for prompt in prompts[start : start + REFERENCE_BATCH]],
                add_special_tokens=False,  # the template wrote them
                padding=True,
                return_tensors="pt",
            )
            out = model.generate(
                **batch, max_new_tokens=max_new_tokens, do_sample=True, top_p=0.0, temperature=1.0, top_k=50
            )
            texts += tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        return texts


class HarnessRoad(Walked):
    """lm_eval's HFLM: greedy ``generate_until``.

    Without stop strings: HFLM cuts them out of the answer, and the keywords, which are the verdict, with them.
    """

    def __init__(self, loaded: LoadedModel, batch_size: int) -> None:
        from lm_eval.models.huggingface import HFLM

        # It warns of what is meant here: a model object brings its own device and dtype.
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        model, tokenizer = loaded
        device = str(model.device)
        self.lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=device, add_bos_token=False)

    def answer(self, prompts: Sequence[Rendered], max_new_tokens: int) -> list[str]:
        """One text a prompt."""
        from lm_eval.api.instance import Instance

        options = {"until": [], "max_gen_toks": max_new_tokens, "do_sample": False}
        requests = [
            Instance(request_type="generate_until", doc={}, arguments=(prompt.text, dict(options)), idx=index)
            for index, prompt in enumerate(prompts)
        ]
        return self.lm.generate_until(requests, disable_tqdm=True)


@dataclass
class OurRoad:
    """Our engine, as a measurement asks it; without stop strings it decodes every answer to its end."""

    engine: HuggingFaceEngine
    mover: Mover
    stop_strings: tuple[str, ...]

    def move_to(self, direction: Direction, alpha: float) -> None:
        """Move, or restore at the origin."""
        if alpha:
            self.mover.move_to(direction, alpha)
        else:
            self.mover.restore()

    def answer(self, prompts: Sequence[Rendered], max_new_tokens: int) -> list[str]:
        """One text a prompt."""
        return [row.text for row in self.engine.generate(prompts, max_new_tokens, self.stop_strings)]
