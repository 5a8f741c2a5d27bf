"""Revisions: a hub id that names a version of its repository, OWNER/NAME@REVISION.

A revision is a branch, a tag, a commit or a pull request (refs/pr/N). Folders keep an @ in their names: what lies here
is never taken apart.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from safety_tasks.errors import InvalidModel

_PINNED = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)@(.*)", re.DOTALL)


class Pinned(NamedTuple):
    """A hub id or path, and the version of it."""

    name: str
    revision: str | None = None
    """None: the repository's default branch, or a folder."""

    def __str__(self) -> str:
        """As it is written."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


def folder_of(asked: Pinned) -> Path | None:
    """The folder of a path, or of what the hub's cache has of a hub id; None where nothing is here."""
    if not asked.name or Path(asked.name).is_dir():
        return Path(asked.name) if asked.name else None
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(asked.name, "config.json", revision=asked.revision)
    except ValueError:  # no hub id
        return None
    return Path(found).parent if isinstance(found, str) else None


def commit_of(asked: Pinned) -> str | None:
    """The commit of what the hub's cache has; None for a folder of other origin."""
    folder = folder_of(asked)
    return folder.name if folder is not None and folder.parent.name == "snapshots" else None


def pinned(name: str) -> Pinned:
    """What a user's name of a model or adapter says.

    Raises InvalidModel where nothing stands behind the @, or a folder before it, which would be loaded as it is.
    """
    found = None if Path(name).exists() else _PINNED.fullmatch(name)
    if found is None:
        return Pinned(name)
    if Path(found[1]).exists():
        raise InvalidModel(
            f"{name!r} names a revision, and {found[1]!r} is a folder here, which has none and would be loaded in the "
            f"place of the hub's: name the folder alone, or start where there is no {found[1]!r}."
        )
    if not found[2].strip():
        raise InvalidModel(f"{name!r} names no revision behind its @: write {found[1]}@BRANCH, @TAG or @COMMIT.")
    return Pinned(found[1], found[2].strip())
