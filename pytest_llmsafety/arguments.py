"""Arguments: the session's command line as pytest's own options are read from it.

pytest looks for its root folder and ini file before it knows any plugin's options, and takes each argument that exists
as a path for one of its own. In ``pytest --llm-model /models/mine`` the model would so decide which ini file, and which
gates, are read. Written ``--llm-model=/models/mine`` it does not; such command lines are rewritten and read again, as
are PYTEST_ADDOPTS and files of arguments (``pytest @FILE``).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from pytest_llmsafety.options import declared, flag_of

_ADDED = "PYTEST_ADDOPTS"


def read_again(config: pytest.Config) -> int | pytest.ExitCode | None:
    """Run the session with values joined to their options, if one of them may have been taken for a test's path."""
    folder, options = config.invocation_params.dir, _valued()
    given = list(_expanded(map(str, config.invocation_params.args)))
    added = shlex.split(os.environ.get(_ADDED, ""))
    joined, joined_added = (joined_values(arguments, options, folder) for arguments in (given, added))
    if (joined, joined_added) == (given, added):
        return None
    with pytest.MonkeyPatch.context() as environment:
        if added:
            environment.setenv(_ADDED, shlex.join(joined_added))
        return pytest.main(joined, plugins=list(config.invocation_params.plugins or []))


def joined_values(arguments: Sequence[str], options: Container[str], folder: Path) -> list[str]:
    """The arguments with ``OPTION PATH`` written ``OPTION=PATH`` for these options, where the path exists."""
    return list(_joined(arguments, options, folder))


def _joined(arguments: Sequence[str], options: Container[str], folder: Path) -> Iterator[str]:
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            yield from (argument, *rest)
            return
        value = next(rest, None) if argument in options else None
        if value is None:
            yield argument
        elif (folder / value.partition("::")[0]).exists():
            yield f"{argument}={value}"
        else:
            yield from (argument, value)


def _expanded(arguments: Iterable[str]) -> Iterator[str]:
    """The arguments with the lines of ``@FILE`` in its place, as argparse takes them."""
    for argument in arguments:
        path = Path(argument[1:])
        if argument.startswith("@") and path.is_file():
            yield from _expanded(path.read_text(encoding="utf-8").splitlines())
        else:
            yield argument


def _valued() -> frozenset[str]:
    """Our options that take a value."""
    return frozenset(flag_of(field.name) for _, field in declared() if field.default is not False)
