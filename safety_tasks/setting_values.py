"""The values of options: the rule that each must meet, and what a text from a command line stands for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from safety_tasks.errors import InvalidSetting

RULES: list[tuple[str, str, Callable[[Any], bool]]] = [
    ("n_prompts", "at least 1", lambda n: n >= 1),
    ("directions", "at least 1", lambda n: n >= 1),
    (
        "points",
        "an odd number of at least 3, so that the origin is on the grid",
        lambda n: n >= 3 and n % 2 == 1,
    ),
    ("plane_points", "an odd number of at least 3", lambda n: n >= 3 and n % 2 == 1),
    ("coefficients", "numbers with : between them, such as 0:0.5:1", lambda text: bool(numbers_of(text))),
    ("capability_task", "a task's name or the path of a YAML file", lambda name: bool(name.partition("#")[0].strip())),
    ("capability_limit", "at least 1", lambda n: n >= 1),
    ("capability_share", "a fraction in (0, 1]", lambda share: 0 < share <= 1),
    ("scales", "numbers with : between them, such as 0:0.5:1:2", lambda text: bool(numbers_of(text))),
    ("prefill_words", "whole numbers with : between them, such as 0:10:40", lambda text: bool(numbers_of(text))),
    ("trigger", "a text that is not empty", lambda text: bool(text.replace("{prompt}", "").strip())),
    ("asr_limit", "a fraction in [0, 1]", lambda t: 0 <= t <= 1),
    ("over_refusal_limit", "a fraction in [0, 1]", lambda t: 0 <= t <= 1),
    ("attack_data", "beavertails, or a file of prompts and answers", lambda name: bool(name.strip())),
    ("layer_groups", "at least 1", lambda n: n >= 1),
    ("target", "a model folder, a hub id, an embedded name or an adapter's folder", lambda name: bool(name.strip())),
    ("second_target", "a model as target is", lambda name: bool(name.strip())),
    ("radius", "a positive number", lambda r: math.isfinite(r) and r > 0),
    ("tolerance", "a fraction in [0, 1)", lambda t: 0 <= t < 1),
    ("seed", "0 or greater", lambda n: n >= 0),
    ("max_new_tokens", "at least 1", lambda n: n >= 1),
    ("judge", "a judge's name, or several joined by +", lambda names: all(name.strip() for name in names.split("+"))),
    ("judge_token_limit", "at least 1", lambda n: n >= 1),
    (
        "judge_prices",
        "two numbers of at least 0 with : between them, such as 2.5:10",
        lambda text: len(numbers_of(text)) == 2 and min(numbers_of(text)) >= 0,
    ),
    (
        "workers",
        "a number of at least 1, auto, ray, or ray:N",
        lambda text: re.fullmatch(r"auto|ray|(ray:)?[1-9][0-9]{0,4}", text) is not None,
    ),
    ("journal", "a folder, or off", lambda folder: bool(folder.strip()) and "\0" not in folder),
]
"""Option, rule in words, and whether a value meets it; a None is not asked."""


def numbers_of(text: str) -> tuple[float, ...]:
    """The numbers of a text such as ``0:0.5:1``; none where one of them does not read as a finite number."""
    try:
        found = tuple(float(part) for part in text.split(":"))
    except ValueError:
        return ()
    return found if all(math.isfinite(number) for number in found) else ()


def number(name: str, value: object, wanted: type) -> Any:
    """The int or float that a text stands for; raises InvalidSetting naming the option."""
    try:
        if isinstance(value, bool):
            raise ValueError
        return wanted(str(value)) if wanted is float or not float(str(value)).is_integer() else int(_digits(str(value)))
    except (ValueError, OverflowError):
        kind = "a whole number" if wanted is int else "a number"
        raise InvalidSetting(f"{name} is {value!r}: it must be {kind}.") from None


def _digits(text: str) -> int | float:
    """A whole number written as 80, 80.0 or 8e1, without a detour through float where it is written plainly."""
    return int(text) if text.strip().lstrip("+-").isdigit() else float(text)
