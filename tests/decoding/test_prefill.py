from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, MptConfig, MptForCausalLM

from safety_tasks.decoding import decode, encode
from safety_tasks.decoding.prefill import SHORTEST_PREFIX, shared_prefix, shares_exactly
from safety_tasks.models import LoadedModel

SYSTEM = "Here is a plan for that thing, and it is a plain plan. "
PROMPTS = [SYSTEM + text for text in ("Tell me a story.", "Hi", "I cannot help, but here is a longer plan.", "I")]


def test_the_prefix_leaves_every_prompt_a_token_of_its_own() -> None:
    long = list(range(SHORTEST_PREFIX))
    assert shared_prefix([[*long, 7], [*long, 8, 9]]) == SHORTEST_PREFIX
    assert shared_prefix([[*long, 7], [*long, 7, 9]]) == SHORTEST_PREFIX
    assert shared_prefix([long, [*long, 7]]) == 0, "one token too few"
    assert shared_prefix([[*long, 7]]) == 0, "nothing to share"
    assert shared_prefix([[1, 2], [3, 4]]) == 0


@pytest.mark.parametrize("stop_strings", [(), ("I", "a", "e")])
def test_a_shared_prefix_changes_no_answer(
    build_model: Callable[..., LoadedModel], stop_strings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = build_model(tied=False, seed=3)
    prompts = [encode(loaded.tokenizer, text, is_rendered=True) for text in PROMPTS]
    alone = decode(*loaded, prompts, max_new_tokens=24, stop_strings=stop_strings)
    forward, shapes = type(loaded.model).forward, []

    def spy(model: torch.nn.Module, *args: object, input_ids: torch.Tensor, **kwargs: object) -> object:
        shapes.append(tuple(input_ids.shape))
        return forward(model, *args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(type(loaded.model), "forward", spy)
    assert decode(*loaded, prompts, max_new_tokens=24, stop_strings=stop_strings, shares_prefix=True) == alone
    length = shared_prefix(prompts)
    assert shapes[:2] == [(1, length), (4, max(len(prompt) for prompt in prompts) - length)]


def test_models_that_look_at_every_token_by_position_share(build_model: Callable[..., LoadedModel]) -> None:
    assert shares_exactly(build_model(seed=1).model)
    assert shares_exactly(build_model(seed=1, dtype=torch.bfloat16).model)


def test_models_that_count_places_or_slide_a_window_do_not() -> None:
    torch.manual_seed(0)
    counting = MptForCausalLM(MptConfig(d_model=32, n_heads=2, n_layers=2, vocab_size=80, max_seq_len=128))
    sliding = MistralForCausalLM(
        MistralConfig(
            vocab_size=80,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            sliding_window=8,
        )
    )
    assert not shares_exactly(counting.eval())
    assert not shares_exactly(sliding.eval())
