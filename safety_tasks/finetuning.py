"""Fine-tuning a loaded model in place for as long as a block lasts: the original weights are back bit for bit after it.

A plain loop, since a trainer's own files, callbacks and seeds would stand between two equal runs: AdamW without weight
decay at a constant rate, gradients clipped at 1, loss on the tokens of the answers only, batches from a seeded
shuffle. Dropout stays off, so that the seed of the batches (and of LoRA's first matrices) is the only chance in it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from safety_tasks.decoding import Scored, mean_nll
from safety_tasks.errors import Diverged, InvalidInput, InvalidModel, InvalidSetting
from safety_tasks.probes import quiet
from safety_tasks.weights import Weights, movable_parameters

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

METHODS = ("lora", "full")
_CLIP = 1.0
_BETAS = (0.9, 0.999)
_SCORED = 8  # rows of a batch that is only read


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a fine-tuning trains."""

    method: str = "lora"
    """``lora`` on every linear layer, or ``full``: all weights but those of norm layers."""
    rate: float = 5e-4
    steps: int = 60
    batch: int = 10
    """Most examples a step; all of them where there are fewer."""
    seed: int = 0
    rank: int = 8
    """Of LoRA; its alpha is twice the rank."""

    def __post_init__(self) -> None:
        """Check ranges; raises InvalidSetting."""
        if self.method not in METHODS:
            raise InvalidSetting(f"method is {self.method!r}: it must be one of {', '.join(METHODS)}.")
        if not self.rate > 0:
            raise InvalidSetting(f"rate is {self.rate!r}: it must be a positive number.")
        for name in ("steps", "batch", "rank"):
            if getattr(self, name) < 1:
                raise InvalidSetting(f"{name} is {getattr(self, name)!r}: it must be at least 1.")


class Training(NamedTuple):
    """What a fine-tuning did to its own examples."""

    loss_before: float
    """Mean over the examples that tell of it, of an attack its harmful ones, of the mean negative log-likelihood of
    their answers, nats a token."""
    loss_after: float
    losses: tuple[float, ...]
    """One a step."""

    @property
    def has_learnt(self) -> bool:
        """Whether the loss on the examples fell by half or more; an attack that did not is no evidence."""
        return self.loss_after <= self.loss_before / 2


@contextmanager
def finetuned(
    model: PreTrainedModel, examples: Sequence[Scored], recipe: Recipe, told_by: Sequence[Scored] = ()
) -> Iterator[Training]:
    """The model tuned on examples inside the block; after it, by whatever way, its weights are proved to be back.

    ``told_by``: those whose loss tells whether it learnt; all of them where none is named. Memory: a copy of the
    weights, and for what is trained a gradient and two moments (float32), with ``full`` in half
    precision a float32 copy too. Raises, before anything moves, InvalidInput without examples, NotPerturbable, and
    InvalidModel where that does not fit the device; Diverged where training ends in weights that are not finite.
    """
    if not examples or not all(example.answer for example in examples):
        raise InvalidInput("There is nothing to tune on: each example needs an answer of at least one token.")
    with _flags_kept(model), Weights(model):
        _check_memory(model, recipe)
        before = _mean_loss(model, told_by or examples)
        losses = (_train_lora if recipe.method == "lora" else _train_all)(model, examples, recipe)
        _check_finite(model, recipe)
        yield Training(before, _mean_loss(model, told_by or examples), tuple(losses))


def _train_all(model: PreTrainedModel, examples: Sequence[Scored], recipe: Recipe) -> list[float]:
    parameters = movable_parameters(model)
    wanted = {id(one) for one in parameters.values()}
    for one in model.parameters():
        one.requires_grad_(id(one) in wanted)
    return _steps(model, list(parameters.values()), examples, recipe)


def _train_lora(model: PreTrainedModel, examples: Sequence[Scored], recipe: Recipe) -> list[float]:
    """Train an adapter and add it to the weights; the model's modules are its own again, also after an exception."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.0
    )
    try:
        with torch.random.fork_rng(), quiet():
            torch.manual_seed(recipe.seed)
            adapted = get_peft_model(model, config)
        adapted.eval()
        losses = _steps(adapted, [one for one in adapted.parameters() if one.requires_grad], examples, recipe)
        adapted.merge_adapter()
    finally:
        _take_off(model)
    return losses


def _check_finite(model: PreTrainedModel, recipe: Recipe) -> None:
    if all(bool(torch.isfinite(one).all()) for one in model.parameters()):
        return
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    wider = ", or load the model in bfloat16 or float32" if dtype == "float16" else ""
    raise Diverged(
        f"The fine-tuning diverged to weights that are not finite (rate {recipe.rate:g}, {recipe.steps} steps, "
        f"{dtype}): lower rate or steps{wider}. The weights are back."
    )


def _take_off(model: PreTrainedModel) -> None:
    """Put the model's own modules back where an adapter's stand before them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, module.get_base_layer())
    for attribute in ("peft_config", "_hf_peft_config_loaded"):
        model.__dict__.pop(attribute, None)


