"""Times and verdicts of every road at every point: measured in turn, and kept so that a killed run goes on."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from roads import OurRoad, Road, StoredWalk, Walked
from tqdm import tqdm

from safety_tasks.chat import Rendered
from safety_tasks.directions import Direction
from safety_tasks.judges.keywords import ADVBENCH_29, KeywordJudge
from safety_tasks.judges.verdict import Verdict

T = TypeVar("T")
JUDGE = KeywordJudge("keywords-advbench", ADVBENCH_29)


@dataclass(frozen=True, slots=True)
class Visit:
    """One road at one point. Its move, decoding and judging are timed."""

    direction: int
    alpha: float
    road: str
    move_s: float
    answer_s: float
    verdicts: str
    """A letter a prompt: R refused, C complied."""
    distance: float = 0.0
    """Of the weights from those of the walk, as a share of their norm, in the worst tensor; of fp32 roads."""

    @property
    def seconds(self) -> float:
        """The whole point."""
        return self.move_s + self.answer_s

    @property
    def place(self) -> tuple[int, float]:
        """Which point it is."""
        return self.direction, self.alpha

    @property
    def asr(self) -> float:
        """Share of the answers that comply."""
        return self.verdicts.count("C") / len(self.verdicts)


class Journal:
    """Visits, one JSON line each, in a file that is named by everything that decides them."""

    def __init__(self, path: Path, *, is_fresh: bool) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_fresh:
            path.unlink(missing_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        whole = [line for line in lines if line.endswith("}")]  # a killed run may leave a torn one
        if len(whole) < len(lines):
            path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
        self.visits = [Visit(**json.loads(line)) for line in whole]

    def add(self, visit: Visit) -> None:
        """Keep a visit, in the file as well."""
        self.visits.append(visit)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(visit)) + "\n")

    def missing(self, direction: int, alpha: float, names: Sequence[str]) -> list[str]:
        """The roads that were not yet taken at a point."""
        found = {visit.road for visit in self.visits if visit.place == (direction, alpha)}
        return [name for name in names if name not in found]


@dataclass(frozen=True, slots=True)
class Trial:
    """What the roads are asked."""

    prompts: Sequence[Rendered]
    max_new_tokens: int
    alphas: Sequence[float]
    seed: int


def measure(
    trial: Trial,
    number: int,
    walked: torch.nn.Module,
    roads: Mapping[str, Road],
    journal: Journal,
    alphas: Sequence[float] | None = None,
) -> None:
    """Take every road at every point of a direction, or at ``alphas`` of it, in an order drawn for each point."""
    asked, direction = trial.alphas if alphas is None else alphas, Direction(trial.seed, number)
    missing = {alpha: journal.missing(number, alpha, list(roads)) for alpha in asked}
    if not any(missing.values()):
        return
    done = len(asked) * len(roads) - sum(map(len, missing.values()))
    bar = tqdm(total=len(asked) * len(roads), initial=done, desc=f"direction {number}", unit="visit")
    with bar, _walking(walked, direction, trial.alphas) as walk:
        for _ in trial.alphas:
            walk_s, alpha = timed(walk.advance)
            names = missing.get(alpha, [])
            random.Random(f"{number}:{alpha}").shuffle(names)
            for name in names:
                journal.add(_visit(trial, direction, alpha, name, roads[name], walk, walk_s))
                bar.update()


def _visit(
    trial: Trial, direction: Direction, alpha: float, name: str, road: Road, walk: StoredWalk, walk_s: float
) -> Visit:
    move_s, _ = timed(lambda: road.move_to(direction, alpha))
    answer_s, verdicts = timed(lambda: _verdicts(road.answer(trial.prompts, trial.max_new_tokens)))
    is_walked = isinstance(road, Walked)
    moved = road.engine.model if isinstance(road, OurRoad) else None
    distance = distance_of(walk.state, moved) if moved is not None and moved.dtype == torch.float32 else 0.0
    return Visit(direction.index, alpha, name, walk_s if is_walked else move_s, answer_s, verdicts, distance)


def _verdicts(answers: list[str]) -> str:
    return "".join("R" if v is Verdict.REFUSED else "C" for v in JUDGE.judge([""] * len(answers), answers))


def distance_of(state: Mapping[str, torch.Tensor], model: torch.nn.Module) -> float:
    """The largest distance of a tensor of the model from the walk's, as a share of its norm."""
    own = model.state_dict()
    return max(float((own[name].cpu() - tensor).norm() / tensor.norm()) for name, tensor in state.items())


@contextmanager
def _walking(model: torch.nn.Module, direction: Direction, alphas: Sequence[float]) -> Iterator[StoredWalk]:
    """A walk along the direction; the model is as it was afterwards."""
    pristine = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        yield StoredWalk(model, direction, alphas)
    finally:
        model.load_state_dict(pristine)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds that the work took, and what it returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result
