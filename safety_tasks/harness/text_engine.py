"""TextEngine: a model behind lm_eval's ``generate_until``, in this process (vLLM, SGLang) or behind a server."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from safety_tasks.chat import Rendered, with_beginning
from safety_tasks.decoding import Completion, final_answer, opened_by_prompt
from safety_tasks.decoding.thinking import MARKERS
from safety_tasks.engine import Mover
from safety_tasks.errors import InvalidModel, InvalidPrompts, MeasurementFailed, NotPerturbable, SafetyError
from safety_tasks.harness.served import Heard, Reply, address_of, is_server, takes_messages, what_failed
from safety_tasks.noise import stream_key
from safety_tasks.prompts import Message
from safety_tasks.sampling import Draw
from safety_tasks.settings import Settings


class TextEngine:
    """A model behind lm_eval's ``generate_until``: text in, text out, nothing of the weights."""

    def __init__(self, lm: LM) -> None:
        self.lm: Any = lm
        self.heard = Heard()

    def render(self, messages: Sequence[Message], settings: Settings) -> Rendered:
        """The conversation by the model type's own template."""
        if settings.chat == "off":
            return Rendered("\n\n".join(message.content for message in messages), is_templated=False)
        if settings.template_arguments:
            raise InvalidModel(
                f"The profile has template_arguments, and lm_eval's model type {self._type} gives no "
                "access to the chat template: set them where the model is served, and leave them out of the profile."
            )
        if settings.thinking != "auto":
            raise InvalidModel(
                f"thinking is {settings.thinking!r}, and lm_eval's model type {self._type} gives no access "
                "to the chat template's switch: set it where the model is served, and leave thinking at auto here."
            )
        try:
            text = with_beginning(messages, self._written)
        except (NotImplementedError, AttributeError) as error:
            raise InvalidModel(
                f"lm_eval's model type {self._type} applies no chat template, and refusals depend on it. "
                "Choose its chat variant (such as local-chat-completions), or measure on plain text with "
                "--metadata visage_chat=off."
            ) from error
        return Rendered(text, is_templated=True)

    def _written(self, messages: Sequence[Message], opens_turn: bool) -> str:
        """What the model type makes of a conversation."""
        turns = [message._asdict() for message in messages]
        found: Any = self.lm.apply_chat_template(turns) if opens_turn else self.lm.apply_chat_template(turns, False)
        if is_server(self.lm) and not takes_messages(self.lm) and not isinstance(found, str):
            raise InvalidModel(
                f"lm_eval's model type {self._type} sends text, and has no tokenizer whose chat template writes it: "
                "name one (tokenizer_backend=huggingface,tokenizer=NAME in the model's arguments), or choose "
                "local-chat-completions."
            )
        system = messages[0].content.strip() if messages[0].role == "system" else ""
        if isinstance(found, str) and system not in found:
            raise InvalidModel(
                f"lm_eval's model type {self._type} leaves the system prompt out of the conversation, as it does where "
                "the chat template takes none: measure without it."
            )
        return found  # type: ignore[no-any-return]  # a chat server's messages stand as lm_eval's JsonChatStr

    def token_budget(self, prompts: Sequence[Rendered], wanted: int) -> int:
        """Cut to the room that lm_eval's ``max_length`` leaves, where its model type would cut prompts to make it.

        A server that takes messages knows its own limits. Raises InvalidPrompts when a prompt leaves none.
        """
        length = getattr(self.lm, "max_length", None)
        is_tokenized = getattr(self.lm, "tokenized_requests", True) and not takes_messages(self.lm)
        if not isinstance(length, int) or not is_tokenized or getattr(self.lm, "tokenizer", None) is None:
            return wanted
        longest = max(len(self.lm.tok_encode(prompt.text)) for prompt in prompts)
        if longest >= length:
            raise InvalidPrompts(
                f"A prompt of {longest} tokens leaves no room for an answer within {length}, and lm_eval's model type "
                f"{self._type} would cut its beginning off: raise max_length in the model's arguments."
            )
        return min(wanted, length - longest)

    def moving(self) -> AbstractContextManager[Mover]:
        """Refused: there are no weights here."""
        raise NotPerturbable(f"lm_eval's model type {self._type} gives no access to its weights.")

    def generate(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...]
    ) -> list[Completion]:
        """lm_eval's own greedy generation, to its end: ``stop_strings`` would cut the refusal out of the text."""
        return self._answers(prompts, {"max_gen_toks": max_new_tokens, "do_sample": False, "temperature": 0.0})

    def sample(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...], draw: Draw
    ) -> list[Completion]:
        """lm_eval's own sampled generation, with a seed for each answer, which the backend may ignore.

        lm_eval would send one seed with every request, so that a prompt's answers came out alike.
        """
        seed = stream_key(draw.seed, draw.sample, "answer") % 2**31
        wanted: dict[str, Any] = {"max_gen_toks": max_new_tokens, "do_sample": True}
        wanted |= {"sampling_seed" if self._type == "SGLangLM" else "seed": seed}
        wanted |= {"temperature": draw.temperature, "top_p": draw.top_p}
        return self._answers(prompts, wanted if draw.top_k is None else {**wanted, "top_k": draw.top_k})

    def _answers(self, prompts: Sequence[Rendered], wanted: dict[str, Any]) -> list[Completion]:
        requests = [
            Instance("generate_until", {}, (prompt.text, {"until": [], **wanted}), index, ("visage_generate", index, 1))
            for index, prompt in enumerate(prompts)
        ]
        think_end = getattr(self.lm, "think_end_token", None)
        texts = self._replies(requests)
        if len(texts) != len(requests) or not all(isinstance(text, str) for text in texts):
            raise SafetyError(f"lm_eval's model type {self._type} did not answer every prompt with text.")
        thinks_unseen = bool(think_end) or any(_closes_unopened(text) for text in texts)
        return [_completion(*pair, think_end, thinks_unseen) for pair in zip(prompts, texts, strict=True)]

    def _replies(self, requests: list[Instance]) -> list[str]:
        with self.heard.listening(self.lm):
            try:
                found: list[str] = self.lm.generate_until(requests)
                return found
            except Exception as error:
                if not is_server(self.lm):
                    raise
                told = str(error) if isinstance(error, SafetyError) else what_failed(self.lm, error, _asked(requests))
                if told is None:
                    raise
                kind = InvalidModel if isinstance(error, InvalidModel) else MeasurementFailed
            gc.collect()  # requests that failed beside it: asyncio logs them, keys included, as they are let go
        raise kind(told)  # without the frames, whose arguments hold prompts and replies

    def mean_nll(self, prompts: Sequence[Rendered], completions: Sequence[Completion]) -> None:
        """Out of reach."""

    @cached_property
    def name(self) -> str:
        """The model's own name where the model type has one, else the type's."""
        known = getattr(self.lm, "model", None)
        if not isinstance(known, str):
            given = getattr(self.lm, "model_args", None)
            known = (given.get("model") or given.get("model_path")) if isinstance(given, dict) else None
        return known if isinstance(known, str) and known else self._type

    def identity(self) -> None:
        """Unknown: the weights behind a server have no fingerprint, so nothing is remembered of them."""

    def facts(self) -> dict[str, Any]:
        """The model by name, lm_eval's type of it, and the server with what it told of itself."""
        server = address_of(self.lm)
        return {
            "model": self.name,
            "backend": self._type,
            **({"server": server} if server else {}),
            **self.heard.facts(),
            "weights_fingerprint": None,
        }

    @property
    def _type(self) -> str:
        return type(self.lm).__name__


