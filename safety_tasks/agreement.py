"""Agreement of two readings of the same rows: a judge's with people's labels, or two judges' with each other.

Values come from scikit-learn. Rates have exact intervals (``estimates.rate``). For kappa, F1 and balanced accuracy the
interval is the hull of two cluster bootstraps, each the percentiles of 1000 seeded resamples of whole clusters: of the
rows as they are, and with one more effective row in every cell of the table. The first alone collapses at perfect
agreement and is too narrow near it; the second is at least as wide there as the exact interval of the share of rows
that agree. Where a resample leaves the number undefined it counts as 0 for the lower bound and 1 for the upper one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safety_tasks.estimates import Estimate, rate
from safety_tasks.intervals import CONFIDENCE, Floats, Interval, cluster_resamples, effective_n

Label = Hashable | None
"""What a reader said of one row; None where it could not read it."""
_BLOCKS, _BLOCK = 4, 250  # resamples, drawn in blocks so that they take little memory
_METHOD = f"{CONFIDENCE:.0%} cluster bootstrap ({_BLOCKS * _BLOCK} resamples), with and without one more row a cell"
_TARGET = "over answers like these"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two readers of the same rows agree on; rows that either left unscored are only counted."""

    name_a: str
    name_b: str
    labels: tuple[Any, ...]
    """The labels that occur, in sorted order of their texts."""
    confusion: tuple[tuple[int, ...], ...]
    """Counts; rows: what a said, columns: what b said, both in the order of ``labels``."""
    agreement: Estimate | None
    """Share of rows with equal labels; None without rows."""
    kappa: Estimate | None
    """Cohen's kappa; None where both readers give one label only, or there are no rows."""
    disagreements: tuple[str, ...]
    """Ids of the rows with unequal labels."""
    unscored: int
    """Rows that either reader left unscored."""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "a": self.name_a,
            "b": self.name_b,
            "labels": [str(label) for label in self.labels],
            "confusion": [list(row) for row in self.confusion],
            "agreement": _plain(self.agreement),
            "kappa": _plain(self.kappa),
            "disagreements": list(self.disagreements),
            "unscored": self.unscored,
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Agreement:
        """The agreement that ``to_dict`` wrote; raises KeyError, TypeError or ValueError where the values hold none."""
        agreement, kappa = (
            None if values[name] is None else Estimate.from_dict(values[name]) for name in ("agreement", "kappa")
        )
        return cls(
            name_a=values["a"],
            name_b=values["b"],
            labels=tuple(values["labels"]),
            confusion=tuple(map(tuple, values["confusion"])),
            agreement=agreement,
            kappa=kappa,
            disagreements=tuple(values["disagreements"]),
            unscored=values["unscored"],
            note=values["note"],
        )


