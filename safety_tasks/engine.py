"""Engine: what a measurement needs of a model, and the engine of Hugging Face models in this process."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, Protocol

import torch

from safety_tasks.chat import Rendered, render
from safety_tasks.checkpoints import CheckpointDirection, direction_to
from safety_tasks.decoding import (
    Completion,
    DecodingLog,
    Layout,
    Scored,
    decode,
    encode,
    end_tokens,
    layout_of,
    mean_nll,
    opened_by_prompt,
)
from safety_tasks.decoding.forward import positions_of, soft_tokens
from safety_tasks.devices import devices_of, gpu_peaks, in_host_memory, processors
from safety_tasks.directions import NOISE_VERSION, AnyDirection
from safety_tasks.errors import InvalidPrompts
from safety_tasks.fingerprints import digest, fingerprint, tokenizer_digest
from safety_tasks.layer_groups import layers_among
from safety_tasks.merging import record_of
from safety_tasks.models import LoadedModel, display_name, dtype_asked_for, pinned_name
from safety_tasks.parallel import Orthogonal, orthogonal
from safety_tasks.perturbable import check_perturbable, foreign_hook, has_plain_weights
from safety_tasks.prompts import Message
from safety_tasks.quantisation import quantisation_facts
from safety_tasks.revisions import commit_of
from safety_tasks.sampling import Draw
from safety_tasks.settings import Settings
from safety_tasks.template_control import TemplateControl, control_template
from safety_tasks.weights import Weights

_NLL_BATCH = 32


class Mover(Protocol):
    """Moves an engine's model from point to point; valid inside the engine's ``moving()``."""

    def move_to(self, direction: AnyDirection, alpha: float) -> None:
        """Set the weights to theta + alpha d."""

    def restore(self) -> None:
        """Set the weights to theta."""


class Engine(Protocol):
    """A model that answers prompts, and may be moved."""

    def render(self, messages: Sequence[Message], settings: Settings) -> Rendered:
        """The text of a conversation, by the settings' ``chat`` and ``thinking``."""

    def token_budget(self, prompts: Sequence[Rendered], wanted: int) -> int:
        """The most new tokens that fit behind the longest prompt, at most ``wanted``."""

    def moving(self) -> AbstractContextManager[Mover]:
        """The context in which the weights may move; leaving it brings them back, or raises WeightsChanged."""

    def generate(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...]
    ) -> list[Completion]:
        """One greedy completion a prompt, at the current point."""

    def sample(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...], draw: Draw
    ) -> list[Completion]:
        """One completion a prompt, at the current point, drawn as ``draw`` says."""

    def mean_nll(self, prompts: Sequence[Rendered], completions: Sequence[Completion]) -> list[float] | None:
        """Mean negative log-likelihood of each completion at the current point; None where out of reach."""

    @property
    def name(self) -> str:
        """What reports call the model."""

    def identity(self) -> dict[str, Any] | None:
        """Everything but prompts and decoding limits on which answers depend; None where that is not known."""

    def facts(self) -> dict[str, Any]:
        """What identifies the model and the way it decodes, for the record."""


