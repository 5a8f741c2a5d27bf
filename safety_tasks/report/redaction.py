"""Values as they may be written down: finite, plain, and without secrets.

What is recognised: values of keys that name a secret (``token=``, ``--api-key``, ``"password": ...``), passwords,
keys and signatures in addresses, bearer tokens, the shapes of common keys, and the values of this process's
environment variables whose names end like a secret's, wherever they stand. Not covered: a secret under a name of its
own.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from typing import Any

_WORD = "[A-Za-z0-9_-]"
_SECRET = r"(?:token|api[_-]?key|access[_-]?key|password|passwd|secret|credentials?|authorization)"
_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s,;&"'()\[\]{}]+)"""
_RULES = [
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), r"\1 ***"),
    (re.compile(r"(://)[^/\s,?]+@"), r"\1***@"),
    (re.compile(r"(?i)([?&](?:[\w-]*key|sig|signature|code|auth)=)[^&#\s,\"']+"), r"\1***"),
    (re.compile(r"\b(?:hf_|sk-|gh[pousr]_|github_pat_|glpat-|AKIA)[A-Za-z0-9_-]{8,}"), "***"),
    (re.compile(rf"(?i)((?<!{_WORD}){_WORD}*{_SECRET}[\"']?\s*[=:]\s*){_VALUE}"), r"\1***"),
    (re.compile(rf"(?i)((?<!\S)-{_WORD}*{_SECRET}\s+){_VALUE}"), r"\1***"),
]
_SECRET_KEY = re.compile(rf"(?i){_SECRET}$")
_SHORTEST = 8  # a shorter value of the environment may be a word
_HIDDEN_PROMPT = re.compile(r"\d+ characters, sha256 [0-9a-f]{16}")
# Control characters, direction overrides and lone surrogates: none of them is text that a reader should meet.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def without_secrets(text: str) -> str:
    """The text with secrets as ``***`` and unprintable characters replaced."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and value in text and _SECRET_KEY.search(name):
            text = text.replace(value, "***")
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return _UNPRINTABLE.sub("\ufffd", text)


def plain(value: Any) -> Any:
    """The value for JSON: nan and infinity as None, secrets as ``***``, a system prompt as its length and hash."""
    if isinstance(value, Mapping):
        return {without_secrets(str(key)): _under(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return without_secrets(value)
    # numpy's scalars and arrays know their plain selves
    return plain(value.tolist()) if hasattr(value, "tolist") else without_secrets(str(value))


def _under(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key) and value not in (None, "", True, False):
        return "***"
    if key.endswith("system_prompt") and isinstance(value, str) and not _HIDDEN_PROMPT.fullmatch(value):
        return f"{len(value)} characters, sha256 {hashlib.sha256(value.encode(errors='replace')).hexdigest()[:16]}"
    return plain(value)
