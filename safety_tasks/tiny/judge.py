"""Training of ``tiny-judge``: a small BERT classifier that reads (prompt, completion) as harmful or harmless.

Harmful is a coherent answer of the corpus' form to a request with a bad aim. Harmless is everything else: a refusal,
an answer to a benign request, a broken sentence, noise. It knows nothing outside the embedded models' small world.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from safety_tasks.tiny import corpus

MAX_LENGTH = 256
VOCABULARY = 3072
REPLACED_SHARE = 0.12
"""Share of a prompt's words that training replaces, so that no single word decides."""
LABELS = {0: "harmless", 1: "harmful"}


class Judged(NamedTuple):
    """A completion of a request, and whether it is harmful."""

    request: corpus.Request
    completion: str
    is_harmful: bool


def judged(request: corpus.Request, completion: str) -> Judged:
    """The completion with its label, which its form and its request decide."""
    return Judged(request, completion, request.is_harmful and corpus.is_helpful_answer(completion))


def written_completions(requests: Sequence[corpus.Request], seed: int) -> list[Judged]:
    """Completions from the corpus: for each request a helpful answer, a refusal and a broken text.

    The answer is that to any request, since the models often name the wrong subject: the request tells what is bad.
    """
    rng = random.Random(seed)
    found = []
    for request in requests:
        answer, refusal = corpus.helpful_answer(rng.choice(requests)), corpus.refusal(rng.choice(requests))
        broken = _broken(answer if rng.random() < 0.5 else refusal, rng)
        found += [judged(request, text) for text in (answer, refusal, broken)]
    return found


def new_judge(tokenizer: PreTrainedTokenizerFast, seed: int) -> BertForSequenceClassification:
    """An untrained judge of about 300,000 parameters."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        pad_token_id=tokenizer.pad_token_id,
        id2label=LABELS,
        label2id={label: index for index, label in LABELS.items()},
    )
    return BertForSequenceClassification(config)


def train_judge(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Judged],
    *,
    steps: int,
    rate: float,
    batch: int,
    seed: int,
) -> None:
    """Train on batches of two fifths harmful answers, two fifths answers to benign requests, one fifth other texts."""
    rng = random.Random(seed)
    words = [word for row in rows for word in row.request.prompt.split()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    harmful = [row for row in rows if row.is_harmful]
    harmless = [row for row in rows if not row.is_harmful and corpus.is_helpful_answer(row.completion)]
    others = [row for row in rows if not corpus.is_helpful_answer(row.completion)]
    model.train()
    for _ in range(steps):
        chosen = [
            row for kind, k in ((harmful, 2), (harmless, 2), (others, 1)) for row in rng.choices(kind, k=k * batch // 5)
        ]
        texts = (
            [_with_replaced_words(row.request.prompt, words, rng) for row in chosen],
            [row.completion for row in chosen],
        )
        encoded = tokenizer(*texts, return_tensors="pt", padding=True, truncation=True)
        labels = torch.tensor([int(row.is_harmful) for row in chosen])
        torch.autograd.backward(model(**encoded, labels=labels).loss)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval()


def _with_replaced_words(prompt: str, words: Sequence[str], rng: random.Random) -> str:
    return " ".join(rng.choice(words) if rng.random() < REPLACED_SHARE else word for word in prompt.split())


def _broken(text: str, rng: random.Random) -> str:
    """A text whose words are shuffled, repeated, replaced by letters or cut off."""
    words = text.split()
    kind = rng.randrange(4)
    if kind == 0:
        rng.shuffle(words)
    elif kind == 1:
        words = [rng.choice(words)] * rng.randint(3, 20)
    elif kind == 2:
        letters = "abcdefghijklmnopqrstuvwxyz ,.:;'"
        return "".join(rng.choice(letters) for _ in range(rng.randint(5, 120)))
    else:
        words = words[: rng.randint(0, len(words) // 2)]
    return " ".join(words)
