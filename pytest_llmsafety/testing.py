"""FakeModel: a model with a programmable basin, so that gates and plugins can be tested without weights.

    # conftest.py
    from pytest_llmsafety.testing import FakeModel

    def pytest_llmsafety_load_model(config, model):
        return FakeModel(basin=(-0.3, 0.3), over_refusal=0.02)

It enters where a real model does (the engine of ``safety_tasks.engine``), so that everything behind it is real.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from safety_tasks.chat import Rendered
from safety_tasks.decoding import Completion
from safety_tasks.directions import AnyDirection
from safety_tasks.prompts import Message, load_prompts
from safety_tasks.sampling import Draw
from safety_tasks.settings import Settings

REFUSAL = "I'm sorry, but I cannot help with that."
COMPLIANCE = "Here is a simple plan for that: begin early, work with care, and finish in time."
NOISE = "plan plan plan plan plan plan plan plan"


class FakeModel:
    """Answers harmful prompts inside its basin with a refusal, outside it with compliance or noise.

    ``asr_at_origin``: share of harmful prompts that it answers inside the basin. ``basin``: the alphas at which it
    starts to answer all of them, the same along every direction. ``over_refusal``: share of benign prompts that it
    refuses. ``beyond``: "compliance" or "noise". Prompts are told apart by ``is_harmful``; by default those of
    builtin-benign are benign. The shares are exact among the prompts of one call, rounded to whole prompts; with a
    profile that samples, each of a prompt's answers is a call, and other prompts are among the share.
    """

    def __init__(
        self,
        *,
        asr_at_origin: float = 0.0,
        basin: tuple[float, float] = (-0.3, 0.3),
        over_refusal: float = 0.0,
        beyond: str = "compliance",
        is_harmful: Callable[[str], bool] | None = None,
    ) -> None:
        self.asr_at_origin, self.basin, self.over_refusal = asr_at_origin, basin, over_refusal
        self.beyond = {"compliance": COMPLIANCE, "noise": NOISE}[beyond]
        self.is_harmful = is_harmful or _is_not_builtin_benign
        self.alpha = 0.0
        self.calls: list[tuple[float, int]] = []
        """(alpha, number of prompts) of every call of ``generate``."""

    def render(self, messages: Sequence[Message], settings: Settings) -> Rendered:
        """The last message as it is."""
        return Rendered(messages[-1].content, is_templated=settings.chat != "off")

    def token_budget(self, prompts: Sequence[Rendered], wanted: int) -> int:
        """What was asked for."""
        return wanted

    @contextmanager
    def moving(self) -> Iterator[FakeModel]:
        """Remember alpha; forget it on leaving."""
        try:
            yield self
        finally:
            self.alpha = 0.0

    def move_to(self, direction: AnyDirection, alpha: float) -> None:
        """Answer as at alpha from now on; in a plane, as at the coefficient that is farther out."""
        self.alpha = max(alpha, getattr(direction, "beta", 0.0), key=abs)

    def restore(self) -> None:
        """Answer as at the origin."""
        self.alpha = 0.0

    def generate(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...]
    ) -> list[Completion]:
        """One answer a prompt."""
        return self._answers([prompt.text for prompt in prompts], "")

    def sample(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...], draw: Draw
    ) -> list[Completion]:
        """One answer a prompt: the same shares as without sampling, of prompts chosen anew for each sample."""
        return self._answers([prompt.text for prompt in prompts], f"{draw.seed}:{draw.sample}:")

    def _answers(self, texts: Sequence[str], chosen_by: str) -> list[Completion]:
        self.calls.append((self.alpha, len(texts)))
        harmful = [text for text in texts if self.is_harmful(text)]
        benign = [text for text in texts if text not in set(harmful)]
        inside = self.basin[0] < self.alpha < self.basin[1]
        answered = set(_share(harmful, self.asr_at_origin if inside else 1.0, chosen_by))
        answered |= set(benign) - set(_share(benign, self.over_refusal, chosen_by))
        answer = COMPLIANCE if inside else self.beyond
        return [_completion(answer if text in answered else REFUSAL) for text in texts]

    def mean_nll(self, prompts: Sequence[Rendered], completions: Sequence[Completion]) -> list[float]:
        """Half a nat a token for language, ten for noise."""
        return [10.0 if completion.text == NOISE else 0.5 for completion in completions]

    @property
    def name(self) -> str:
        """As reports call it."""
        return "FakeModel"

    def identity(self) -> None:
        """None: it answers at once, and is asked anew every time."""

    def facts(self) -> dict[str, Any]:
        """A fingerprint of the program."""
        program = f"{self.asr_at_origin}:{self.basin}:{self.over_refusal}:{self.beyond}"
        return {
            "model": self.name,
            "weights_fingerprint": hashlib.blake2b(program.encode(), digest_size=16).hexdigest(),
        }


def _completion(text: str) -> Completion:
    return Completion(text, tuple(range(len(text.split()))), finished=True)


def _share(texts: Sequence[str], share: float, chosen_by: str) -> list[str]:
    """That share of the texts, chosen by their hash."""
    ranked = sorted(texts, key=lambda text: hashlib.blake2b(f"{chosen_by}{text}".encode()).digest())
    return ranked[: round(share * len(texts))]


def _is_not_builtin_benign(text: str) -> bool:
    return text not in _builtin_benign()


@cache
def _builtin_benign() -> frozenset[str]:
    return frozenset(prompt.text for prompt in load_prompts("builtin-benign").prompts)
