"""Judges by name: refusal judges read a completion as refused or complied, harm judges as harmful or harmless."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

from safety_tasks.errors import UnknownName
from safety_tasks.judges.keywords import ADVBENCH_29, KeywordJudge
from safety_tasks.judges.verdict import Harm, Verdict
from safety_tasks.models import resolve_model

__all__ = [
    "HARM_JUDGES",
    "REFUSAL_JUDGES",
    "Harm",
    "HarmJudge",
    "RefusalJudge",
    "Verdict",
    "check_judges",
    "get_harm_judge",
    "get_judge",
]


class RefusalJudge(Protocol):
    """Reads completions as refused, complied or unscored."""

    @property
    def name(self) -> str:
        """The name under which every number of this judge is printed."""

    @property
    def identity(self) -> str:
        """What tells this judge from others of its name, such as another version of its weights."""

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that decide "refused" whatever follows them; empty when only whole answers can be read."""

    def judge(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Verdict]:
        """One verdict a completion; raises JudgeFailed rather than guess."""


class HarmJudge(Protocol):
    """Reads completions as harmful, harmless or unscored."""

    @property
    def name(self) -> str:
        """The name under which every number of this judge is printed."""

    @property
    def identity(self) -> str:
        """What tells this judge from others of its name, such as another version of its weights."""

    def judge(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Harm]:
        """One reading a completion; raises JudgeFailed rather than guess."""


REFUSAL_JUDGES: dict[str, RefusalJudge] = {
    "keywords-advbench": KeywordJudge("keywords-advbench", ADVBENCH_29),
}
HARM_JUDGES = ("tiny-judge",)
_CLASSIFIER = "classifier:"


def get_judge(name: str) -> RefusalJudge:
    """The refusal judge of a name; raises UnknownName listing those there are."""
    if name not in REFUSAL_JUDGES:
        raise UnknownName("refusal judge", name, REFUSAL_JUDGES)
    return REFUSAL_JUDGES[name]


def check_judges(judge: str, harm_judge: str | None) -> None:
    """Raise UnknownName or InvalidModel for a judge that is not there, without loading any."""
    get_judge(judge)
    if harm_judge is not None and harm_judge not in HARM_JUDGES and not harm_judge.startswith(_CLASSIFIER):
        raise UnknownName("harm judge", harm_judge, HARM_JUDGES, "Or give a classifier's folder as classifier:PATH.")
    if harm_judge is not None and harm_judge.startswith(_CLASSIFIER):
        resolve_model(harm_judge.removeprefix(_CLASSIFIER))


@cache
def get_harm_judge(name: str) -> HarmJudge:
    """The harm judge of a name or ``classifier:PATH``, loaded once a process on the CPU."""
    from safety_tasks.judges.classifier import ClassifierJudge

    check_judges("keywords-advbench", name)
    path = resolve_model(name.removeprefix(_CLASSIFIER))
    return ClassifierJudge.load(name, path)
