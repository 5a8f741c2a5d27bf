"""What lm_eval's models of servers lose on the way: why an answer ended, which one failed, and what a server said.

lm_eval hands on texts alone. A reply that was filtered, cut off or empty reaches a judge as an answer, a list of no
stop strings is sent where servers refuse one, and an error shows frames and texts. Nothing here sends a request.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from safety_tasks.errors import InvalidModel, MeasurementFailed
from safety_tasks.report.redaction import without_secrets

_ENDS: dict[str, bool | None] = {"stop": True, "length": False}
_FAILED = ("content_filter", "abort", "error")
"""Reasons to end of replies whose text is no answer of the model: OpenAI's and Azure's, SGLang's and vLLM's."""
_TAKE_TEXT = ("LocalCompletionsAPI", "OpenAICompletionsAPI", "SGLANGGENERATEAPI")
_LONGEST = 200
"""Characters of a server's own message that an error repeats."""
_HINTS = {
    401: "The key is taken from OPENAI_API_KEY.",
    403: "The key is taken from OPENAI_API_KEY.",
    404: "base_url must be the whole address, such as http://127.0.0.1:8000/v1/chat/completions, and the model's name "
    "the server's own.",
    405: "base_url must be the whole address, such as http://127.0.0.1:8000/v1/chat/completions.",
    429: "Ask for fewer at once (num_concurrent) or have it tried more often (max_retries).",
}


class Reply(str):
    """A server's text, with why it ended; in lm_eval's own cache it is plain text."""

    finished: bool | None
    """False when the token limit cut it off; None where the server does not say."""
    has_failed: bool
    """Whether it is no answer: filtered, aborted, or without content."""

    @classmethod
    def of(cls, text: str | None, reason: str | None) -> Reply:
        """The reply with this content and this reason to end."""
        reply = cls(text or "")
        reply.finished = _ENDS.get(reason or "")
        reply.has_failed = not reply.strip() or reason in _FAILED
        return reply

    def __reduce__(self) -> Any:
        """Plain text to whoever stores it."""
        return str, (str(self),)


@dataclass
class Heard:
    """What a server told of itself while it answered."""

    models: set[str] = field(default_factory=set)
    """The names under which it answered, with its fingerprint of the system where it gives one."""

    @contextmanager
    def listening(self, lm: Any) -> Iterator[None]:
        """The context in which lm_eval's model gives a Reply for each text, thinking included, and logs no text.

        Model types without a server change in nothing but their thinking, which is theirs to cut off no longer.
        """
        own: dict[str, Any] = {"think_end_token": None} if getattr(lm, "think_end_token", None) else {}
        if is_server(lm):
            own |= {"_create_payload": _payload_of(lm._create_payload)}
            own |= {"parse_generations": self._replies_of(lm.parse_generations)}
        before = {name: vars(lm)[name] for name in own if name in vars(lm)}
        # They log replies, servers' errors, which repeat prompts, and a failed request's headers with the key.
        levels = {log: log.level for log in map(logging.getLogger, ("lm_eval.models", "asyncio"))}
        try:
            vars(lm).update(own)
            if not is_server(lm):
                yield
                return
            for log in levels:
                log.setLevel(logging.CRITICAL)
            with _bars_on_terminals_only():
                yield
        finally:
            for log, level in levels.items():
                log.setLevel(level)
            for name in own:
                del vars(lm)[name]
            vars(lm).update(before)

    def _replies_of(self, parse: Any) -> Any:
        def parse_generations(outputs: Any, **kwargs: Any) -> list[Reply]:
            every = [one for one in (outputs if isinstance(outputs, list) else [outputs]) if isinstance(one, Mapping)]
            try:
                texts = parse(outputs=outputs, **kwargs) or [None] * max(len(every), 1)
            except (AttributeError, KeyError, TypeError):
                raise MeasurementFailed("The server's reply has no texts where lm_eval looks for them.") from None
            self.models |= {_name_of(one) for one in every if isinstance(one.get("model"), str)}
            reasons = [reason for one in every for reason in _reasons(one)]
            if len(reasons) != len(texts):
                reasons = [None] * len(texts)
            return [Reply.of(text, reason) for text, reason in zip(texts, reasons, strict=True)]

        return parse_generations

    def facts(self) -> dict[str, Any]:
        """Under which names it answered."""
        return {"answered_as": sorted(self.models)} if self.models else {}


def is_server(lm: Any) -> bool:
    """Whether lm_eval's model asks a server by HTTP."""
    return hasattr(lm, "_create_payload") and hasattr(lm, "parse_generations")