class HuggingFaceEngine:
    """A transformers causal model in this process."""

    def __init__(self, loaded: LoadedModel, batch_size: int | None = None) -> None:
        self.model, self.tokenizer = loaded
        self.batch_size = batch_size
        self.adapter = record_of(self.model)
        self.log = DecodingLog()
        self._weights: Weights | None = None
        self._directions: dict[str, CheckpointDirection] = {}
        self._orthogonals: dict[tuple[CheckpointDirection, CheckpointDirection], Orthogonal] = {}

    def render(self, messages: Sequence[Message], settings: Settings) -> Rendered:
        """The conversation by the tokenizer's chat template."""
        return render(self.tokenizer, messages, settings)

    def template_control(self, settings: Settings) -> TemplateControl:
        """What the template and the tokenizer make of a conversation whose answer is known."""
        return control_template(LoadedModel(self.model, self.tokenizer), settings)

    def token_budget(self, prompts: Sequence[Rendered], wanted: int) -> int:
        """Cut to the model's own limit on answers, and to the room that its positions leave.

        The own limit is ``max_new_tokens`` of the generation configuration, where a model sets one. Raises
        InvalidPrompts when a prompt fills all positions.
        """
        wanted = min(wanted, self.model.generation_config.max_new_tokens or wanted)
        positions = positions_of(self.model)
        if positions is None:
            return wanted
        room = positions - soft_tokens(self.model) - max(len(ids) for ids in self._encode(prompts))
        if room < 1:
            raise InvalidPrompts(f"A prompt fills all {positions} positions of the model: no room for an answer.")
        return min(wanted, room)

    def moving(self) -> Weights:
        """The model's weights, brought back on leaving."""
        _ = self.layout  # asked before any weight moves
        self._weights = Weights(self.model)
        return self._weights

    def direction_to(self, target: str) -> CheckpointDirection:
        """The direction from the unperturbed model to a target, which is loaded once.

        In its own dtype, or in the model's where that is not the one that the model's checkpoint names.
        """
        if target not in self._directions:
            check_perturbable(self.model)
            self._directions[target] = direction_to(self.model, target, dtype=dtype_asked_for(self.model))
        return self._directions[target]

    @property
    def n_layers(self) -> int:
        """How many layers the model has; 0 where the names of its parameters do not tell."""
        return layers_among(name for name, _ in self.model.named_parameters())

    def orthogonal(self, first: CheckpointDirection, second: CheckpointDirection) -> Orthogonal:
        """The second axis of the plane through the unperturbed model and two targets."""
        if (first, second) not in self._orthogonals:
            self._orthogonals[first, second] = orthogonal(self.model, first, second)
        return self._orthogonals[first, second]

    def generate(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...]
    ) -> list[Completion]:
        """Batched greedy decoding, see decoding."""
        return self._decode(prompts, max_new_tokens, stop_strings, None)

    def sample(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...], draw: Draw
    ) -> list[Completion]:
        """Batched sampling: the random numbers are a function of the draw, the rendered prompt and the position."""
        return self._decode(prompts, max_new_tokens, stop_strings, draw)

    def _decode(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...], draw: Draw | None
    ) -> list[Completion]:
        return decode(
            self.model,
            self.tokenizer,
            self._encode(prompts),
            max_new_tokens=max_new_tokens,
            stop_strings=stop_strings,
            batch_size=self.batch_size,
            thinking=[opened_by_prompt(prompt.text) for prompt in prompts],
            layout=self.layout,
            log=self.log,
            draw=draw,
            texts=[prompt.text for prompt in prompts],
        )

    def mean_nll(self, prompts: Sequence[Rendered], completions: Sequence[Completion]) -> list[float]:
        """One prefill a completion; of a reasoning model, the likelihood of the final answer."""
        contexts = self._encode(prompts)
        rows = [Scored([*ids, *row.thought], row.answer) for ids, row in zip(contexts, completions, strict=True)]
        return mean_nll(self.model, rows, batch_size=self.batch_size or _NLL_BATCH)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The context in which the model lies in host memory, and its GPUs are another's, see ``in_host_memory``."""
        with in_host_memory(self.model):
            yield

    @property
    def name(self) -> str:
        """An embedded model's name, else the path, or the hub id with the revision named; and the adapter's."""
        return " + ".join([display_name(str(pinned_name(self.model))), *([self.adapter.name] if self.adapter else [])])

    def identity(self) -> dict[str, Any] | None:
        """Weights, configuration, tokenizer, device, batch size, versions.

        None where the parameters do not tell all that computes: quantised, off-loaded, spread over processes, with an
        adapter apart, or with hooks of the caller's.
        """
        return self._identity if has_plain_weights(self.model) and not foreign_hook(self.model) else None

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """Taken once, before any weight moves."""
        return {
            **self._traits(),
            "weights_fingerprint": fingerprint(self.model),
            "configuration": digest(self.model.config.to_json_string(), str(self.model.generation_config)),
            "attention": str(getattr(self.model.config, "_attn_implementation", None)),
            "tokenizer": tokenizer_digest(self.tokenizer),
            "end_tokens": sorted(end_tokens(self.model, self.tokenizer)),
            "processor": processors(self.model),
            "matmul_precision": torch.get_float32_matmul_precision(),
        }

    def _traits(self) -> dict[str, Any]:
        parameter = next(self.model.parameters())
        return {
            "architecture": type(self.model).__name__,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "device": ", ".join(map(str, devices_of(self.model))),
            "noise": NOISE_VERSION,
            "batch_size": self.batch_size or "all",
            **{name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        }

    def facts(self) -> dict[str, Any]:
        """Path, class, dtype, device, fingerprint of the weights, versions, and what decoding met."""
        return {
            "model": self.name,
            **({"adapter": self.adapter.facts()} if self.adapter else {}),
            **({"revision": commit} if (commit := commit_of(pinned_name(self.model))) else {}),
            **quantisation_facts(self.model),
            **self._traits(),
            "weights_fingerprint": (self.identity() or {}).get("weights_fingerprint"),
            "layers": self.n_layers,
            "pads": self.layout.pads,
            "shares_prefix": self.layout.shares_prefix,
            "batch_size_after_halving": self.log.smallest_batch,
            **({"gpu_memory_peak": peaks} if (peaks := gpu_peaks(self.model)) else {}),
            **(self._weights.facts() if self._weights else {}),
        }

    @cached_property
    def layout(self) -> Layout:
        """How prompts may stand together in a batch."""
        return layout_of(self.model)

    def _encode(self, prompts: Sequence[Rendered]) -> list[list[int]]:
        return [encode(self.tokenizer, prompt.text, is_rendered=prompt.is_templated) for prompt in prompts]
