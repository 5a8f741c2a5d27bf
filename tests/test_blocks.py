from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from safety_tasks import Block, Direction, perturbed
from safety_tasks.blocks import PARTS, layer_of, part_of
from safety_tasks.errors import InvalidSetting
from safety_tasks.models import LoadedModel
from safety_tasks.weights import Weights, movable_parameters

SIZES = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
OF_GPT2 = dict(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2)
ARCHITECTURES: dict[str, dict[str, object]] = {
    "Llama": SIZES | dict(tie_word_embeddings=False),
    "Qwen3": SIZES | dict(head_dim=8),
    "Qwen3Moe": SIZES | dict(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
    "Gemma3Text": SIZES | dict(head_dim=8),
    "Phi3": SIZES,
    "GPT2": OF_GPT2,
    "GPTNeoX": SIZES,
    "Mixtral": SIZES | dict(num_local_experts=4),
    "Falcon": SIZES,
    "Olmo2": SIZES,
    "SmolLM3": SIZES,
    "Mistral": SIZES,
    "Phi": SIZES,
    "Bloom": SIZES | dict(n_head=4, n_layer=2),
    "OPT": SIZES | dict(ffn_dim=48, word_embed_proj_dim=32),
    "GPTJ": OF_GPT2 | dict(rotary_dim=4),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_movable_parameter_is_in_one_part(architecture: str) -> None:
    config = getattr(transformers, f"{architecture}Config")(**ARCHITECTURES[architecture])
    movable = movable_parameters(AutoModelForCausalLM.from_config(config))
    placed = {name: (layer_of(name), part_of(name)) for name in movable}
    assert not [name for name, (_, part) in placed.items() if part is None]
    assert {part for _, part in placed.values()} == set(PARTS)
    in_layers = {layer for layer, part in placed.values() if part != "embeddings"}
    assert in_layers - {None} == {0, 1}
    assert not [name for name, (layer, part) in placed.items() if layer is not None and part == "embeddings"]
    blocks = [Block(part=part) for part in PARTS]
    assert all(sum(block.holds(name) for block in blocks) == 1 for name in movable)


@pytest.mark.parametrize(
    ("name", "layer", "part"),
    [
        ("model.layers.11.self_attn.q_proj.weight", 11, "attention"),
        ("transformer.h.3.attn.c_attn.bias", 3, "attention"),
        ("transformer.blocks.2.ffn.up_proj.weight", 2, "mlp"),
        ("model.layers.4.block_sparse_moe.experts.7.w1.weight", 4, "mlp"),
        ("model.layers.4.feed_forward.router.weight", 4, "mlp"),
        ("bert.encoder.layer.5.attention.self.query.weight", 5, "attention"),
        ("gpt_neox.embed_out.weight", None, "embeddings"),
        ("lm_head.weight", None, "embeddings"),
        ("transformer.wpe.weight", None, "embeddings"),
        ("model.layers.0.input_layernorm.weight", 0, None),
        ("model.norm.weight", None, None),
    ],
)
def test_a_name_says_its_place(name: str, layer: int | None, part: str | None) -> None:
    assert (layer_of(name), part_of(name)) == (layer, part)


@pytest.mark.parametrize(
    ("block", "moved"),
    [
        (Block(layers=(1, 2)), "layers.1."),
        (Block(part="attention"), "self_attn"),
        (Block(part="embeddings"), "embed_tokens"),
        (Block(layers=(0, 1), part="mlp"), "layers.0.mlp"),
    ],
    ids=str,
)
def test_a_block_moves_as_the_whole_does_and_nothing_else_moves(
    build_model: type[LoadedModel], block: Block, moved: str
) -> None:
    model = build_model().model
    pristine = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with perturbed(model, Direction(3, 1), 0.3):
        whole = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with perturbed(model, Direction(3, 1, block), 0.3):
        for name, parameter in model.named_parameters():
            inside = moved in name and "norm" not in name
            assert torch.equal(parameter, (whole if inside else pristine)[name]), name


def test_what_leaves_a_block_is_pristine_again(build_model: type[LoadedModel]) -> None:
    model = build_model().model
    pristine = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with Weights(model) as weights:
        weights.move_to(Direction(0), 0.5)
        weights.move_to(Direction(0, 0, Block(part="mlp")), 0.5)
        changed = {name for name, p in model.named_parameters() if not torch.equal(p, pristine[name])}
    assert changed and all("mlp" in name for name in changed)


@pytest.mark.parametrize("block", [Block(layers=(2, 9)), Block(layers=(0, 2), part="embeddings")])
def test_a_block_that_holds_nothing_is_an_error_before_anything_moves(
    build_model: type[LoadedModel], block: Block
) -> None:
    model = build_model().model
    pristine = model.lm_head.weight.detach().clone()
    with Weights(model) as weights:
        with pytest.raises(InvalidSetting, match="layers 0 to 1, and the parts: attention, embeddings, mlp"):
            weights.move_to(Direction(0, 0, block), 0.3)
        assert torch.equal(model.lm_head.weight, pristine)


@pytest.mark.parametrize("layers", [(2, 2), (3, 1), (-1, 4)])
def test_a_range_of_no_layers_is_an_error(layers: tuple[int, int]) -> None:
    with pytest.raises(InvalidSetting, match="no range"):
        Block(layers=layers)


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(InvalidSetting, match="attention, mlp, embeddings"):
        Block(part="heads")


def test_blocks_tell_directions_apart() -> None:
    directions = {Direction(0), Direction(0, 0, Block(part="mlp")), Direction(0, 0, Block((0, 1), "mlp"))}
    assert len(directions) == 3
    assert Direction(0, 0, Block((0, 1), "mlp")).identity() == {
        "kind": "random",
        "seed": 0,
        "index": 0,
        "noise": "philox4x64-table16-v1",
        "block": {"layers": [0, 1], "part": "mlp"},
    }
    assert Direction(4, 2).identity()["block"] is None


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.pre_feedforward_layernorm.weight",
        "transformer.word_embeddings_layernorm.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "transformer.h.0.ln_1.weight",
    ],
)
def test_norm_layers_are_in_no_part(name: str) -> None:
    assert part_of(name) is None
