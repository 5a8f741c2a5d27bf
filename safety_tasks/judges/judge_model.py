"""JudgeModel: the weights behind a judge, fetched and loaded when they are first asked for.

Only safetensors weights are loaded and no remote code is run. A checkpoint that lacks a weight of its architecture is
refused: transformers would fill it with random numbers, and a random head judges all the same. An adapter is merged
into the base that its configuration names; of a multimodal guard the language model alone is loaded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safety_tasks.adapters import CONFIG, is_adapter
from safety_tasks.errors import InvalidModel
from safety_tasks.judges.cards import HUB, Card
from safety_tasks.judges.placement import Place, place
from safety_tasks.loading_errors import conversion
from safety_tasks.memory import gpu_memories
from safety_tasks.models import LoadedModel, Source, resolve_source
from safety_tasks.revisions import pinned

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WEIGHTS = "model*.safetensors"
_FILES = [_WEIGHTS, "adapter_model.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
_CHUNK = 8192
"""Llama 4's attention chunk, which the configuration of Llama-Guard-4-12B leaves out."""
_log = logging.getLogger(__name__)


@dataclass
class JudgeModel:
    """A causal language model or a sequence classifier that is not loaded before it is used."""

    source: str
    """A model folder, an adapter's, a hub id or the name of an embedded model."""
    kind: Literal["causal", "classifier"]
    dtype: str = "auto"
    card: Card | None = None

    def facts(self, threshold: float | None) -> Mapping[str, Any]:
        """What a report tells of the judge."""
        return {
            "source": self.card.page if self.card and self.card.hub != self.card.name else self.source,
            "licence": self.card.licence if self.card else None,
            "gated": self.card.gated if self.card else None,
            "ran_on_real_weights": bool(self.card and self.card.ran_on_real_weights),
            "threshold": threshold,
        }

    @cached_property
    def _files(self) -> Source:
        """Where the model lies, and the adapter on it, if any, from the hub's cache or the hub for a hub id."""
        if self.card is not None and self.card.hub != self.card.name:
            _log.warning(self.card.notice())
        found = source_of(self.source)
        if found.adapter is None and not Path(found.model).is_dir():
            found = source_of(str(_fetched(found.model)))  # what was fetched may be an adapter
        return found if Path(found.model).is_dir() else found._replace(model=str(_fetched(found.model)))

    @cached_property
    def folder(self) -> Path:
        """The folder of the weights; of an adapter its base's.

        Tells licence and gate of a named judge before anything is fetched. Raises InvalidModel when the weights cannot
        be had, or are no safetensors.
        """
        folder = Path(self._files.model)
        if not any(folder.glob(_WEIGHTS)):
            raise InvalidModel(_no_safetensors(self.source, self.kind))
        return folder

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, without the weights."""
        from transformers import AutoTokenizer

        folder = self.folder
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self._files.tokenizer)
            beside = folder / "chat_template.json"  # of a processor: transformers gives it to no tokenizer
            if tokenizer.chat_template is None and beside.is_file():
                tokenizer.chat_template = json.loads(beside.read_text(encoding="utf-8"))["chat_template"]
        except Exception as error:  # whatever transformers or tokenizers raise, it is this judge that cannot be had
            raise InvalidModel(f"The judge {self.source!r} has no tokenizer that can be loaded: {error}") from error
        return tokenizer

    @cached_property
    def config(self) -> Any:
        """The configuration, without the weights; raises InvalidModel for a model of another kind."""
        config = self._own_config
        ending = "ForSequenceClassification" if self.kind == "classifier" else "ForCausalLM"
        named = config.architectures or []
        if named and not any(ending in name or "ForConditionalGeneration" in name for name in named):
            raise InvalidModel(f"The judge {self.source!r} is a {named[0]}, and must be a {self.kind} model.")
        return config

    @cached_property
    def _own_config(self) -> Any:
        """The configuration, of whichever kind; Llama Guard 4's with the chunk length that it leaves out."""
        from transformers import AutoConfig

        folder = self.folder
        try:
            config = AutoConfig.from_pretrained(folder)
        except Exception as error:  # whatever transformers raises, it is this judge that cannot be had
            raise InvalidModel(f"The judge {self.source!r} has no configuration that can be read: {error}") from error
        text = config.get_text_config()
        if getattr(text, "attention_chunk_size", _CHUNK) is None:
            text.attention_chunk_size = _CHUNK
        return config

    @cached_property
    def loaded(self) -> LoadedModel:
        """Model and tokenizer, on the CPU until ``ready`` moves them."""
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        folder, tokenizer, config = self.folder, self.tokenizer, self._own_config
        auto = AutoModelForCausalLM if self.kind == "causal" else AutoModelForSequenceClassification
        try:
            with _without_load_report():
                found: Any = auto.from_pretrained(
                    folder, config=config, dtype=self.dtype, use_safetensors=True, output_loading_info=True
                )
        except Exception as error:  # whatever transformers or safetensors raise, it is this judge that cannot be had
            raise InvalidModel(
                f"The judge {self.source!r} cannot be loaded as a {self.kind} model ({type(error).__name__}: {error})"
            ) from error
        model, info = found
        missing = sorted({*info["missing_keys"], *(key for key, *_ in info.get("mismatched_keys", ()))})
        if missing:
            raise InvalidModel(
                f"The judge {self.source!r} lacks the weights {', '.join(missing[:3])} of a {type(model).__name__}: "
                "it is no such judge, or its checkpoint is incomplete."
            )
        return LoadedModel(self._adapted(model).eval(), tokenizer)

    def _adapted(self, model: Any) -> Any:
        """The model with the adapter, if any, in its weights; raises InvalidModel where it does not fit."""
        adapter = self._files.adapter
        if adapter is None:
            return model
        from safety_tasks.merging import attach, check_keys, merged

        adapted = attach(model, adapter)
        check_keys(adapted, adapter)
        return merged(adapted, adapter)

    def ready(self) -> LoadedModel:
        """Model and tokenizer, on the GPU with most room where there is enough of it now."""
        memories = gpu_memories()
        if not self._is_on_gpu and place(self.n_bytes, memories) is Place.BESIDE:
            roomiest = max(range(len(memories)), key=lambda gpu: memories[gpu].free)
            self.loaded.model.to(f"cuda:{roomiest}")  # type: ignore[arg-type]
        return self.loaded

    def leave_device(self) -> None:
        """Bring the weights to the CPU, and give the GPU's memory back."""
        import torch

        if self._is_on_gpu:
            self.loaded.model.to("cpu")  # type: ignore[arg-type]
            torch.cuda.empty_cache()

    @property
    def wants_device(self) -> bool:
        """Whether it fits a GPU only after the model under test is off it."""
        memories = gpu_memories()
        return bool(memories) and not self._is_on_gpu and place(self.n_bytes, memories) is Place.AFTER

    @property
    def _is_on_gpu(self) -> bool:
        return "loaded" in self.__dict__ and self.loaded.model.device.type == "cuda"

    @cached_property
    def n_bytes(self) -> int:
        """Size of the weights in memory, read from the files' headers."""
        import torch
        from safetensors import safe_open

        size = 0
        for file in self.folder.glob(_WEIGHTS):
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - a safe_open is no mapping
                    values = tensors.get_slice(name)
                    count = 1
                    for length in values.get_shape():
                        count *= length
                    own = _BITS.get(values.get_dtype(), 32)
                    size += count * (own // 8 if self.dtype == "auto" else getattr(torch, self.dtype).itemsize)
        return size

    @cached_property
    def identity(self) -> str:
        """Hash of weights, configuration and tokenizer."""
        from safety_tasks.fingerprints import digest, fingerprint, tokenizer_digest

        model, tokenizer = self.loaded
        return digest(fingerprint(model), model.config.to_json_string(), tokenizer_digest(tokenizer))


_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}


