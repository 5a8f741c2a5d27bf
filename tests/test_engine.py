from __future__ import annotations

from collections.abc import Callable

import pytest

from safety_tasks.chat import Rendered
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidPrompts
from safety_tasks.models import LoadedModel


def test_the_token_budget_is_cut_to_the_room_and_to_the_models_own_limit(
    build_model: Callable[..., LoadedModel],
) -> None:
    loaded = build_model()
    engine = HuggingFaceEngine(loaded)
    prompt = Rendered("Hi", is_templated=True)
    used = len(loaded.tokenizer("Hi")["input_ids"])
    assert engine.token_budget([prompt], 100) == 100
    assert engine.token_budget([prompt], 10_000) == 512 - used
    loaded.model.generation_config.max_new_tokens = 40
    assert engine.token_budget([prompt], 10_000) == 40
    assert engine.token_budget([prompt], 7) == 7


def test_a_prompt_that_leaves_no_room_is_an_error(build_model: Callable[..., LoadedModel]) -> None:
    engine = HuggingFaceEngine(build_model())
    with pytest.raises(InvalidPrompts, match="fills all 512 positions"):
        engine.token_budget([Rendered("z" * 600, is_templated=True)], 10)


def test_facts_identify_the_weights_and_the_versions(build_model: Callable[..., LoadedModel]) -> None:
    facts = HuggingFaceEngine(build_model(), batch_size=7).facts()
    assert facts["dtype"] == "float32" and facts["batch_size"] == 7 and facts["torch"] and facts["noise"]
    assert facts["weights_fingerprint"] == HuggingFaceEngine(build_model()).facts()["weights_fingerprint"]
    assert facts["weights_fingerprint"] != HuggingFaceEngine(build_model(seed=1)).facts()["weights_fingerprint"]


def test_a_model_with_a_hook_of_the_callers_has_no_identity_under_which_answers_are_kept(
    build_model: Callable[..., LoadedModel],
) -> None:
    loaded = build_model()
    engine = HuggingFaceEngine(loaded)
    assert engine.identity() is not None
    handle = loaded.model.get_output_embeddings().register_forward_hook(lambda module, given, logits: logits * 2)
    try:
        assert engine.identity() is None and HuggingFaceEngine(loaded).identity() is None
    finally:
        handle.remove()
    assert engine.identity() is not None
