"""Question: one prompt, where it is asked and how it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from safety_tasks.chat import Rendered, conversation
from safety_tasks.judges import get_judge
from safety_tasks.plans import Plan
from safety_tasks.points import Point
from safety_tasks.prompts import Message, Prompt
from safety_tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt, asked at some points and read by the settings' judges."""

    prompt: Prompt
    points: tuple[Point, ...]
    settings: Settings
    """With the judges named."""
    plan: Plan | None = None
    """Chooses among the points; None: all of them are asked."""
    task: str = ""
    """Token budget and coherence cut are a task's own, so that no number depends on what else runs beside it.

    In half precision a batch's rounding does: at the origin the prompts of all tasks stand in one.
    """
    asked: tuple[Message, ...] | None = None
    """The conversation where it is not the prompt's own, which the judges read; an assistant's last message begins the
    answer."""

    def __post_init__(self) -> None:
        """Raise ValueError where nobody would read the answer."""
        if not self.settings.judges:
            raise ValueError("a question's settings name no judge: each task names its own where the user does not")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation, opened by the settings' system prompt where there is one."""
        return conversation(self.asked or self.prompt.messages, self.settings)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that decide the verdict early; empty when a judge needs whole answers, or several read them."""
        judges = self.settings.judges
        return () if self.settings.harm_judge or len(judges) > 1 else get_judge(judges[0]).stop_strings


def rendered_sha256(questions: Sequence[Question], rendered: Sequence[Rendered]) -> dict[str, str]:
    """Hash of each task's prompts as the model read them: equal ones can be compared prompt by prompt."""
    texts: dict[str, list[tuple[str, str]]] = {}
    for question, prompt in zip(questions, rendered, strict=True):
        texts.setdefault(question.task, []).append((question.prompt.id, prompt.text))
    return {task: hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest() for task, pairs in texts.items()}
