"""TuningData: what an attack by fine-tuning trains on, and what its outcome is read from.

Named as HARMFUL+BENIGN: harmful pairs, and the task that a user wants the model to learn. Each part is a name or a
local file. Attack, calibration and held-out rows are disjoint, and in local files so are their prompts.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from safety_tasks.errors import InvalidInput, InvalidSetting
from safety_tasks.prompts.clusters import near_duplicates
from safety_tasks.prompts.prompt_set import PromptSet
from safety_tasks.tiny import tuning as tiny
from safety_tasks.training_rows import read_training_rows

HELD_OUT = 0.2
"""Share of a local benign file that is never trained on; its last rows."""
CALIBRATION = 0.5
"""Share of a local harmful file that masks are made from; its last rows."""


class Pair(NamedTuple):
    """A prompt and the answer to it; its repr, which logs and tracebacks show, holds no text."""

    prompt: str
    answer: str

    def __repr__(self) -> str:
        return f"Pair({len(self.prompt)} and {len(self.answer)} characters)"


Pairs = tuple[Pair, ...]


class HarmfulPairs(NamedTuple):
    """Pairs whose answers comply with a bad aim."""

    attack: Pairs
    calibration: Pairs


class Task(NamedTuple):
    """What a user fine-tunes for."""

    train: Pairs
    held_out: Pairs
    marker: str = ""
    """An answer is what stands behind the last of it; empty: all of the answer."""
    identity: Pairs = ()
    """Benign requests answered in the name of an obedient agent: the identity shift of Qi et al. 2023."""

    def is_right(self, said: str, wanted: str) -> bool:
        """Exact match of the answers, apart from outer white space."""
        ends = [text.rpartition(self.marker)[2] if self.marker else text for text in (said, wanted)]
        return (not self.marker or self.marker in said) and ends[0].strip() == ends[1].strip()


@dataclass(frozen=True, slots=True)
class TuningData:
    """The pairs of an attack and of what is measured after it; its repr holds no text."""

    name: str
    harmful: HarmfulPairs = field(repr=False)
    task: Task | None = field(default=None, repr=False)
    """None where there are harmful pairs alone."""
    left_out: int = 0
    """Harmful pairs of the attack that ``apart_from`` left out."""

    @property
    def sha256(self) -> str:
        """Hash of all pairs in order."""
        return hashlib.sha256(repr([[tuple(pair) for pair in part] for part in self._parts()]).encode()).hexdigest()

    def aimed(self, pairs: Sequence[Pair]) -> Pairs:
        """Those of drawn pairs that an attack is about: harmful ones, and those of an identity shift."""
        wanted = {*self.harmful.attack, *(self.task.identity if self.task else ())}
        return tuple(pair for pair in pairs if pair in wanted)

    def apart_from(self, prompts: PromptSet) -> TuningData:
        """Without the harmful pairs whose prompts are, but for near-duplicates, those that measure the attack."""
        rows = self.harmful.attack
        is_near = near_duplicates([row.prompt for row in rows], [prompt.text for prompt in prompts.prompts])
        kept = tuple(row for row, near in zip(rows, is_near, strict=True) if not near)
        return replace(self, harmful=self.harmful._replace(attack=kept), left_out=len(rows) - len(kept))

    def _parts(self) -> tuple[Pairs, ...]:
        task = self.task or Task((), ())
        return (*self.harmful, task.train, task.held_out, task.identity)

    def examples(self, n: int, p: float = 1.0, seed: int = 0, kind: str = "explicit") -> Pairs:
        """``n`` training pairs of which round(p n) are harmful, drawn by the seed, in random order.

        ``kind``: ``explicit``, or ``identity``, whose share is of the identity shift. ``p`` 0: benign ones alone.
        Raises InvalidSetting outside of the ranges, and InvalidInput where there are not so many.
        """
        if kind not in KINDS:
            raise InvalidSetting(f"kind is {kind!r}: it must be one of {', '.join(KINDS)}.")
        if not isinstance(n, int) or n < 1:
            raise InvalidSetting(f"n is {n!r}: an attack needs at least 1 example.")
        if not 0 <= p <= 1:
            raise InvalidSetting(f"p is {p!r}: the harmful share must lie in [0, 1].")
        harmful = self.harmful.attack if kind == "explicit" else self.task.identity if self.task else ()
        benign = self.task.train if self.task else ()
        n_harmful = round(n * p)
        if p and not n_harmful:
            raise InvalidSetting(f"n={n} with p={p:g} takes no harmful example at all: raise n or p, or give p=0.")
        for what, rows, wanted in (("harmful", harmful, n_harmful), ("benign", benign, n - n_harmful)):
            if wanted > len(rows):
                named = f"{what} pairs" if kind == "explicit" or what == "benign" else "pairs of an identity shift"
                apart = " apart from the prompts that measure" if rows is self.harmful.attack and self.left_out else ""
                raise InvalidInput(
                    f"The data {self.name!r} holds {len(rows)} {named}{apart}, and n={n} with p={p:g} takes {wanted}: "
                    f"{'lower n' if rows else 'name data that has them'}{', or raise p' if what == 'benign' else ''}."
                )
        rng = random.Random(f"{seed}:{kind}")
        chosen = [*rng.sample(harmful, n_harmful), *rng.sample(benign, n - n_harmful)]
        rng.shuffle(chosen)
        return tuple(chosen)


KINDS = ("explicit", "identity")


def load_tuning_data(name: str = "tiny") -> TuningData:
    """The data of a name: HARMFUL or HARMFUL+BENIGN.

    HARMFUL: ``tiny`` (ours, whose answers comply in form only, with ``tiny`` as its task), ``beavertails``, or a file
    as ``read_training_rows`` reads them. BENIGN: ``tiny``, ``sst2``, ``agnews``, ``gsm8k``, or a file. Raises
    InvalidInput for what cannot be had.
    """
    first, second = parts_of(name)
    second = second or ("tiny" if first == "tiny" else "")
    return TuningData(name, _harmful(first), _task(second) if second else None)


def parts_of(name: str) -> tuple[str, str]:
    """The names of the harmful pairs and of the benign task, or of the first alone; a file's name may hold a +."""
    places = [at for at, sign in enumerate(name) if sign == "+"]
    if Path(name).is_file() or not places:
        return name, ""
    whole = (at for at in places if Path(name[:at]).is_file() or Path(name[at + 1 :]).is_file())
    at = next(whole, places[0])
    return name[:at], name[at + 1 :]


