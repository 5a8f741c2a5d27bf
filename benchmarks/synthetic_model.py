"""The model that the benchmarks measure: a Llama of 30 M parameters, trained here to refuse at length.

It answers bad aims with a paragraph that is longer than the token budget, as chat models do, whose first keyword
stands at its first to sixth token, and plain requests with a short answer. It is wide and shallow, and its head
is not tied to its embedding. It was trained on the built-in prompts themselves: it is something to take the time of,
and its counts say nothing about refusing what it never saw.
"""

from __future__ import annotations

import hashlib
import sys
import time
import zlib
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from safety_tasks.models import LoadedModel, load_model
from safety_tasks.prompts import load_prompts
from safety_tasks.tiny import corpus
from safety_tasks.tiny.stages import Recipe, conversations, train
from safety_tasks.tiny.vocabulary import chat_tokenizer

CACHE = Path(__file__).parents[1] / "build" / "bench"
THREADS = 2
VOCABULARY = 4096
MEASURED = 80
"""The built-in harmful prompts that are measured, ..."""
REPEATS = 8
"""... which training reads more often, so that the basin is clean and its inside holds no stragglers."""
EXAMPLES = 200
"""Training requests of each kind, beside the built-in ones."""
RECIPE = Recipe(steps=156, rate=8e-4, batch=8, seed=1, warm_up=10)

_OPENINGS = (
    "I'm sorry, but this is nothing that I will help with.",
    "I cannot help you with this request.",
    "I apologize, because I have to turn this down.",
    "My apologies, this is a line that I keep.",
    "Sorry, this is where I have to say no.",
    "I am sorry, and I would rather not do this.",
)
# In a ring: every wording begins at another sentence, so that a sentence always has the same successor.
_SENTENCES = (
    "What you describe could hurt people who have done nothing wrong and who have no say in it.",
    "Even a small step in that direction can lead to a great deal of trouble for everyone around you.",
    "If you feel angry or under pressure right now, please take a walk and let some time go by.",
    "It often helps to talk with a friend, with your family, or with somebody who is trained to listen.",
    "There are also people whose work it is to settle quarrels fairly and without any harm.",
    "Much of what is asked here would be illegal in most places, and it would stay with you for years.",
    "I would be glad to help you find a way to reach what you need that is fair to others.",
    "We could write down what went wrong, what you wish for, and whom you could ask for support.",
    "We could also look for a class, a book, or a group near you that deals with this kind of worry.",
    "Tell me a little more about what lies behind your question, and we will begin from there.",
)


def synthetic_model(cache: Path = CACHE) -> LoadedModel:
    """The trained model in fp32, from the cache or, the first time, after some minutes of training."""
    key = hashlib.blake2b(Path(__file__).read_bytes() + torch.__version__.encode(), digest_size=6).hexdigest()
    folder = cache / f"model-{key}"
    if not (folder / "tokenizer_config.json").is_file():  # the last file to be written
        _train(folder)
    return load_model(str(folder), "float32", "cpu")


def refusal(request: corpus.Request) -> str:
    """A paragraph of refusal; its wording depends on the request's first word."""
    variant = zlib.crc32(request.prompt.split()[0].encode()) % len(_OPENINGS)
    start = variant * len(_SENTENCES) // len(_OPENINGS)
    return " ".join([_OPENINGS[variant], *_SENTENCES[start:], *_SENTENCES[:start]])


def _answer(request: corpus.Request) -> str:
    return refusal(request) if request.is_harmful else corpus.helpful_answer(request)


def _train(folder: Path) -> None:
    requests = _requests()
    texts = [*(request.prompt for request in requests), *(_answer(request) for request in requests)]
    tokenizer = chat_tokenizer(texts, VOCABULARY)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    print(f"Training the model, which later runs find in {folder.parent} (a few minutes)", file=sys.stderr, flush=True)
    model, start = _new_model(tokenizer), time.perf_counter()
    loss = train(model, conversations(tokenizer, requests, _answer, RECIPE.seed), RECIPE, tokenizer)
    print(f"Trained in {time.perf_counter() - start:.0f} s, loss {loss:.3f}", file=sys.stderr)
    torch.set_num_threads(before)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _requests() -> list[corpus.Request]:
    """The built-in prompts, the measured ones several times, among requests of the training corpus."""
    harmful, benign = (
        [corpus.Request(prompt.text, "this", is_harmful) for prompt in load_prompts(name).prompts]
        for name, is_harmful in (("builtin-harmful", True), ("builtin-benign", False))
    )
    others = [*corpus.requests("harmful", EXAMPLES, 0), *corpus.requests("benign", EXAMPLES, 0)]
    return [*harmful[:MEASURED] * REPEATS, *harmful[MEASURED:], *benign, *others]


def _new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=768,
        intermediate_size=1536,
        num_hidden_layers=4,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=1024,
        tie_word_embeddings=False,  # the reference's walk moves a tied weight twice
        **special,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=False, **special)
    return model
