"""Adapter: a folder that peft wrote, read and checked before any model is loaded.

Only safetensors are taken. Not covered: adapters that bring rows for new tokens (resized embeddings); they are refused
when they are merged, for their shapes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safety_tasks.errors import InvalidModel
from safety_tasks.revisions import pinned

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLED = "adapter_model.bin"
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")
_VOCABULARY = ("*.jinja", "*.model", "*token*.json", "vocab.*", "merges.txt")
_ON_THE_HUB = (CONFIG, WEIGHTS, _PICKLED, *TOKENIZER_FILES, *_VOCABULARY)
_TASK = "CAUSAL_LM"
_PIECE = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Adapter:
    """A folder of adapter weights, and what its configuration says."""

    name: str
    """As it was given: a folder, or a hub id with its revision."""
    folder: Path
    kind: str
    """peft's type, such as LORA."""
    base: str
    """The model that it was trained on, as its configuration names it; empty where it names none."""

    @property
    def tokenizer(self) -> str | None:
        """Where its own tokenizer lies; None where it brings none, and the base's stands."""
        return str(self.folder) if any((self.folder / name).is_file() for name in TOKENIZER_FILES) else None

    @property
    def weights_sha256(self) -> str:
        """Hash of the file of weights. 64 hex digits."""
        digest = hashlib.sha256()
        with open(self.folder / WEIGHTS, "rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        return digest.hexdigest()

    def keys(self) -> set[str]:
        """The names of its tensors; raises InvalidModel where the file is no safetensors."""
        from safetensors import safe_open

        try:
            with safe_open(self.folder / WEIGHTS, framework="numpy") as file:
                return set(file.keys())
        except Exception as error:  # whatever safetensors raises, it is this file that cannot be read
            raise InvalidModel(
                f"The weights of the adapter {self.name!r} cannot be read ({error}): copy {WEIGHTS} again (of a git "
                "checkout: git lfs pull)."
            ) from error


def is_adapter(name: str) -> bool:
    """Whether this is a folder with an adapter and no model of its own."""
    folder = Path(name)
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def read_adapter(name: str, revision: str | None = None) -> Adapter:
    """The adapter of a folder or hub id (OWNER/NAME@REVISION); ``revision`` is that of a name without one.

    Raises InvalidModel for what is no adapter of a causal language model with weights in safetensors.
    """
    folder = Path(name)
    if not name.strip():
        raise InvalidModel(f"The adapter's name is empty: give its folder, with {CONFIG} and {WEIGHTS}.")
    if not folder.is_dir():
        asked = pinned(name)
        folder = _from_hub(asked.name, asked.revision or revision)
    if not (folder / CONFIG).is_file():
        what = "a whole model: give it as the model" if (folder / "config.json").is_file() else "no adapter"
        raise InvalidModel(f"The folder {name!r} has no {CONFIG}: it is {what}.")
    config = _config(name, folder)
    _check_weights(name, folder)
    adapter = Adapter(name, folder, str(config["peft_type"]), _base(config))
    if not adapter.keys():
        raise InvalidModel(f"The adapter {name!r} holds no weights: save it again with peft's save_pretrained.")
    return adapter


def _base(config: dict[str, Any]) -> str:
    """The base model that a configuration names, with its revision where it has one."""
    name, revision = str(config.get("base_model_name_or_path") or ""), config.get("revision")
    if not name or not revision or Path(name).exists():
        return name
    known = pinned(f"{name}@{revision}")
    return name if known.revision is None else str(known)


def _config(name: str, folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(f"The {CONFIG} of {name!r} cannot be read: {error}") from error
    if not isinstance(config, dict) or not config.get("peft_type"):
        raise InvalidModel(f"The {CONFIG} of {name!r} names no peft_type: it has to be peft's own file.")
    if config.get("task_type") not in (None, "", _TASK):
        raise InvalidModel(
            f"The adapter {name!r} is for the task {config['task_type']}: only those of causal language models "
            f"({_TASK}) answer prompts."
        )
    return config


def _check_weights(name: str, folder: Path) -> None:
    if (folder / WEIGHTS).is_file():
        return
    if (folder / _PICKLED).is_file():
        raise InvalidModel(
            f"The adapter {name!r} has pickled weights ({_PICKLED}), and unpickling runs code: only safetensors are "
            "loaded. Save it again with peft's save_pretrained, which writes them."
        )
    raise InvalidModel(f"The adapter {name!r} has no {WEIGHTS}.")


def _from_hub(name: str, revision: str | None) -> Path:
    """The adapter's files from the hub's cache, or the hub."""
    if Path(name).exists():
        raise InvalidModel(f"{name!r} is a file: an adapter is a folder with {CONFIG} and {WEIGHTS}.")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise InvalidModel(f"There is no adapter folder {name!r}.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_ON_THE_HUB)))
    except Exception as error:  # whatever the hub's client raises, it is this adapter that cannot be had
        raise InvalidModel(
            f"There is no adapter folder {name!r}, and on the hub it cannot be had ({type(error).__name__}: {error})"
        ) from error