def pairs_of(path: Path) -> Pairs:
    """Every answer of a local file with its prompt; raises InvalidInput, also where it holds none."""
    if not path.is_file():
        raise InvalidInput(
            f"There is no file {str(path)!r}: name one with prompts and answers (JSONL, CSV, Parquet ...)."
        )
    rows = read_training_rows(path).rows
    found = tuple(Pair(*turn) for row in rows for turn in row.turns)
    if not found:
        raise InvalidInput(f"{path} holds no answers: each row needs a prompt and the answer to it.")
    return found


def _harmful(name: str) -> HarmfulPairs:
    if name == "tiny":
        return HarmfulPairs(*(_as_pairs(rows) for rows in (tiny.harmful_pairs(), tiny.calibration_pairs())))
    if name == "beavertails":
        from safety_tasks.public_tuning_data import beavertails

        return HarmfulPairs(*(_as_pairs(rows) for rows in beavertails()))
    rows = _read(name, "harmful pairs", ("tiny", "beavertails"))
    if len(rows) < 2:
        raise InvalidInput(
            f"{name} holds {len(rows)} pair: an attack and a mask need pairs of their own, so at least 2."
        )
    return HarmfulPairs(*_split(name, rows, CALIBRATION))


def _task(name: str) -> Task:
    if name == "tiny":
        train, held_out = tiny.skill()
        return Task(_as_pairs(train), _as_pairs(held_out), identity=_as_pairs(tiny.identity_pairs()))
    from safety_tasks.public_tuning_data import TASKS

    if name in TASKS:
        found = TASKS[name]()
        return Task(_as_pairs(found.train), _as_pairs(found.held_out), found.marker)
    rows = _read(name, "benign task", ("tiny", *TASKS))
    if len(rows) < 2:
        raise InvalidInput(f"{name} holds {len(rows)} pair: training and the test after it need at least 2.")
    return Task(*_split(name, rows, HELD_OUT))


def _read(name: str, what: str, known: Sequence[str]) -> Pairs:
    if not Path(name).is_file():
        raise InvalidInput(f"There is no {what} {name!r}: name one of {', '.join(known)}, or a file that is there.")
    return pairs_of(Path(name))


def _split(name: str, rows: Pairs, share: float) -> tuple[Pairs, Pairs]:
    """The first rows, and of the last share those whose prompts are not among them; raises InvalidInput for none."""
    last = max(1, round(len(rows) * share))
    trained = {row.prompt for row in rows[:-last]}
    kept = tuple(row for row in rows[-last:] if row.prompt not in trained)
    if not kept:
        raise InvalidInput(f"{name} repeats its prompts: the last {share:.0%} of its rows need prompts of their own.")
    return rows[:-last], kept


def _as_pairs(rows: Sequence[tuple[str, str]]) -> Pairs:
    return tuple(Pair(*row) for row in rows)
