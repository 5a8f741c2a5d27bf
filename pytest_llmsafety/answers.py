"""Answers: what ``llm.generate`` returns, and why answers by a broken template or judge mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safety_tasks.settings import Settings

if TYPE_CHECKING:
    from lm_eval.api.model import LM


class AnswerText(str):
    """A model's answer; as a value in a failure message it shows its length only, as does what is cut out of it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Its length: pytest's messages print representations."""
        return f"<answer of {len(self)} characters>"


def _hidden(name: str) -> Callable[..., AnswerText]:
    """The method of ``str``, whose result is an AnswerText, too."""
    return lambda self, *arguments: AnswerText(getattr(str, name)(self, *arguments))


for _name in ("lower", "upper", "casefold", "strip", "lstrip", "rstrip", "replace", "__getitem__"):
    setattr(AnswerText, _name, _hidden(_name))


def generate(lm: LM, prompts: Sequence[str], settings: Settings, max_new_tokens: int | None) -> list[str]:
    """Answers of the unperturbed model, rendered and decoded as measurements do; of several samples the first."""
    from safety_tasks.answering import answer
    from safety_tasks.harness.request import engine_of
    from safety_tasks.prompts import Message

    engine, system = engine_of(lm), settings.system_prompt
    opening = [] if system is None else [Message("system", system)]
    rendered = [engine.render([*opening, Message("user", text)], settings) for text in prompts]
    budget = engine.token_budget(rendered, max_new_tokens or settings.max_new_tokens)
    draw = settings.sampling.draw(0) if settings.sampling else None
    return [AnswerText(completion.text) for completion in answer(engine, rendered, budget, (), draw)]


def distrust(facts: Mapping[str, Any], judge: str) -> str:
    """Why a judge's numbers decide nothing: it, or a model's template, missed a control; empty where none was."""
    broken = facts.get("missed_template_controls", {})
    if broken:
        return template_sentence(broken)
    missed = facts.get("missed_controls", {}).get(judge, ())
    if not missed:
        return ""
    return (
        f"The judge {judge} misread {len(missed)} of its controls ({', '.join(missed)}), so that its numbers "
        "decide nothing: name another with --llm-judge."
    )


def doubts(facts: Mapping[str, Any]) -> Iterator[str]:
    """All that ``distrust`` says of a run's judges, each sentence once."""
    yield from filter(None, dict.fromkeys(distrust(facts, judge) for judge in ("", *facts.get("missed_controls", {}))))


def template_sentence(missed: Mapping[str, Sequence[str]]) -> str:
    """Why no number decides anything, of what templates or tokenizers do wrong, by model."""
    told = "; ".join(f"{model}: {', '.join(what)}" for model, what in missed.items())
    return (
        f"A known conversation did not come through the model's template and tokenizer ({told}), so that no number of "
        "this run decides anything: correct the tokenizer's chat_template, or measure on plain text with --llm-chat "
        "off."
    )
