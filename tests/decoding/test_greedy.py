from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from safety_tasks.decoding import Scored, decode, encode, forward, mean_nll
from safety_tasks.models import LoadedModel

PROMPTS = ["Tell me a story.", "Hi", "What is the plan for that thing, and what is it that I cannot help with?", "I"]


@pytest.fixture(scope="module")
def loaded(build_model: Callable[..., LoadedModel]) -> LoadedModel:
    return build_model(tied=False, seed=3)


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[list[int]]:
    return [encode(loaded.tokenizer, text, is_rendered=True) for text in PROMPTS]


def generated_by_transformers(loaded: LoadedModel, prompt: list[int], tokens: int) -> list[int]:
    """The independent reference: one prompt, no padding, no batch, transformers' own generate."""
    out = loaded.model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt)),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=1,
    )
    found = out[0, len(prompt) :].tolist()
    return found[: found.index(1)] if 1 in found else found


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_a_batch_answers_as_transformers_answers_each_prompt(
    loaded: LoadedModel, prompts: list[list[int]], batch_size: int | None
) -> None:
    found = decode(*loaded, prompts, max_new_tokens=24, batch_size=batch_size)
    assert [list(row.token_ids) for row in found] == [generated_by_transformers(loaded, p, 24) for p in prompts]


def test_rows_that_leave_the_batch_change_no_other_row(loaded: LoadedModel, prompts: list[list[int]]) -> None:
    whole = decode(*loaded, prompts, max_new_tokens=24)
    stop = whole[0].text[3:6]
    found = decode(*loaded, prompts, max_new_tokens=24, stop_strings=(stop,))
    assert stop in found[0].text and len(found[0].token_ids) < 24
    for row, reference in zip(found, whole, strict=True):
        assert reference.token_ids[: len(row.token_ids)] == row.token_ids
        assert (stop in row.text) == (stop in reference.text), "stopping early must not change a verdict"
        assert row.finished == (stop in row.text or reference.finished)


def test_rows_stay_where_a_cache_cannot_drop_them(
    loaded: LoadedModel, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = decode(*loaded, prompts, max_new_tokens=24)[0].text[3:6]
    removed = decode(*loaded, prompts, max_new_tokens=24, stop_strings=(stop,))
    monkeypatch.setattr(forward, "_ROW_LAYERS", set())
    assert decode(*loaded, prompts, max_new_tokens=24, stop_strings=(stop,)) == removed


def test_a_completions_repr_holds_no_text(loaded: LoadedModel, prompts: list[list[int]]) -> None:
    found = decode(*loaded, prompts[:1], max_new_tokens=8)[0]
    assert found.text and repr(found) == "Completion(finished=False, thinking_tokens=0, is_finite=True)"


def test_a_stop_string_in_the_prompt_stops_nothing(loaded: LoadedModel) -> None:
    prompt = encode(loaded.tokenizer, "I'm sorry, but I cannot help.", is_rendered=True)
    assert len(decode(*loaded, [prompt], max_new_tokens=8, stop_strings=("I'm sorry",))[0].token_ids) == 8


def test_an_answer_cut_at_the_limit_is_not_finished(loaded: LoadedModel, prompts: list[list[int]]) -> None:
    assert not decode(*loaded, prompts[:1], max_new_tokens=2)[0].finished


def test_broken_weights_give_text_and_no_crash(
    build_model: Callable[..., LoadedModel], prompts: list[list[int]]
) -> None:
    loaded = build_model(seed=1)
    with torch.no_grad():
        loaded.model.model.layers[0].mlp.up_proj.weight.fill_(float("nan"))
    assert len(decode(*loaded, prompts, max_new_tokens=3)) == len(prompts)


def test_a_batch_that_does_not_fit_is_halved(
    loaded: LoadedModel, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = decode(*loaded, prompts, max_new_tokens=6)
    forward, sizes = type(loaded.model).forward, []

    def small_device(model: torch.nn.Module, *args: object, input_ids: torch.Tensor, **kwargs: object) -> object:
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("device full")
        return forward(model, *args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(type(loaded.model), "forward", small_device)
    assert decode(*loaded, prompts, max_new_tokens=6) == whole
    assert sizes[:2] == [4, 2]


def test_mean_nll_is_the_models_own_loss_on_the_answer(loaded: LoadedModel, prompts: list[list[int]]) -> None:
    answers = [[5, 9, 40], [7], [], [8, 8, 8, 8, 8, 8]]
    found = mean_nll(loaded.model, [Scored(p, a) for p, a in zip(prompts, answers, strict=True)], batch_size=3)
    for nll, prompt, answer in zip(found, prompts, answers, strict=True):
        if not answer:
            assert nll == 0
            continue
        labels = torch.tensor([[-100] * len(prompt) + answer])
        reference = loaded.model(input_ids=torch.tensor([prompt + answer]), labels=labels).loss.detach()
        assert nll == pytest.approx(float(reference), abs=1e-5)
