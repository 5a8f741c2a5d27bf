"""Journal: what a run has measured, appended to a file as it comes, and read back by a run of the same kind.

It is the only cache. A file belongs to one identity: weights, their dtype and device, tokenizer, configuration, batch
size, versions and the source code of this package; another model, or the same one after a change, has another file.
A line belongs to what was asked: point, rendered prompts in their order, token budget, stop strings, or what a judge
was given to read. A line that was torn by a kill is passed over. One process at a time measures an identity; others
wait, and read back what it measured. The file holds answers: mode 0600, in a folder that git ignores when it is made
here.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from safety_tasks.errors import InvalidSetting

FORMAT = "llmsafety-journal/1"
OFF = "off"
_log = logging.getLogger(__name__)


class Journal:
    """The lines of one identity; without a file it remembers nothing."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.ended = ""
        """Why the file could not be written any more, if it could not."""
        self.recalled = 0
        """How many results were read back instead of measured."""
        self._known: dict[str, Any] = {}
        self._identity: Mapping[str, Any] = {}
        self._size = 0
        self._writing = threading.Lock()

    @classmethod
    def open(cls, folder: str, name: str, identity: Mapping[str, Any] | None) -> Journal:
        """The journal of an identity in a folder, which is made; none where nothing tells who answers.

        ``name`` is the model's, for the file's name only.

        Raises InvalidSetting for a folder that cannot be written, or a file that is another identity's.
        """
        if identity is None:
            return cls()
        identity = _plain({"format": FORMAT, "code": code_fingerprint(), **identity})
        path = Path(folder) / f"{_slug(name)}-{_key(identity)[:16]}.jsonl"
        try:
            _make(path)
            journal = cls(path)
            journal._identity = identity
            journal._read()
        except OSError as error:
            raise InvalidSetting(_unusable(folder, str(error.strerror))) from error
        return journal

    def remember(self, kind: str, asked: Any, measure: Callable[[], list[Any]], **about: Any) -> list[Any]:
        """The results of ``measure``, plain values for JSON, or those that the journal has for what is ``asked``.

        ``about`` is written beside them for readers of the file, as are the seconds that measuring took, unless
        ``about`` has them. Several threads may ask at once.
        """
        if self.path is None and not self._known:
            return measure()
        key = _key([kind, asked])
        if key in self._known:
            self.recalled += 1
            results: list[Any] = self._known[key]
            return results
        start = time.monotonic()
        results = _plain(measure())
        seconds = round(time.monotonic() - start, 6)
        with self._writing:
            if self.path is not None:
                self._known[key] = results
                self._write({"kind": kind, "key": key, "seconds": seconds, **about, "results": results})
        return results

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            self._append(line)
        except OSError as error:  # a full disk, say: what was measured is worth more than its journal
            _log.warning(
                "The journal %s ends here (%s); the measurement goes on without it.", self.path, error.strerror
            )
            self.ended, self.path = str(error.strerror), None

    def holds(self, kind: str, asked: Any) -> bool:
        """Whether ``remember`` would read back instead of measuring."""
        return _key([kind, asked]) in self._known

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The context in which no other process measures this identity; what others have measured is known in it."""
        if self.path is None:
            yield
            return
        from filelock import FileLock, Timeout

        lock = FileLock(f"{self.path}.measuring", mode=0o600)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _log.warning("Another process measures this model: waiting, to read its results back (%s).", self.path)
            lock.acquire()
        try:
            if self.path.stat().st_size != self._size:
                self._read()
            yield
        finally:
            lock.release()

    def _read(self) -> None:
        """Take in what is there; a new file gets its first line."""
        assert self.path is not None
        identity, text = self._identity, self.path.read_bytes()
        self._size = len(text)
        lines = [line for line in map(_parsed, text.splitlines()) if line is not None]
        heads = [line for line in lines if line["kind"] == "run"]
        if any(head["identity"] != identity for head in heads):
            raise InvalidSetting(
                f"The journal {str(self.path)!r} is another run's: move it away, or name another folder."
            )
        if not heads:
            self._append({"kind": "run", "identity": identity}, is_head=True)
        self._known = {line["key"]: line["results"] for line in lines if line["kind"] != "run"}

    def note(self, kind: str, **values: Any) -> None:
        """A line for readers of the file, which a run that goes on passes over."""
        self._append({"kind": kind, **values})

    def _append(self, line: Mapping[str, Any], *, is_head: bool = False) -> None:
        """One whole line at the end of the file, on disk when this returns; no second head beside another process's."""
        from filelock import FileLock

        assert self.path is not None
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with FileLock(f"{self.path}.lock", mode=0o600), self.path.open("r+b") as file:
            if is_head and any(found is not None and found["kind"] == "run" for found in map(_parsed, file)):
                return
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                text = text if file.read(1) == b"\n" else b"\n" + text  # after a line that a kill tore
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def journals_of(folder: str, name: str) -> list[Path]:
    """The journals of a model of that name in a folder, the newest first."""
    found = Path(folder).glob(f"{_slug(name)}-{'[0-9a-f]' * 16}.jsonl")
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a file as it was written; the first is its head where the file is a journal."""
    return [line for line in map(_object, path.read_bytes().splitlines()) if line is not None]


def text_hash(text: str) -> str:
    """The first 16 hexadecimal digits of a text's SHA-256: what an answer is called where it must not be read."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check_folder(folder: str) -> None:
    """Raise InvalidSetting for a folder that cannot be made or written; nothing is made."""
    place = Path(folder).absolute()
    there = next(parent for parent in (place, *place.parents) if parent.exists())
    if folder.lower() != OFF and not (there.is_dir() and os.access(there, os.W_OK)):
        raise InvalidSetting(_unusable(folder, f"{str(there)!r} is no folder that can be written"))


def _unusable(folder: str, why: str) -> str:
    return (
        f"The journal {folder!r} cannot be used ({why}). Name a folder that can be written, or do without: "
        "--llm-journal off, --metadata visage_journal=off."
    )


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line as it was written; None for what a kill tore, or what is no result."""
    found = _object(line)
    if found is None:
        return None
    is_head = found.get("kind") == "run" and isinstance(found.get("identity"), dict)
    is_result = isinstance(found.get("key"), str) and isinstance(found.get("results"), list) and "kind" in found
    return found if is_head or is_result else None


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("kind"), str) else None


def _make(path: Path) -> None:
    """The file, for its owner only; a folder that is new or empty is ignored by git from now on."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not any(path.parent.iterdir()):
        (path.parent / ".gitignore").write_text("*\n")
    os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    path.chmod(0o600)


def _plain(value: Any) -> Any:
    """As JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def _key(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[-40:] or "model"


@cache
def code_fingerprint() -> str:
    """Hash of this package's source code: what was measured by other code is measured again."""
    root = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
