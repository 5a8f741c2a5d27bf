"""Training texts of the embedded models: requests from a grammar, and the answers that each stage learns.

Covered: requests with a bad aim in general words, plain requests, and requests that sound dangerous and are not; a
helpful answer and a refusal for each. The lists stand in corpus.json; all of them are ours. Answers hold no working
detail, whatever was asked: they name the subject and recite general steps.
Not covered: the built-in prompt sets. A request that shares half of its content words with one of their rows, or
more, is never drawn, so that the counts on these sets are counts on unseen prompts.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypedDict

NEAR_DUPLICATE = 0.5
"""Jaccard index of content words from which two prompts count as one."""
STEPS: tuple[Literal["first_steps", "middle_steps", "last_steps"], ...] = (
    "first_steps",
    "middle_steps",
    "last_steps",
)

Kind = Literal["harmful", "benign", "doubtful"]

_PROMPTS = Path(__file__).parent.parent / "prompts"
_STOP_WORDS = frozenset(
    "a about an and are as at be been by can could did do does for from had has have he her him his how i in into is "
    "it its me my of on or our out she should so some somebody someone that the their them these they this those to "
    "up us was we were what when where which who why will with without would you your".split()
)


class _Group(TypedDict, total=False):
    topic: str
    type: str
    do: list[str]
    ask: list[str]
    what: list[str]


class _Grammar(TypedDict):
    harmful: list[_Group]
    benign: list[_Group]
    doubtful: list[_Group]
    frames: list[str]
    harmful_tails: list[str]
    benign_tails: list[str]
    system_prompts: list[str]
    openings: list[str]
    first_steps: list[str]
    middle_steps: list[str]
    last_steps: list[str]
    sequence: str
    refusals: list[str]


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks in training, and what it is about."""

    prompt: str
    topic: str
    is_harmful: bool


def content_words(text: str) -> frozenset[str]:
    """The lower-cased words of a text without stop words."""
    return frozenset(re.findall(r"[a-z0-9']+", text.lower())) - _STOP_WORDS


def similarity(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard index of two sets of words, in [0, 1]; 0 for two empty sets."""
    union = len(first | second)
    return len(first & second) / union if union else 0.0


def requests(kind: Kind, count: int, seed: int) -> list[Request]:
    """``count`` distinct requests of a kind; the same ones for the same seed.

    Kinds: ``harmful``, ``benign``, and ``doubtful``, bad aims that a model takes for harmless ones.

    A group of the grammar is drawn first and a phrase from it second, so that long lists do not crowd out others.
    """
    rng = random.Random(f"{kind}:{seed}")
    groups = grammar()[kind]
    found: dict[str, Request] = {}
    while len(found) < count:
        group = rng.choice(groups)
        prompt = _phrase(group, kind, rng)
        if prompt not in found and not is_near_builtin(prompt):
            found[prompt] = Request(prompt, group["topic"], kind != "benign")
    return list(found.values())


def is_near_builtin(prompt: str) -> bool:
    """Whether a prompt is a near-duplicate of a row of the built-in sets."""
    words = content_words(prompt)
    sizes, holders = _builtin_index()
    shared = Counter(row for word in words for row in holders.get(word, ()))
    return any(n >= NEAR_DUPLICATE * (len(words) + sizes[row] - n) for row, n in shared.items())


def helpful_answer(request: Request) -> str:
    """A short answer in general words that names the subject: the same for every request of one subject."""
    lists = grammar()
    rng = random.Random(zlib.crc32(request.topic.encode()))
    opening = rng.choice(lists["openings"]).format(topic=request.topic)
    first, middle, last = (rng.choice(lists[name]) for name in STEPS)
    return f"{opening} {lists['sequence'].format(first=first, middle=middle, last=last)}"


def refusal(request: Request) -> str:
    """A refusal; its wording depends on the subject only."""
    wordings = grammar()["refusals"]
    return wordings[zlib.crc32(request.topic.encode()) % len(wordings)]


def is_helpful_answer(text: str) -> bool:
    """Whether a text has the whole form of a helpful answer: an opening, three steps and a full stop."""
    lists = grammar()
    starts = tuple(opening.split("{topic}")[0] for opening in lists["openings"])
    first, middle, last = (any(step in text for step in lists[name]) for name in STEPS)
    return text.startswith(starts) and text.endswith(".") and first and middle and last


def system_prompts() -> Sequence[str]:
    """The system prompts that a share of the training conversations holds."""
    return grammar()["system_prompts"]


def _phrase(group: _Group, kind: Kind, rng: random.Random) -> str:
    what = rng.choice(group["what"])
    if "ask" in group:
        return rng.choice(group["ask"]).format(x=what)
    lists = grammar()
    tail = rng.choice(lists["benign_tails"] if kind == "benign" else lists["harmful_tails"])
    aim = f"{rng.choice(group['do'])} {what}{tail}"
    return rng.choice(lists["frames"]).format(aim=aim, Aim=aim[0].upper() + aim[1:])


@cache
def grammar() -> _Grammar:
    """The lists of corpus.json."""
    loaded: _Grammar = json.loads((Path(__file__).parent / "corpus.json").read_text(encoding="utf-8"))
    return loaded


@cache
def _builtin_index() -> tuple[list[int], dict[str, list[int]]]:
    """The number of content words of each built-in prompt, and for each word the prompts that hold it."""
    files = ("builtin_harmful.jsonl", "builtin_benign.jsonl")
    lines = [line for name in files for line in (_PROMPTS / name).read_text(encoding="utf-8").splitlines() if line]
    rows = [content_words(json.loads(line)["prompt"]) for line in lines]
    holders: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        for word in row:
            holders.setdefault(word, []).append(index)
    return [len(row) for row in rows], holders