def _plain(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.to_dict()


def compare(
    name_a: str,
    labels_a: Sequence[Label],
    name_b: str,
    labels_b: Sequence[Label],
    ids: Sequence[str],
    clusters: Sequence[str],
) -> Agreement:
    """Agreement of two readers; all sequences have one entry a row, and clusters join near-duplicate rows."""
    rows = [row for row in zip(labels_a, labels_b, ids, clusters, strict=True) if None not in row[:2]]
    unscored = len(ids) - len(rows)
    if not rows:
        return Agreement(name_a, name_b, (), (), None, None, (), unscored, "no row was scored by both")
    said_a, said_b, kept_ids, kept = (list(column) for column in zip(*rows, strict=True))
    labels = sorted({*said_a, *said_b}, key=str)
    a, b = ([labels.index(label) for label in said] for said in (said_a, said_b))
    agreed = sum(here == there for here, there in zip(a, b, strict=True))
    kappa = _kappa(a, b, kept)
    counts = np.bincount(np.array(a) * len(labels) + b, minlength=len(labels) ** 2).reshape(len(labels), -1)
    return Agreement(
        name_a,
        name_b,
        tuple(labels),
        tuple(tuple(int(count) for count in row) for row in counts),
        rate("agreement", agreed, len(rows), kept, target=_TARGET),
        kappa,
        tuple(str(id_) for here, there, id_ in zip(a, b, kept_ids, strict=True) if here != there),
        unscored,
        "" if kappa is not None else "kappa is undefined: each of the two gives one label only",
    )


def _kappa(a: list[int], b: list[int], clusters: Sequence[str]) -> Estimate | None:
    from sklearn.metrics import cohen_kappa_score

    if len(set(a)) == 1 and len(set(b)) == 1:
        return None
    return _estimate("kappa", float(cohen_kappa_score(a, b)), (a, b), clusters, kappas)


def f1(truth: Sequence[bool], said: Sequence[bool], clusters: Sequence[str]) -> Estimate | None:
    """F1 of the positive label; None where neither calls a row positive."""
    from sklearn.metrics import f1_score

    if not any(truth) and not any(said):
        return None
    return _estimate("f1", float(f1_score(truth, said)), (truth, said), clusters, f1s)


def balanced_accuracy(truth: Sequence[bool], said: Sequence[bool], clusters: Sequence[str]) -> Estimate | None:
    """Mean of the two labels' recalls; None where the truth has one label only."""
    from sklearn.metrics import balanced_accuracy_score

    if len(set(truth)) < 2:
        return None
    value = float(balanced_accuracy_score(truth, said))
    return _estimate("balanced_accuracy", value, (truth, said), clusters, balanced_accuracies)


def _estimate(
    name: str,
    value: float,
    said: tuple[Sequence[int], Sequence[int]],
    clusters: Sequence[str],
    statistic: Callable[[Floats], Floats],
) -> Estimate:
    """``said``: the readers' labels as 0, 1, ...; ``statistic``: tables (..., K, K) to numbers, NaN: undefined."""
    size, effective = max(map(max, said)) + 1, effective_n(clusters)
    seen = np.eye(size**2)[np.array(said[0], dtype=int) * size + np.array(said[1], dtype=int)]
    more = np.eye(size**2) * len(clusters) / effective
    with np.errstate(invalid="ignore", divide="ignore"):
        bounds = _percentiles(statistic(_resampled(seen, clusters).reshape(-1, size, size)))
        members = [*clusters, *(f"added {cell}" for cell in range(size**2))]
        wider = _percentiles(statistic(_resampled(np.concatenate([seen, more]), members).reshape(-1, size, size)))
    low, high = bounds.hull(wider).hull(Interval(value, value))
    return Estimate(name, value, low, high, len(clusters), _METHOD, _TARGET, effective)


def _resampled(rows: Floats, clusters: Sequence[str]) -> Floats:
    """Sums of the rows of every resample. Shape (resamples, columns)."""
    return np.concatenate([cluster_resamples(clusters, _BLOCK, seed) @ rows for seed in range(_BLOCKS)])


def _percentiles(values: Floats) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = (np.nan_to_num(values, nan=undefined) for undefined in (0.0, 1.0))
    return Interval(float(np.quantile(low, tail)), float(np.quantile(high, 1 - tail)))


def kappas(counts: Floats) -> Floats:
    """Cohen's kappa of tables (..., K, K); NaN where chance alone agrees on every row."""
    total = counts.sum(axis=(-2, -1))
    observed = np.trace(counts, axis1=-2, axis2=-1) / total
    chance = (counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1) / total**2
    return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)


def f1s(counts: Floats) -> Floats:
    """F1 of tables (..., truth, said) of two labels, the second of which is positive; NaN without any positive."""
    return 2 * counts[..., 1, 1] / (2 * counts[..., 1, 1] + counts[..., 0, 1] + counts[..., 1, 0])


def balanced_accuracies(counts: Floats) -> Floats:
    """Mean recall of tables (..., truth, said) of two labels; NaN where the truth lacks one."""
    recalls: Floats = np.diagonal(counts, axis1=-2, axis2=-1) / counts.sum(axis=-1)
    return np.asarray(recalls.mean(axis=-1))
