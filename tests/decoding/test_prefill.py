from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import (
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MiniMaxConfig,
    MiniMaxForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
)

from safety_tasks.decoding import Layout, decode, encode, layout_of
from safety_tasks.decoding.prefill import SHORTEST_PREFIX, shared_prefix
from safety_tasks.fingerprints import fingerprint
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
    assert (
        decode(*loaded, prompts, max_new_tokens=24, stop_strings=stop_strings, layout=Layout(shares_prefix=True))
        == alone
    )
    length = shared_prefix(prompts)
    assert shapes[:2] == [(1, length), (4, max(len(prompt) for prompt in prompts) - length)]


def test_models_that_look_at_every_token_by_position_share(build_model: Callable[..., LoadedModel]) -> None:
    assert layout_of(build_model(seed=1).model) == Layout(shares_prefix=True)
    assert layout_of(build_model(seed=1, dtype=torch.bfloat16).model) == Layout(shares_prefix=True)


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
    assert layout_of(counting.eval()) == Layout()
    assert layout_of(sliding.eval()) == Layout()


def test_rows_of_models_that_cannot_be_padded_stand_with_rows_of_their_length(
    build_model: Callable[..., LoadedModel],
) -> None:
    torch.manual_seed(0)
    config = MiniMaxConfig(
        vocab_size=80,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        num_local_experts=2,
        num_experts_per_tok=1,
        initializer_range=0.4,
    )
    model = MiniMaxForCausalLM(config).eval()
    assert layout_of(model) == Layout(pads=False)
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12], [13], [14, 15, 16], [17, 18, 19, 20, 21]]
    tokenizer = build_model().tokenizer
    together = decode(model, tokenizer, prompts, max_new_tokens=8, layout=layout_of(model))
    alone = [decode(model, tokenizer, [prompt], max_new_tokens=8)[0] for prompt in prompts]
    assert together == alone
    assert decode(model, tokenizer, prompts, max_new_tokens=8) != alone, "padding must matter here"


def test_windows_that_the_question_is_too_short_to_show_are_read_from_the_configuration() -> None:
    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=80, hidden_size=32, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]]
    )
    assert config.window_size == 256
    assert layout_of(GPTNeoForCausalLM(config).eval()) == Layout()


def test_rows_whose_positions_depend_on_the_longest_of_the_batch_stand_alone(
    build_model: Callable[..., LoadedModel],
) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=80,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.4,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 8,
            "long_factor": [8.0] * 8,
            "original_max_position_embeddings": 32,
        },
    )
    model, tokenizer = LlamaForCausalLM(config).eval(), build_model().tokenizer
    before = fingerprint(model)
    layout = layout_of(model)
    assert layout.alone_beyond == 32
    prompts = [list(range(2, 8)), list(range(2, 60)), list(range(9, 20)), list(range(3, 28))]
    together = decode(model, tokenizer, prompts, max_new_tokens=8, layout=layout)
    assert together == [decode(model, tokenizer, [prompt], max_new_tokens=8)[0] for prompt in prompts]
    assert decode(model, tokenizer, prompts, max_new_tokens=8) != together, "a long row must matter to others here"
    assert fingerprint(model) == before, "frequencies that a forward pass rewrites are no weights"
