"""What is said of a model that is not loaded: its weights are pickled, it brings code, or a library failed on it."""

from __future__ import annotations

from pathlib import Path

from safety_tasks.errors import InvalidModel
from safety_tasks.revisions import pinned


def check_pickles(path: str) -> None:
    """Raise InvalidModel for a folder whose weights are pickled, and nothing else."""
    if Path(path).is_dir() and pickled_only(Path(path)):
        raise InvalidModel(
            f"The model {path!r} has pickled weights only, and those can run code when they are loaded: "
            f"only safetensors are loaded. {conversion(path)} To load them all the same, where you trust them: "
            "--llm-model-args use_safetensors=False."
        )


def pickled_only(folder: Path) -> bool:
    """Whether a folder has pickled weights and no safetensors."""
    return not any(folder.glob("*.safetensors")) and any(folder.glob("pytorch_model*.bin"))


def conversion(source: str, auto: str = "AutoModelForCausalLM") -> str:
    """The command that converts pickled weights, as a sentence."""
    name, revision = pinned(source)
    given = repr(name) if revision is None else f"{name!r}, revision={revision!r}"
    return (
        "Convert them once, if you trust them, and give the new folder: "
        f'python -c "from transformers import {auto} as M, AutoTokenizer as T; '
        f"M.from_pretrained({given}, use_safetensors=False).save_pretrained('converted'); "
        f"T.from_pretrained({given}).save_pretrained('converted')\"."
    )


def cannot_be_had(name: str, error: Exception, what: str = "model") -> InvalidModel:
    """What went wrong in loading, with the option by which to ask where something has to be asked for by name."""
    said = " ".join(str(error).split())  # in one line: a summary shows no more
    if "trust_remote_code" in said:
        return InvalidModel(
            f"The {what} {name!r} brings code of its own, which is not run unless it is asked for by name. Read it, "
            "and if you trust it: --llm-model-args trust_remote_code=True (of lm_eval --model_args "
            "trust_remote_code=True; in Python load it yourself and give model and tokenizer)."
        )
    if "safetensors" in said and "does not appear to have a file" in said:
        return InvalidModel(f"The {what} {name!r} has no safetensors weights ({said}) {conversion(name)}")
    return InvalidModel(f"The {what} {name!r} cannot be loaded ({type(error).__name__}: {said})")
