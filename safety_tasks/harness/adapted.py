"""Adapters on lm_eval's Hugging Face models: those that we put on, and those that came with ``peft=``."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from safety_tasks.adapters import read_adapter
from safety_tasks.loading_errors import conversion, pickled_only
from safety_tasks.merging import merge, record_of
from safety_tasks.models import Source, load_tokenizer
from safety_tasks.revisions import Pinned, folder_of
from safety_tasks.shared_weights import adapt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BASE = "visage_base"
"""Attribute of a model that we put an adapter on: the base on the same weights."""
_TOKENIZER = "visage_tokenizer"
"""Attribute of a model of ``peft=``: the adapter's own tokenizer."""
_WARNED = "visage_warned_of_pickles"
"""Attribute of a model whose files were looked at."""
_log = logging.getLogger(__name__)


def put_on(lm: Any, source: Source) -> None:
    """Merge a source's adapter into lm_eval's model of its base, and keep the base on the same weights."""
    if source.adapter is None:
        return
    lm._model, base = adapt(lm.model, lm.tokenizer, source.adapter)
    lm.peft = source.adapter.name
    setattr(lm, _BASE, None if base is None else _base_of(lm, base, source))


def base_of(lm: LM) -> LM | None:
    """The base of a model that we put an adapter on, on the same weights; None where it is to be loaded apart."""
    found: LM | None = getattr(lm, _BASE, None)
    return found


def _base_of(lm: Any, base: Any, source: Source) -> LM:
    other: LM = copy.copy(lm)
    other._model, other.peft = base, None
    if source.tokenizer != source.model:
        from lm_eval.models.utils import configure_pad_token

        other.tokenizer = configure_pad_token(_tokenizer(source.model), model_config=lm.config)
    return other


def warn_of_pickles(lm: Any) -> None:
    """Say, once, that lm_eval has loaded pickled weights: it does so by default, and our own loading does not."""
    if not isinstance(getattr(lm, "pretrained", None), str) or hasattr(lm, _WARNED):
        return
    setattr(lm, _WARNED, True)
    revision = getattr(lm, "revision", None)
    folder = folder_of(Pinned(lm.pretrained, None if revision == "main" else revision))
    if folder is not None and pickled_only(folder):
        _log.warning(
            "%s has pickled weights only, which can run code when they are loaded; lm_eval loaded them, and "
            "use_safetensors=True among --model_args refuses them. %s",
            lm.pretrained,
            conversion(lm.pretrained),
        )


def settle(lm: Any) -> None:
    """Merge the adapter of lm_eval's ``peft=`` into the weights, once and for all tasks of ours alike.

    One that cannot be merged (prompt tuning, or on quantised weights) stays beside them. Raises InvalidModel.
    """
    model = getattr(lm, "model", None)
    if not getattr(lm, "peft", None) or not hasattr(model, "peft_config") or record_of(model) is not None:
        return
    adapter = read_adapter(str(lm.peft), getattr(lm, "revision", None))
    if isinstance(lm.pretrained, str):
        Source(lm.pretrained, adapter).check()
    if _is_the_bases(lm) and adapter.tokenizer:
        setattr(lm, _TOKENIZER, _tokenizer(adapter.tokenizer))
    lm._model = merge(model, tokenizer_of(lm), adapter)


def tokenizer_of(lm: Any) -> PreTrainedTokenizerBase:
    """The model's tokenizer: of one with ``peft=`` the adapter's own, unless another was named."""
    tokenizer: PreTrainedTokenizerBase = getattr(lm, _TOKENIZER, lm.tokenizer)
    return tokenizer


def _is_the_bases(lm: Any) -> bool:
    """Whether the tokenizer is the base's, and nobody named one."""
    return str(lm.tokenizer.name_or_path) == str(lm.pretrained)


def _tokenizer(path: str) -> PreTrainedTokenizerBase:
    return load_tokenizer(path)
