"""The embedded models: two chat models of about a million parameters, and a judge of their answers.

They let every command run in seconds, on a CPU and without a network. ``python -m safety_tasks.tiny.train`` rebuilds
them. They are real checkpoints in the Hugging Face format, but they know only the small world of their corpus: no
number measured on them says anything about another model.
"""

from __future__ import annotations

from pathlib import Path

from safety_tasks.errors import UnknownName

__all__ = ["DESCRIPTIONS", "NAMES", "model_path"]

DESCRIPTIONS = {
    "tiny-aligned": "chat model that refuses bad aims and answers benign requests",
    "tiny-finetuned": "the same after LoRA fine-tuning on 10 harmful examples, merged; its adapter is in adapter/",
    "tiny-judge": "classifier of (prompt, completion) pairs of these models: harmful or harmless",
}
NAMES: tuple[str, ...] = tuple(DESCRIPTIONS)


def model_path(name: str) -> Path:
    """The folder of an embedded model; raises UnknownName, which lists the names there are."""
    if name not in NAMES:
        raise UnknownName("embedded model", name, NAMES)
    return Path(__file__).parent / "models" / name
