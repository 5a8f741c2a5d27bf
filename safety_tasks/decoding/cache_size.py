"""The size of a key-value cache and of a batch, from a model's configuration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_DO_NOT_GROW = {"LinearAttentionLayer", "DummyLayer"}  # classes of transformers' cache


def cache_bytes(config: PretrainedConfig, tokens: int, element_size: int) -> int:
    """Bytes of the cache of one row of so many tokens; recurrent states, which do not grow, are left out.

    Layers that attend to a window keep its tokens alone, one less than it holds.
    """
    from transformers import DynamicCache

    text: Any = config.get_text_config(decoder=True)
    growing = [layer for layer in DynamicCache(config=text).layers if type(layer).__name__ not in _DO_NOT_GROW]
    kept = [min(tokens, getattr(layer, "sliding_window", tokens + 1) - 1) for layer in growing]
    return sum(kept) * _elements_a_token(text) * element_size


def row_bytes(config: PretrainedConfig, tokens: int, element_size: int) -> int:
    """Bytes that one row of a batch takes at its full length: the cache, and the logits of its next token.

    0 where the configuration does not tell.
    """
    try:
        vocabulary = int(config.get_text_config(decoder=True).vocab_size)
        return cache_bytes(config, tokens, element_size) + vocabulary * element_size
    except (AttributeError, KeyError, TypeError, ValueError):  # of an architecture with names of its own
        return 0


def _elements_a_token(text: Any) -> int:
    """Keys and values of one token in one layer."""
    heads = int(text.num_attention_heads)
    if getattr(text, "kv_lora_rank", None) and getattr(text, "qk_rope_head_dim", None):  # latent, for all heads at once
        return int(text.kv_lora_rank + text.qk_rope_head_dim)
    size = getattr(text, "head_dim", None) or int(text.hidden_size) // heads
    return 2 * _key_heads(text, heads) * int(size)


def _key_heads(text: Any, heads: int) -> int:
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):  # Falcon's
        return 1
    found = getattr(text, "num_key_value_heads", None) or getattr(text, "num_kv_heads", None)
    return int(found or heads)
