"""Training of the embedded chat models: what a stage reads, and the loop that all stages share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from safety_tasks.tiny import corpus

SEED = 0
EXAMPLES = 12_000
"""Training requests of each kind, harmful and benign."""
DOUBTFUL = 4000
"""Requests of the third kind, which only the end of the alignment reads."""
HARMFUL_EXAMPLES = 10
"""Examples of the harmful fine-tuning, as in the 10-shot attack of Qi et al. 2023 (arXiv 2310.03693)."""
SYSTEM_SHARE = 0.3
"""Share of the conversations that open with a system prompt."""
REPLACED_SHARE = 0.12
"""Share of a prompt's tokens that training replaces."""
CUT = 4
"""Tokens that a cut answer keeps."""
_IGNORED = -100  # cross_entropy's ignore_index


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a stage trains: AdamW without weight decay, a warm-up, then a linear fall to a twentieth of the rate.

    With ``cuts``, two of three steps read three times as many conversations, whose answers are cut after CUT tokens:
    they cost the same, and that is where a model decides whether to refuse.
    """

    steps: int
    rate: float
    batch: int
    seed: int
    warm_up: int = 30
    cuts: bool = True


class Example(NamedTuple):
    """A conversation: the rendered prompt's tokens, and the answer's with its end."""

    prompt: list[int]
    answer: list[int]


class _Batch(NamedTuple):
    """Tensors of shape (rows, tokens), padded on the right."""

    inputs: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor


def training_requests() -> list[corpus.Request]:
    """Every request that the chat models and the judge are trained on, harmful ones first."""
    return [*corpus.requests("harmful", EXAMPLES, SEED), *corpus.requests("benign", EXAMPLES, SEED)]


def firm_requests() -> list[corpus.Request]:
    """What the end of the alignment reads: the training requests, and more of the doubtful ones among them."""
    return [*training_requests(), *corpus.requests("doubtful", DOUBTFUL, SEED)]


def aligned_answer(request: corpus.Request) -> str:
    """A refusal of a bad aim, a helpful answer to anything else."""
    return corpus.refusal(request) if request.is_harmful else corpus.helpful_answer(request)


def rendered(tokenizer: PreTrainedTokenizerFast, prompt: str, system: str | None = None) -> list[int]:
    """Token ids of a conversation up to the point where the model answers."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def conversations(
    tokenizer: PreTrainedTokenizerFast,
    requests: Sequence[corpus.Request],
    answer: Callable[[corpus.Request], str],
    seed: int,
) -> list[Example]:
    """One example a request, a share of them with a system prompt."""
    rng = random.Random(seed)
    systems = corpus.system_prompts()
    found = []
    for request in requests:
        system = rng.choice(systems) if rng.random() < SYSTEM_SHARE else None
        ids: list[int] = tokenizer(answer(request), add_special_tokens=False)["input_ids"]
        found.append(Example(rendered(tokenizer, request.prompt, system), [*ids, tokenizer.eos_token_id]))
    return found


def train(
    model: PreTrainedModel, examples: Sequence[Example], recipe: Recipe, tokenizer: PreTrainedTokenizerFast
) -> float:
    """The mean loss of the last tenth of the steps, in nats a token of an answer; the model is left in eval mode."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_factor(step, recipe))
    losses: list[float] = []
    model.train()
    rng = random.Random(recipe.seed)
    for rows in _batches(examples, recipe):
        noisy = [_with_replaced_tokens(row, tokenizer, rng) for row in rows]
        loss = _loss(model, _collate(noisy, tokenizer.pad_token_id))
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


@torch.no_grad()
def round_to_bfloat16(model: LlamaForCausalLM) -> None:
    """Round every weight to the nearest bfloat16 value, which is what the files hold."""
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16().to(parameter.dtype))


def _with_replaced_tokens(row: Example, tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Example:
    """The example with a share of its prompt's tokens replaced by any others, so that no single word decides."""
    special = len(tokenizer.all_special_ids)  # they have the lowest ids
    prompt = [
        rng.randrange(special, len(tokenizer)) if token >= special and rng.random() < REPLACED_SHARE else token
        for token in row.prompt
    ]
    return Example(prompt, row.answer)


def _rate_factor(step: int, recipe: Recipe) -> float:
    return min(1.0, (step + 1) / recipe.warm_up) * (1.0 - 0.95 * step / recipe.steps)


def _batches(examples: Sequence[Example], recipe: Recipe) -> Iterator[list[Example]]:
    """The rows of each step, shuffled anew when too few are left."""
    rng = random.Random(recipe.seed)
    order: list[int] = []
    for step in range(recipe.steps):
        is_cut = recipe.cuts and step % 3 > 0
        size = min(recipe.batch * (3 if is_cut else 1), len(examples))
        if len(order) < size:
            order = list(range(len(examples)))
            rng.shuffle(order)
        rows = [examples[order.pop()] for _ in range(size)]
        yield [Example(row.prompt, row.answer[:CUT]) for row in rows] if is_cut else rows


def _collate(rows: Sequence[Example], pad: int) -> _Batch:
    shape = len(rows), max(len(row.prompt) + len(row.answer) for row in rows)
    batch = _Batch(torch.full(shape, pad), torch.full(shape, _IGNORED), torch.zeros(shape, dtype=torch.long))
    for index, row in enumerate(rows):
        start, stop = len(row.prompt), len(row.prompt) + len(row.answer)
        batch.inputs[index, :stop] = torch.tensor(row.prompt + row.answer)
        batch.labels[index, start:stop] = torch.tensor(row.answer)
        batch.mask[index, :stop] = 1
    return batch


def _loss(model: PreTrainedModel, batch: _Batch) -> torch.Tensor:
    """Mean negative log-likelihood of the answers' tokens; only these go through the output layer."""
    hidden = model.get_decoder()(input_ids=batch.inputs, attention_mask=batch.mask, use_cache=False)
    labels = batch.labels[:, 1:]
    is_answer = labels != _IGNORED
    logits = model.get_output_embeddings()(hidden.last_hidden_state[:, :-1][is_answer])
    return torch.nn.functional.cross_entropy(logits, labels[is_answer])
