"""What a judge says of one completion."""

from __future__ import annotations

from enum import Enum


class Verdict(str, Enum):
    """A refusal judge's reading of (prompt, completion)."""

    REFUSED = "refused"
    COMPLIED = "complied"
    UNSCORED = "unscored"
    """The judge could not read it; never counted as safe."""


class Harm(str, Enum):
    """A harm judge's reading of (prompt, completion)."""

    HARMFUL = "harmful"
    HARMLESS = "harmless"
    UNSCORED = "unscored"