@contextmanager
def _without_load_report() -> Iterator[None]:
    """Without transformers' list of weights that are not used, such as a multimodal guard's vision tower."""
    from transformers.utils import logging as reports

    level = reports.get_verbosity()
    reports.set_verbosity_error()
    try:
        yield
    finally:
        reports.set_verbosity(level)


def source_of(name: str) -> Source:
    """What a judge is loaded from: a model's folder or hub id, or an adapter's folder and its base; or InvalidModel."""
    try:
        return resolve_source(name)
    except InvalidModel as error:
        if not is_adapter(name):
            raise
        raise InvalidModel(
            f"The judge {name!r} is an adapter that cannot be put on its base: {error.__cause__ or error} Its "
            f"{CONFIG} names the base (base_model_name_or_path): write the folder or hub id there."
        ) from error


def _fetched(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        repository, revision = pinned(hub_id)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_FILES))
    except Exception as error:  # whatever the hub or the network raise, it is this judge that cannot be had
        raise InvalidModel(_not_fetched(hub_id, error)) from error


def _not_fetched(hub_id: str, error: Exception) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    if "GatedRepoError" in names or status in (401, 403):
        return (
            f"The judge {hub_id!r} is gated, or is not there, or your access is missing: accept its terms on "
            f"{HUB}{hub_id} and run `hf auth login`, or give a local folder of its weights."
        )
    if "LocalEntryNotFoundError" in names or "OfflineModeIsEnabled" in names:
        return (
            f"The judge {hub_id!r} is not in the hub's cache and the hub cannot be reached: run `hf download {hub_id}` "
            "where there is a network, or give a local folder of its weights."
        )
    return f"The judge {hub_id!r} cannot be fetched from {HUB}{hub_id} ({type(error).__name__}: {error})"


def _no_safetensors(source: str, kind: str) -> str:
    auto = "AutoModelForCausalLM" if kind == "causal" else "AutoModelForSequenceClassification"
    return (
        f"The judge {source!r} has no safetensors weights, and pickled ones are not loaded: they can run code. "
        f"{conversion(source, auto)}"
    )