def takes_messages(lm: Any) -> bool:
    """Whether the server writes the chat template."""
    return is_server(lm) and type(lm).__name__ not in _TAKE_TEXT


def address_of(lm: Any) -> str:
    """Host, port and path of the server, without what may be secret."""
    parts = urlsplit(str(getattr(lm, "base_url", "") or ""))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else ""


def what_failed(lm: Any, error: Exception, asked: Sequence[str]) -> str | None:
    """What went wrong at the server, in a sentence; None for an error that is none of the server's.

    ``asked``: texts that are not repeated, should the server do so.
    """
    import aiohttp
    import requests

    where = f"The server of lm_eval's model type {type(lm).__name__} at {address_of(lm) or 'no base_url'}"
    if isinstance(error, requests.HTTPError | aiohttp.ClientResponseError):
        response = getattr(error, "response", None)
        status = getattr(error, "status", None) or getattr(response, "status_code", None) or 0
        said = _message(getattr(response, "text", ""), asked)
        unsaid = "" if said else "Its message, if it has one, is shown where num_concurrent is 1."
        hint = _HINTS.get(status, "Its own log says why." if status >= 500 else unsaid)
        return f"{where} answered with status {status}{said}. {hint}".rstrip()
    if isinstance(error, requests.Timeout | asyncio.TimeoutError):
        return f"{where} gave no answer within {lm.timeout} s: raise timeout in the model's arguments."
    if isinstance(error, requests.JSONDecodeError | json.JSONDecodeError):
        return f"{where} did not answer with JSON: is base_url the whole address?"
    if type(error) is ValueError and "API key" in str(error):
        return f"{where} was not asked: {error}"
    if isinstance(error, requests.RequestException | aiohttp.ClientError):
        return f"{where} cannot be reached ({type(error).__name__}): is it up, and base_url right?"
    return None


@contextmanager
def _bars_on_terminals_only() -> Iterator[None]:
    """Keep lm_eval's bar of requests, which its ``disable_tqdm`` does not reach, out of logs."""
    from lm_eval.models import api_models

    own = {name: getattr(api_models, name) for name in ("tqdm", "tqdm_asyncio")}
    gather = SimpleNamespace(gather=partial(own["tqdm_asyncio"].gather, disable=None))  # None: unless on a terminal
    try:
        vars(api_models).update(tqdm=partial(own["tqdm"], disable=None), tqdm_asyncio=gather)
        yield
    finally:
        vars(api_models).update(own)


def _payload_of(create: Any) -> Any:
    def create_payload(*args: Any, **kwargs: Any) -> Any:
        wanted = copy.deepcopy(kwargs.get("gen_kwargs") or {})  # which the original empties
        payload = create(*args, **kwargs)
        if not payload.get("stop", True):
            del payload["stop"]  # transformers serve answers an empty list with status 500, OpenAI at times with 400
        sent = payload.get("temperature", payload.get("sampling_params", {}).get("temperature"))
        if "temperature" in wanted and sent is not None and sent != wanted["temperature"]:
            raise InvalidModel(
                f"lm_eval would send the model {payload.get('model')!r} temperature {sent:g} instead of "
                f"{wanted['temperature']:g}, as this model type does for some names: choose the type "
                f"local-chat-completions with base_url, or sample at temperature {sent:g} with a profile."
            )
        return payload

    return create_payload


def _reasons(output: Mapping[str, Any]) -> list[str | None]:
    """Why the texts of a reply ended, in their order: of OpenAI's form, and of SGLang's own."""
    choices = output.get("choices")
    if isinstance(choices, list) and all(isinstance(one, Mapping) for one in choices):
        return [one.get("finish_reason") for one in sorted(choices, key=lambda one: one.get("index") or 0)]
    reason = (output.get("meta_info") or {}).get("finish_reason")
    return [reason.get("type") if isinstance(reason, Mapping) else None]


def _name_of(output: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (output["model"], output.get("system_fingerprint"))))


def _message(body: str, asked: Sequence[str]) -> str:
    """The server's own message in brackets, where it gives one and repeats no prompt in it."""
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    error = found.get("error", found) if isinstance(found, Mapping) else None
    text = (
        next((error[key] for key in ("message", "detail") if error.get(key)), "") if isinstance(error, Mapping) else ""
    )
    if not text or not isinstance(text, str) or any(one and one in text for one in asked):
        return ""
    return f" ({without_secrets(' '.join(text.split()))[:_LONGEST].rstrip('. ')})"
