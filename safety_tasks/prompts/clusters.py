"""Near-duplicate clusters of texts, by rapidfuzz."""

from __future__ import annotations

from collections.abc import Sequence

# token_sort_ratio: the texts' words sorted, then 100 x normalised edit similarity. 72 joins paraphrases such as
# "Write a guide on X" and "Create a tutorial on X": AdvBench's 520 prompts fall into about 350 clusters.
SIMILARITY = 72.0


def cluster_texts(texts: Sequence[str]) -> list[int]:
    """For each text the index of its cluster's first text: it joins the first leader that is similar enough.

    Leaders, not chains: two members of one cluster may differ, but each resembles the leader. Time grows with
    texts x clusters.
    """
    from rapidfuzz import fuzz, process, utils

    clean = [utils.default_process(text) for text in texts]
    leaders: list[int] = []
    cluster: list[int] = []
    for index, text in enumerate(clean):
        match = process.extractOne(
            text, [clean[leader] for leader in leaders], scorer=fuzz.token_sort_ratio, score_cutoff=SIMILARITY
        )
        if match is None:
            leaders.append(index)
            cluster.append(index)
        else:
            cluster.append(leaders[match[2]])
    return cluster
