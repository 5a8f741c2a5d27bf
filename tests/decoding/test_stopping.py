from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from safety_tasks.decoding import stopping
from safety_tasks.decoding.stopping import stop_finder
from safety_tasks.judges.keywords import ADVBENCH_29
from safety_tasks.models import load_model

TEXTS = [" ".join(ADVBENCH_29), "Hello! Here is a plan for that thing, and it is not illegal. Ünïcödé 数据"] * 5


def sentence_piece() -> PreTrainedTokenizerFast:
    """A tokenizer as Llama 2's: U+2581 for spaces, bytes where a character has no token, leading space stripped."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    bpe.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False))
    stored = json.loads(bpe.to_str())
    stored["added_tokens"] = stored["added_tokens"][:3]  # bytes are tokens of the vocabulary, not special ones
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(stored)), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def byte_level() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXTS, trainer)
    bpe.add_tokens(["<think>", AddedToken("I cannot", special=False)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")


def words_only() -> PreTrainedTokenizerFast:
    """A tokenizer whose text is not the concatenation of its tokens: spaces come between them."""
    words = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(["<unk>", *" ".join(TEXTS).split()]))})
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")


TOKENIZERS = {
    "byte-level": byte_level(),
    "sentence-piece": sentence_piece(),
    "tiny-aligned": load_model("tiny-aligned").tokenizer,
    "words": words_only(),
}


def adversarial_row(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> list[int]:
    """Random tokens, with keywords, near misses and special tokens strewn in, each cut at random places."""
    vocabulary = len(tokenizer)
    row: list[int] = []
    for _ in range(rng.randrange(1, 6)):
        row += [rng.randrange(vocabulary) for _ in range(rng.randrange(4))]
        keyword = rng.choice(ADVBENCH_29)
        text = rng.choice([keyword, keyword[:-1], " " + keyword, keyword.upper(), keyword[1:], "I I I'm sorr y"])
        for piece in _cut(text, rng):
            row += tokenizer(piece, add_special_tokens=False)["input_ids"]
            if rng.random() < 0.15:
                row.append(rng.choice(tokenizer.all_special_ids))
    return row


def _cut(text: str, rng: random.Random) -> list[str]:
    places = sorted(rng.sample(range(len(text) + 1), k=min(3, len(text))))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True) if a < b]


def first_hit(tokenizer: PreTrainedTokenizerFast, row: list[int]) -> int | None:
    """The reference: decode everything after every token."""
    for length in range(1, len(row) + 1):
        text = tokenizer.decode(row[:length], skip_special_tokens=True)
        if any(keyword in text for keyword in ADVBENCH_29):
            return length
    return None


def found_hit(tokenizer: PreTrainedTokenizerFast, row: list[int]) -> int | None:
    finder = stop_finder(tokenizer, ADVBENCH_29, 2)
    for length, token in enumerate(row, start=1):
        if finder.feed([1], [token]):
            return length
    return None


@pytest.mark.parametrize("name", TOKENIZERS)
@hypothesis_settings(max_examples=150)
@given(seed=st.integers(0, 2**32))
def test_a_stop_comes_with_the_token_that_completes_the_string(name: str, seed: int) -> None:
    tokenizer = TOKENIZERS[name]
    row = adversarial_row(tokenizer, random.Random(seed))
    if name == "sentence-piece":  # strings spelled in single bytes may be found late, see the module's text
        row = [token for token in row if not tokenizer.convert_ids_to_tokens(token).startswith("<0x")]
    assert found_hit(tokenizer, row) == first_hit(tokenizer, row)


@pytest.mark.parametrize("name", TOKENIZERS)
@hypothesis_settings(max_examples=100)
@given(seed=st.integers(0, 2**32))
def test_a_stop_is_never_taken_back_by_what_follows(name: str, seed: int) -> None:
    tokenizer = TOKENIZERS[name]
    row = adversarial_row(tokenizer, random.Random(seed))
    if found_hit(tokenizer, row) is not None:
        text = tokenizer.decode(row, skip_special_tokens=True)
        assert any(keyword in text for keyword in ADVBENCH_29)


@pytest.mark.parametrize("name", ["byte-level", "sentence-piece", "tiny-aligned"])
def test_these_tokenizers_have_a_token_table(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    table = stopping._token_table(tokenizer, len(tokenizer), ADVBENCH_29)
    assert table is not None and table.shape[1] == len(tokenizer) + 1
    assert (table[-1] == len(table) - 1).all(), "nothing leaves a hit"


def test_a_tokenizer_that_is_no_concatenation_of_bytes_is_decoded() -> None:
    tokenizer = TOKENIZERS["words"]
    assert stopping._token_table(tokenizer, len(tokenizer), ADVBENCH_29) is None


def test_tokens_beyond_the_vocabulary_say_nothing() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    finder = stop_finder(tokenizer, ("Sorry",), 1)
    ids = tokenizer("Sorry", add_special_tokens=False)["input_ids"]
    assert not finder.feed([0], [len(tokenizer) + 100])
    assert [bool(finder.feed([0], [token])) for token in ids] == [False] * (len(ids) - 1) + [True]


def test_a_row_that_begins_anew_forgets_half_a_string() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    for strings in (("Sorry",), ("Sorry", "數")):  # the table, and decoding
        finder = stop_finder(tokenizer, strings, 1)
        for token in tokenizer("Sor", add_special_tokens=False)["input_ids"]:
            finder.feed([0], [token])
        finder.restart(0)
        assert not any(finder.feed([0], [token]) for token in tokenizer("ry", add_special_tokens=False)["input_ids"])
