"""Where the session's run is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_llmsafety.run import SafetyRun

RUN: pytest.StashKey[SafetyRun] = pytest.StashKey()
