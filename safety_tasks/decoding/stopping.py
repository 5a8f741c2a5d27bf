"""Stop strings: finding the first token at which a completion holds one of them.

An automaton over bytes (Aho and Corasick 1975) is lifted to tokens: a table says for each state and token which state
follows, so that a step costs one lookup a row. It works where a tokenizer's text is the concatenation of its tokens'
bytes; a self-check on random tokens proves that, and other tokenizers decode the last tokens of every row instead.
Either way a hit is confirmed on the whole text, so that no row ends without its string. A string that is found late,
which the table allows for strings spelled in single bytes, costs time and no verdict: judges read the whole text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_NO_CHARACTER = b"\xff"  # a byte of no UTF-8 text, and so of no stop string
_CHECKED_ROWS, _CHECKED_TOKENS = 64, 24


class StopFinder(Protocol):
    """Watches the rows of one batch."""

    def feed(self, rows: Sequence[int], tokens: Sequence[int]) -> list[int]:
        """Take one new token of each of these rows; the rows that may hold a stop string now."""

    def restart(self, row: int) -> None:
        """Forget what the row has said: its answer begins with the next token."""


def stop_finder(tokenizer: PreTrainedTokenizerBase, strings: tuple[str, ...], rows: int) -> StopFinder:
    """The fastest way that works here: the token table, else decoding each row's last tokens."""
    is_ascii = all(string.isascii() for string in strings)  # other characters can still be in pieces
    table = _token_table(tokenizer, len(tokenizer), strings) if is_ascii else None
    return _TailFinder(tokenizer, strings, rows) if table is None else _TableFinder(table, rows)


class _TableFinder:
    """``table[state, token]``; the last state is a hit, the last column a token that says nothing."""

    def __init__(self, table: NDArray[np.int16], rows: int) -> None:
        self.table = table
        self.states = np.zeros(rows, dtype=np.int64)

    def feed(self, rows: Sequence[int], tokens: Sequence[int]) -> list[int]:
        index = np.asarray(rows)
        columns = np.minimum(np.asarray(tokens), self.table.shape[1] - 1)
        self.states[index] = self.table[self.states[index], columns]
        return [int(row) for row in index[self.states[index] == len(self.table) - 1]]

    def restart(self, row: int) -> None:
        self.states[row] = 0


class _TailFinder:
    """Decodes as many of a row's last tokens as a string that ends in the newest one can span."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: tuple[str, ...], rows: int) -> None:
        self.tokenizer, self.strings = tokenizer, strings
        self.window = 2 * max(len(string) for string in strings) + 8  # special tokens add no text
        self.tails: list[deque[int]] = [deque(maxlen=self.window) for _ in range(rows)]

    def feed(self, rows: Sequence[int], tokens: Sequence[int]) -> list[int]:
        for row, token in zip(rows, tokens, strict=True):
            self.tails[row].append(token)
        texts = self.tokenizer.batch_decode([list(self.tails[row]) for row in rows], skip_special_tokens=True)
        return [row for row, text in zip(rows, texts, strict=True) if any(string in text for string in self.strings)]

    def restart(self, row: int) -> None:
        self.tails[row].clear()


@lru_cache(maxsize=4)
def _token_table(tokenizer: PreTrainedTokenizerBase, size: int, strings: tuple[str, ...]) -> NDArray[np.int16] | None:
    """The automaton over tokens. Shape (states, vocabulary + 1); None where tokens are not bytes of text.

    ``size`` is the tokenizer's number of tokens, so that a tokenizer that learns new ones gets a new table.
    """
    vocabulary = max(tokenizer.get_vocab().values()) + 1
    spelled = _token_bytes(tokenizer, vocabulary)
    if spelled is None:
        return None
    steps = _byte_automaton([string.encode() for string in strings])
    table = np.repeat(np.arange(len(steps), dtype=np.int16)[:, None], vocabulary + 1, axis=1)
    pending = np.array([token for token, text in enumerate(spelled) if text], dtype=np.int64)
    position = 0
    while len(pending):
        read = np.frombuffer(bytes(spelled[token][position] for token in pending), dtype=np.uint8)
        table[:, pending] = steps[table[:, pending], read]
        position += 1
        pending = pending[[len(spelled[token]) > position for token in pending]]
    return table


def _byte_automaton(strings: Sequence[bytes]) -> NDArray[np.int16]:
    """The state after each byte, the last state being a hit that nothing leaves. Shape (states, 256)."""
    children: list[dict[int, int]] = [{}]
    hits: set[int] = set()
    for string in strings:
        state = 0
        for byte in string:
            if byte not in children[state]:
                children.append({})
                children[state][byte] = len(children) - 1
            state = children[state][byte]
        hits.add(state)
    steps = np.zeros((len(children), 256), dtype=np.int64)
    fallback = [0] * len(children)
    queue = deque([0])
    while queue:
        state = queue.popleft()
        if state:
            steps[state] = steps[fallback[state]]
            if fallback[state] in hits:
                hits.add(state)
        for byte, child in children[state].items():
            fallback[child] = int(steps[state, byte]) if state else 0
            steps[state, byte] = child
            queue.append(child)
    return _with_one_hit(steps, hits)


def _with_one_hit(steps: NDArray[np.int64], hits: set[int]) -> NDArray[np.int16]:
    """All hits as one last state that nothing leaves."""
    kept = [state for state in range(len(steps)) if state not in hits]
    number = np.full(len(steps), len(kept), dtype=np.int16)
    number[kept] = np.arange(len(kept))
    return np.vstack([number[steps[kept]], np.full((1, 256), len(kept), dtype=np.int16)])


def _token_bytes(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> list[bytes] | None:
    """The bytes that each token adds to the text, by the first spelling that the tokenizer's own decoding confirms."""
    names = tokenizer.convert_ids_to_tokens(list(range(vocabulary)))
    added = tokenizer.added_tokens_decoder
    for spell in (_byte_level(), _sentence_piece):
        spelled = [
            _added_bytes(added[token]) if token in added else spell(name or "") for token, name in enumerate(names)
        ]
        if _agrees(tokenizer, names, spelled):
            return spelled
    return None


def _added_bytes(token: object) -> bytes:
    """An added token stands for itself; a special one is left out of texts."""
    return b"" if getattr(token, "special", False) else str(token).encode()


def _byte_level() -> Callable[[str], bytes]:
    """GPT-2's spelling: every byte is one printable character (openai/gpt-2, src/encoder.py, bytes_to_unicode)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
    return lambda name: b"".join(bytes([byte_of[c]]) if c in byte_of else c.encode() for c in name)


def _sentence_piece(name: str) -> bytes:
    """SentencePiece's: U+2581 is a space. Tokens of single bytes count as no character, see the module's text."""
    return _NO_CHARACTER if _BYTE_TOKEN.fullmatch(name) else name.replace("\u2581", " ").encode()


def _agrees(tokenizer: PreTrainedTokenizerBase, names: Sequence[str | None], spelled: Sequence[bytes]) -> bool:
    """Whether random tokens decode to the concatenation of their bytes, broken UTF-8 and leading spaces aside."""
    usual = [token for token, name in enumerate(names) if name and not _BYTE_TOKEN.fullmatch(name)]
    if not usual:
        return False
    rows = np.random.default_rng(0).choice(usual, (_CHECKED_ROWS, _CHECKED_TOKENS)).tolist()
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    ours = [b"".join(spelled[token] for token in row).decode(errors="replace") for row in rows]
    return all(_plain(a) == _plain(b) for a, b in zip(texts, ours, strict=True))


def _plain(text: str) -> str:
    return text.replace("\ufffd", "").lstrip(" ")
