"""The facts of several measurements, as one report tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISSED = ("missed_controls", "missed_template_controls")


def with_facts(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Known facts and new ones: tables are joined, of everything else the newest stands.

    A control that was missed once stays missed, whatever a later measurement says of it.
    """
    return {**known, **{name: _merged(known.get(name), fact, name in MISSED) for name, fact in new.items()}}


def _merged(known: Any, new: Any, is_kept: bool) -> Any:
    if not (isinstance(known, dict) and isinstance(new, dict)):
        return new
    return {**known, **{key: (is_kept and known.get(key)) or fact for key, fact in new.items()}}