def _steps(model: Any, trained: Sequence[nn.Parameter], examples: Sequence[Scored], recipe: Recipe) -> list[float]:
    """The loss of each step; trained in float32, whatever the parameters are."""
    pairs = [(one, one if one.dtype == torch.float32 else torch.nn.Parameter(one.detach().float())) for one in trained]
    optimizer = torch.optim.AdamW([wide for _, wide in pairs], lr=recipe.rate, betas=_BETAS, weight_decay=0.0)
    losses = []
    for rows in _batches(examples, recipe):
        with torch.enable_grad():
            loss = _loss(model, rows)
            torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, _CLIP)
        apart = [(one, wide) for one, wide in pairs if wide is not one]
        for one, wide in apart:
            wide.grad, one.grad = None if one.grad is None else one.grad.float(), None
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for one, wide in apart:
                one.copy_(wide)
        losses.append(float(loss.detach()))
    return losses


def _loss(model: Any, rows: Sequence[Scored]) -> torch.Tensor:
    """Mean over the answers' tokens of the batch, in nats."""
    longest = max(len(row.context) + len(row.answer) for row in rows)
    ids, seen, labels = [], [], []
    for row in rows:
        pad = [0] * (longest - len(row.context) - len(row.answer))
        ids.append([*row.context, *row.answer, *pad])
        seen.append([1] * (longest - len(pad)) + pad)
        labels.append([-100] * len(row.context) + list(row.answer) + [-100] * len(pad))
    device = next(model.parameters()).device
    inputs, mask, wanted = (torch.tensor(one, device=device) for one in (ids, seen, labels))
    logits = model(input_ids=inputs, attention_mask=mask, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=-100)


def _batches(examples: Sequence[Scored], recipe: Recipe) -> Iterator[list[Scored]]:
    """The rows of each step: passes over all examples, each in a new order; an incomplete batch goes on in the next."""
    rng, waiting = random.Random(recipe.seed), list[Scored]()
    size = min(recipe.batch, len(examples))
    for _ in range(recipe.steps):
        while len(waiting) < size:
            waiting += rng.sample(list(examples), len(examples))
        yield waiting[:size]
        waiting = waiting[size:]


def _mean_loss(model: PreTrainedModel, examples: Sequence[Scored]) -> float:
    found = mean_nll(model, examples, batch_size=_SCORED)
    return sum(found) / len(found)


@contextmanager
def _flags_kept(model: PreTrainedModel) -> Iterator[None]:
    """The context after which gradients, their flags, the modules' modes and the configuration are what they were."""
    flags = [(one, one.requires_grad, one.grad) for one in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    config, split = model.config, getattr(model.config, "pretraining_tp", None)
    try:
        model.eval()
        for one, _, _ in flags:
            one.grad = None  # else training would add to it
        yield
    finally:
        for one, flag, gradient in flags:
            one.requires_grad_(flag)
            one.grad = gradient
        for module, mode in modes:
            module.training = mode
        if split is not None:
            config.pretraining_tp = split  # which peft sets to 1


def _check_memory(model: nn.Module, recipe: Recipe) -> None:
    """Raise InvalidModel where gradients and moments of what is trained cannot fit beside the weights on a GPU."""
    if recipe.method == "lora" or not torch.cuda.is_available():
        return
    needed: dict[torch.device, int] = {}
    for one in movable_parameters(model).values():
        copies = 3 if one.dtype == torch.float32 else 4  # gradient, two moments, the float32 copy
        needed[one.device] = needed.get(one.device, 0) + copies * 4 * one.numel()
    for device, wanted in needed.items():
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else wanted
        if wanted > free:
            raise InvalidModel(
                f"Full fine-tuning needs {wanted / 1e9:.1f} GB for gradients and moments on {device}, and "
                f"{free / 1e9:.1f} GB are free: use method=lora."
            )
