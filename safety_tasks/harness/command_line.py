"""What lm_eval's command line says of our options: early, and in one sentence.

The start-up hook calls ``check_metadata`` as lm_eval reads its task index, which is before it loads the model.
Standard library only, besides our own records.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from safety_tasks.errors import SafetyError
from safety_tasks.inputs import check_inputs
from safety_tasks.settings import METADATA_PREFIX, Settings


def check_metadata(metadata: Mapping[str, object] | None) -> None:
    """Raise InvalidInput for a wrong ``visage_*`` key; metadata without such keys is none of our business."""
    if any(key.startswith(METADATA_PREFIX) for key in metadata or ()):
        show_errors_plainly()
        check_inputs(Settings.from_metadata(metadata or {}))


def show_errors_plainly() -> None:
    """In lm_eval's own process, end on an error of ours with its sentence and exit status 1, without a traceback."""
    program = Path(sys.argv[0]) if sys.argv else Path()
    if program.stem not in ("lm_eval", "lm-eval") and program.parent.name != "lm_eval":
        return
    previous = sys.excepthook
    if getattr(previous, "_shows_safety_errors", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, SafetyError):
            print(f"error: {error}", file=sys.stderr)
        else:
            previous(kind, error, trace)

    hook._shows_safety_errors = True  # type: ignore[attr-defined]
    sys.excepthook = hook
