"""The facts of several measurements, as one report tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_facts(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Known facts and new ones: tables are joined, of everything else the newest stands."""
    return {**known, **{name: _merged(known.get(name), fact) for name, fact in new.items()}}


def _merged(known: Any, new: Any) -> Any:
    return {**known, **new} if isinstance(known, dict) and isinstance(new, dict) else new
