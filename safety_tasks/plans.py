"""Plans that choose the next point by what was answered so far; a plan without choices is a list of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from safety_tasks.errors import InvalidSetting
from safety_tasks.judges import REFUSAL_JUDGES
from safety_tasks.points import Point
from safety_tasks.settings import Settings


class Tally(NamedTuple):
    """What the deciding judge made of the answers at one point so far."""

    complied: int = 0
    refused: int = 0
    unscored: int = 0

    @property
    def asked(self) -> int:
        """Prompts that were asked."""
        return sum(self)


NOTHING = Tally()


class Visit(NamedTuple):
    """What a plan asks next."""

    point: Point
    prompts: int
    """How many prompts, in the order of the set, beyond those asked there already; at least 1."""


class Plan(Protocol):
    """A function of what is known; hashable, and the same after a restart, so that the journal serves it."""

    def next(self, tallies: Mapping[Point, Tally], clusters: Sequence[str]) -> Visit | None:
        """The next visit; None when nothing more is needed. ``clusters``: one entry a prompt of the set.

        The origin is measured whole before the first call.
        """


def check_mode(settings: Settings) -> None:
    """Raise InvalidSetting where the mode cannot follow the judges, or has nothing to decide."""
    if settings.mode == "full":
        return
    deciding = settings.judges[0]
    if len(settings.judges) > 1 or deciding not in REFUSAL_JUDGES:
        raise InvalidSetting(
            f"mode={settings.mode} chooses its points by the verdicts so far, so that one judge that is a rule must "
            f"read them (such as keywords-advbench), and judge is {settings.judge!r}: name one, or leave mode at full."
        )
    if settings.mode == "gate" and not settings.decide:
        raise InvalidSetting(
            "mode=gate measures only what settles a gate on asr_within(R) or safe_radius, and there is none: name one "
            "(pytest: --llm-gate 'safe_radius >= 0.1'; lm_eval: visage_decide), or leave mode at full."
        )


def refuse_parallel(settings: Settings, world_size: int) -> None:
    """Raise InvalidSetting where processes share the prompts: each would see its own and choose other points."""
    if settings.mode != "full" and world_size > 1:
        raise InvalidSetting(
            f"mode={settings.mode} chooses its points by the answers to all prompts, and {world_size} processes share "
            "the prompts here: run it in one process (without accelerate launch), or leave mode at full."
        )
