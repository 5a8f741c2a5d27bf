"""lm_eval's own flags: what --gen_kwargs and --system_instruction may change of a measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from safety_tasks.errors import InvalidSetting
from safety_tasks.profile import read_profile
from safety_tasks.settings import METADATA_PREFIX, Settings

_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens")
_GREEDY: dict[str, Any] = {"until": [], "do_sample": False, "temperature": 0}


def generation_kwargs(settings: Settings) -> dict[str, Any]:
    """How the answers are decoded, as lm_eval says it in its log and results; it would cut them at a blank line."""
    if settings.sampling is None:
        return {"until": [], "do_sample": False}
    draw = settings.sampling.draw(0)
    cut = {} if draw.top_k is None else {"top_k": draw.top_k}
    return {"until": [], "do_sample": True, "temperature": draw.temperature, "top_p": draw.top_p, **cut}


def with_flags(
    given: Settings, metadata: Mapping[str, Any], generation: Mapping[str, Any], system_instruction: str | None
) -> Settings:
    """The settings with the token limit of --gen_kwargs, and --system_instruction where they have no system prompt.

    Raises InvalidSetting for other generation arguments, and for flags that say something else than the profile.
    """
    deployed = read_profile(metadata.get(f"{METADATA_PREFIX}profile", {}))[0]
    known = generation_kwargs(given) if given.sampling else _GREEDY
    others = {name: value for name, value in generation.items() if known.get(name, object()) != value}
    limits = [int(others.pop(name)) for name in _LIMITS if name in others]
    if others:
        how = f"sample as their profile says ({given.decoding})" if given.sampling else "decode greedily"
        raise InvalidSetting(
            f"--gen_kwargs {', '.join(others)}: the safety tasks {how}, to the end of the answer. "
            "Only max_gen_toks may be set; sampling is set in a profile (--metadata visage_profile=FILE)."
        )
    if limits:
        _check_deployed(deployed, "--gen_kwargs", "max_new_tokens", limits[0])
        given = dataclasses.replace(given, max_new_tokens=limits[0])
    if system_instruction is None:
        return given
    _check_deployed(deployed, "--system_instruction", "system_prompt", system_instruction)
    return given if given.system_prompt is not None else dataclasses.replace(given, system_prompt=system_instruction)


def _check_deployed(deployed: Mapping[str, Any], flag: str, name: str, value: object) -> None:
    if deployed.get(name, value) != value:
        raise InvalidSetting(f"{flag} and the profile's {name} differ: leave one of the two out.")
