"""``python -m safety_tasks.tiny NAME`` prints the folder of an embedded model; without NAME, the names there are."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from safety_tasks.errors import UnknownName
from safety_tasks.tiny import DESCRIPTIONS, model_path

USAGE_ERROR = 2


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0, or 2 when the name is not one of ours."""
    if not arguments:
        for name, description in DESCRIPTIONS.items():
            print(f"{name}: {description}")
        return 0
    if len(arguments) > 1:
        print("Give one name: python -m safety_tasks.tiny NAME.", file=sys.stderr)
        return USAGE_ERROR
    try:
        print(model_path(arguments[0]))
    except UnknownName as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
