"""What a repeat varies, on an engine that notes how it is asked and on a random Llama."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from pytest_llmsafety.testing import FakeModel
from safety_tasks.chat import Rendered
from safety_tasks.decoding import Completion
from safety_tasks.engine import Engine, HuggingFaceEngine
from safety_tasks.errors import WeightsChanged
from safety_tasks.fingerprints import fingerprint
from safety_tasks.models import LoadedModel
from safety_tasks.repeats import can_be_float32, in_float32, repeated, variation

Build = Callable[..., LoadedModel]
PROMPTS = [Rendered(f"Name {index} things.", is_templated=False) for index in range(20)]


class Noting(FakeModel):
    """Answers each prompt with its own text, and keeps the batches that it was given."""

    batches: list[list[str]]

    def generate(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...]
    ) -> list[Completion]:
        self.batches.append([prompt.text for prompt in prompts])
        return [Completion(prompt.text, (1,), finished=True) for prompt in prompts]


def asked(repeat: int, prompts: Sequence[Rendered] = PROMPTS) -> list[list[str]]:
    engine = Noting()
    engine.batches = []
    with repeated(engine, repeat) as again:
        answers = again.generate(prompts, 8, ())
    assert [answer.text for answer in answers] == [prompt.text for prompt in prompts]
    return engine.batches


def test_each_repeat_asks_the_same_prompts_in_other_batches_or_in_another_order() -> None:
    texts = [prompt.text for prompt in PROMPTS]
    assert asked(0) == [texts]
    assert asked(1) == [texts[:10], texts[10:]]
    assert [len(batch) for batch in asked(2)] == [8, 8, 4]
    assert asked(3) == [texts[::-1]]
    every = [asked(repeat) for repeat in range(12)]
    assert len({str(batches) for batches in every}) == 12
    assert all(sorted(sum(batches, [])) == sorted(texts) for batches in every)
    assert asked(9) == every[9]


def test_small_batches_are_smaller_than_halves_where_there_are_few_prompts() -> None:
    assert [len(batch) for batch in asked(2, PROMPTS[:12])] == [3, 3, 3, 3]
    assert [len(batch) for batch in asked(2, PROMPTS[:2])] == [1, 1]


def test_no_two_repeats_vary_the_same() -> None:
    for with_float32 in (False, True):
        assert len({str(variation(repeat, with_float32=with_float32)) for repeat in range(40)}) == 40


def test_the_batch_that_a_user_chose_is_what_halves(build_model: Build) -> None:
    sizes: list[int] = []
    engine = HuggingFaceEngine(build_model(), batch_size=6)
    generate = engine.generate
    engine.generate = lambda prompts, *rest: (sizes.append(len(prompts)), generate(prompts, *rest))[1]  # type: ignore[method-assign]
    with repeated(engine, 1) as again:
        again.generate(PROMPTS, 2, ())
    assert sizes == [3, 3, 3, 3, 3, 3, 2]


def test_the_journal_of_one_repeat_is_not_anothers(build_model: Build) -> None:
    engine = HuggingFaceEngine(build_model(dtype=torch.bfloat16))
    plain = engine.identity()
    assert plain is not None
    found = []
    for repeat in range(6):
        with repeated(HuggingFaceEngine(LoadedModel(engine.model, engine.tokenizer)), repeat) as again:
            found.append(again.identity())
    assert found[0] == plain  # what a run without repeats has measured is read back
    assert len({str(identity) for identity in found}) == 6
    with repeated(FakeModel(), 1) as fake:
        assert fake.identity() is None


# -- float32 --------------------------------------------------------------------------------------------------------


def test_the_float32_repeat_answers_as_the_same_weights_in_float32(build_model: Build) -> None:
    engine = HuggingFaceEngine(build_model(dtype=torch.bfloat16))
    reference = build_model(dtype=torch.bfloat16)
    reference.model.float()
    with repeated(engine, 2) as again:
        assert again.facts()["dtype"] == "float32" and again.facts()["repeat"] == "float32"
        found = again.generate(PROMPTS, 12, ())
    assert found == HuggingFaceEngine(reference).generate(PROMPTS, 12, ())
    assert engine.model.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_and_buffers_come_back_bit_for_bit_also_after_an_exception(
    build_model: Build, dtype: torch.dtype
) -> None:
    model = build_model(dtype=dtype).model
    model.register_buffer("extra", torch.ones(3, dtype=dtype))
    rotary = {name: buffer.dtype for name, buffer in model.named_buffers()}
    before = fingerprint(model)
    with pytest.raises(KeyboardInterrupt), in_float32(model):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert model.extra.dtype == torch.float32
        raise KeyboardInterrupt
    assert fingerprint(model) == before
    assert {name: buffer.dtype for name, buffer in model.named_buffers()} == rotary
    assert model.lm_head.weight is model.get_input_embeddings().weight  # tied as before


def test_weights_that_changed_meanwhile_are_an_error(build_model: Build) -> None:
    model = build_model(dtype=torch.bfloat16).model
    with pytest.raises(WeightsChanged, match="reload the model"), in_float32(model), torch.no_grad():
        next(model.parameters()).add_(1)


def test_a_landscape_moves_and_comes_back_within_the_float32_repeat(build_model: Build) -> None:
    from safety_tasks.directions import Direction

    engine = HuggingFaceEngine(build_model(dtype=torch.bfloat16))
    before = fingerprint(engine.model)
    with repeated(engine, 2) as again, again.moving() as mover:
        mover.move_to(Direction(0, 0), 0.1)
    assert fingerprint(engine.model) == before


def test_only_half_precision_is_upcast(build_model: Build) -> None:
    assert not can_be_float32(build_model().model)
    half = build_model(dtype=torch.float16).model
    assert can_be_float32(half)
    half.config._attn_implementation = "flash_attention_2"  # which has no float32
    assert not can_be_float32(half)
    engine: Engine = HuggingFaceEngine(build_model())
    with repeated(engine, 2) as again:
        assert again.facts()["repeat"] == "small batches" and again.facts()["dtype"] == "float32"