def _completion(prompt: Rendered, reply: str, think_end: str | None, thinks_unseen: bool) -> Completion:
    """A reply as a completion: its final answer alone, and none where it failed or its thinking did not end."""
    answer = (
        None if isinstance(reply, Reply) and reply.has_failed else _answer_in(prompt, reply, think_end, thinks_unseen)
    )
    finished = reply.finished if isinstance(reply, Reply) else None
    return Completion(str(answer or ""), (), finished=finished, thinking_tokens=0 if answer else None)


def _answer_in(prompt: Rendered, reply: str, think_end: str | None, thinks_unseen: bool) -> str | None:
    """What the reply says after its thinking; None when that did not end.

    ``think_end``: lm_eval's own argument, a marker beside the published ones. A server that writes the chat template
    may open the thinking unseen: then a reply without an end of it, and without one of its own, is thinking still.
    """
    if think_end and think_end in reply:
        return reply.rpartition(think_end)[2]
    is_seen = isinstance(prompt.text, str)  # chat servers take messages
    answer = final_answer(reply, opened_by_prompt(prompt.text) if is_seen else None)
    is_known = is_seen and think_end in (None, *(markers.closing for markers in MARKERS))
    if answer == reply and thinks_unseen and not is_known and getattr(reply, "finished", None) is not True:
        return None
    return answer


def _closes_unopened(reply: str) -> bool:
    """Whether a reply ends a thinking that it did not begin."""
    return any(closing in reply and opening not in reply.partition(closing)[0] for opening, closing in MARKERS)


def _asked(requests: Sequence[Instance]) -> list[str]:
    """The texts of the conversations, however they are sent."""
    found: list[str] = []
    for prompt in (request.args[0] for request in requests):
        turns = json.loads(prompt.prompt) if hasattr(prompt, "prompt") else [{"content": prompt}]
        found += [turn["content"] for turn in turns]
    return found
