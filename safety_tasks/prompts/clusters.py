"""Near-duplicate clusters of texts, by rapidfuzz."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain, pairwise

# token_sort_ratio: the texts' words sorted, then 100 x normalised edit similarity. 72 joins paraphrases such as
# "Write a guide on X" and "Create a tutorial on X": AdvBench's 520 prompts fall into 359 clusters.
SIMILARITY = 72.0
# A text is compared with the leaders that share most of its telling words: those that at most _RARE texts hold, and
# its rarest _KEPT in any case. Comparing all pairs instead gives the same clusters on AdvBench and XSTest.
_RARE = 200
_KEPT = 4
_COMPARED = 64


def cluster_texts(texts: Sequence[str]) -> list[int]:
    """For each text the index of its cluster's first text: it joins the leader that is most like it, if any is.

    Leaders, not chains: two members of one cluster may differ, but each resembles the leader. Texts of the same
    words are one text.
    """
    clean = [_sorted_words(text) for text in texts]
    first: dict[str, int] = {}
    for index, text in enumerate(clean):
        first.setdefault(text, index)
    leaders = _leaders(list(first))
    return [first[leaders[text]] for text in clean]


def near_duplicates(texts: Sequence[str], of: Sequence[str]) -> list[bool]:
    """Whether each text is like one of the others, by the similarity that joins clusters."""
    from rapidfuzz import fuzz, process

    others = [_sorted_words(text) for text in of]
    found = (
        process.extractOne(_sorted_words(one), others, scorer=fuzz.ratio, score_cutoff=SIMILARITY) for one in texts
    )
    return [match is not None for match in found]


def _sorted_words(text: str) -> str:
    from rapidfuzz import utils

    return " ".join(sorted(utils.default_process(text).split()))


def _leaders(texts: list[str]) -> dict[str, str]:
    """The leader of each of the distinct texts, whose words are sorted."""
    from rapidfuzz import fuzz, process

    frequency = Counter(chain.from_iterable(_words(text) for text in texts))
    holding: defaultdict[str, list[int]] = defaultdict(list)  # word -> the leaders that it tells of
    leader_of: dict[str, str] = {}
    for index, text in enumerate(texts):
        words = _telling_words(text, frequency)
        shared = Counter(chain.from_iterable(holding[word] for word in words))
        near = [texts[leader] for leader in sorted(leader for leader, _ in shared.most_common(_COMPARED))]
        match = process.extractOne(text, near, scorer=fuzz.ratio, score_cutoff=SIMILARITY)
        leader_of[text] = match[0] if match else text
        if match is None:
            for word in words:
                holding[word].append(index)
    return leader_of


def _words(text: str) -> set[str]:
    """The words, and of those in other scripts, which may not divide words by spaces, the pairs of characters."""
    words = text.split()
    pairs = chain.from_iterable(pairwise(word) for word in words if not word.isascii())
    return {*words, *("".join(pair) for pair in pairs)}


def _telling_words(text: str, frequency: Counter[str]) -> list[str]:
    by_rarity = sorted(_words(text), key=lambda word: (frequency[word], word))
    return [word for place, word in enumerate(by_rarity) if place < _KEPT or frequency[word] <= _RARE]
