"""vLLM's and SGLang's model types of lm_eval, whose code is the real one, on stand-ins for the engines themselves."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from safety_tasks.decoding import Completion
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidPrompts
from safety_tasks.harness.request import engine_of
from safety_tasks.harness.text_engine import TextEngine
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.prompts import load_prompts
from safety_tasks.sampling import Draw
from safety_tasks.settings import Settings
from safety_tasks.tiny import model_path

MODEL = str(model_path("tiny-aligned"))
LIMIT = 64
# What each stand-in was asked with, last call last.
ASKED: list[dict[str, Any]] = []


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model("tiny-aligned", dtype="float32", device="cpu")


def text_of(tiny: LoadedModel, ids: list[int], limit: int) -> str:
    with torch.inference_mode():
        out = tiny.model.generate(torch.tensor([ids]), max_new_tokens=limit, do_sample=False, pad_token_id=0)
    return str(tiny.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=False))


class SamplingParams:
    """With vLLM's names only, as the real one takes no others."""

    def __init__(
        self,
        *,
        max_tokens: int,
        stop: list[str],
        temperature: float,
        skip_special_tokens: bool,
        spaces_between_special_tokens: bool,
        seed: int | None = None,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> None:
        self.given = {"max_tokens": max_tokens, "stop": stop, "temperature": temperature, "seed": seed, "top_p": top_p}


def module(name: str, **names: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(names)
    return made


@pytest.fixture
def vllm(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    class LLM:
        def __init__(self, **given: Any) -> None:
            config = SimpleNamespace(max_model_len=given["max_model_len"] or 512)
            self.llm_engine = SimpleNamespace(model_config=config)

        def generate(self, prompts: Any, *, sampling_params: Any, **_: Any) -> list[Any]:
            ASKED.append(sampling_params[0].given)
            ids = [list(prompt["prompt_token_ids"]) for prompt in prompts]
            limits = [params.given["max_tokens"] for params in sampling_params]
            texts = [text_of(tiny, *one) for one in zip(ids, limits, strict=True)]
            return [SimpleNamespace(outputs=[SimpleNamespace(text=text)]) for text in texts]

    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.33.0" if name == "vllm" else version(name))
    tokens = module("vllm.tokenizers", get_tokenizer=lambda name, **_: tiny.tokenizer)
    template = module("vllm.renderers.hf", resolve_chat_template=lambda **_: tiny.tokenizer.chat_template)
    fakes = [
        module("vllm", LLM=LLM, SamplingParams=SamplingParams, TokensPrompt=dict, __spec__=SimpleNamespace()),
        module("vllm.lora", __path__=[]),
        module("vllm.lora.request", LoRARequest=SimpleNamespace),
        module("vllm.renderers", __path__=[]),
        template,
        tokens,
    ]
    yield from imported("lm_eval.models.vllm_causallms", fakes, monkeypatch)


@pytest.fixture
def sglang(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    class Engine:
        def __init__(self, **given: Any) -> None:
            self.tokenizer_manager = SimpleNamespace(tokenizer=tiny.tokenizer, context_len=512)

        def generate(self, *, input_ids: Any, sampling_params: Any, **_: Any) -> list[Any]:
            ASKED.append(sampling_params[0])
            pairs = zip(input_ids, sampling_params, strict=True)
            return [{"text": text_of(tiny, ids, params["max_new_tokens"])} for ids, params in pairs]

    fakes = [module("sglang", Engine=Engine, __spec__=SimpleNamespace())]
    yield from imported("lm_eval.models.sglang_causallms", fakes, monkeypatch)


def imported(name: str, fakes: list[ModuleType], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from lm_eval.api.registry import model_registry

    backend = name.rpartition(".")[2].partition("_")[0]
    known = dict(model_registry._objs)
    for fake in fakes:
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    ASKED.clear()
    yield importlib.import_module(name)
    sys.modules.pop(name, None)
    model_registry._objs[backend] = known[backend]


def lm_of(vllm_or_sglang: Any, **arguments: Any) -> Any:
    kind = getattr(vllm_or_sglang, "VLLM", None) or vllm_or_sglang.SGLangLM
    return kind(pretrained=MODEL, batch_size="auto", **arguments)


def answered(engine: Any, n: int = 6) -> list[Completion]:
    rendered = [engine.render(prompt.messages, Settings()) for prompt in load_prompts("builtin-harmful").prompts[:n]]
    return engine.generate(rendered, engine.token_budget(rendered, LIMIT), ())


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_answers_are_those_of_the_model_in_process(
    name: str, tiny: LoadedModel, request: pytest.FixtureRequest
) -> None:
    engine = engine_of(lm_of(request.getfixturevalue(name)))
    assert isinstance(engine, TextEngine) and engine.name == MODEL
    ours = answered(HuggingFaceEngine(tiny))
    assert [one.text for one in answered(engine)] == [one.text for one in ours]
    assert {one.finished for one in answered(engine, 1)} == {None}, "lm_eval does not say why an answer ended"
    sent = ASKED[0]
    assert (sent["temperature"], sent.get("max_tokens", sent.get("max_new_tokens"))) == (0.0, LIMIT)
    assert sent["stop"] == [tiny.tokenizer.eos_token], "no blank line, which lm_eval would put in"


@pytest.mark.parametrize(("name", "key"), [("vllm", "seed"), ("sglang", "sampling_seed")])
def test_sampling_goes_by_the_engines_own_names(name: str, key: str, request: pytest.FixtureRequest) -> None:
    engine = TextEngine(lm_of(request.getfixturevalue(name)))
    prompt = engine.render(load_prompts("builtin-harmful").prompts[0].messages, Settings())
    draws = [Draw(temperature=0.7, top_p=0.9, top_k=None, seed=1, sample=sample) for sample in (0, 1)]
    for draw in draws:
        engine.sample([prompt], 8, (), draw)
    first, second = ASKED
    assert first["temperature"] == 0.7 and first["top_p"] == 0.9 and first[key] != second[key]


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_a_prompt_that_the_engine_would_cut_is_refused(name: str, request: pytest.FixtureRequest) -> None:
    engine = TextEngine(lm_of(request.getfixturevalue(name), max_model_len=10))
    prompt = engine.render(load_prompts("builtin-harmful").prompts[0].messages, Settings())
    with pytest.raises(InvalidPrompts, match="leaves no room for an answer within 10"):
        engine.token_budget([prompt], 8)


def test_thinking_is_ours_to_cut_off(vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = lm_of(vllm, think_end_token="</think>")
    said = iter(["<think>Hm.</think>The Danube.", "<think>Hm, a river", "The Rhine."])
    monkeypatch.setitem(globals(), "text_of", lambda *_: next(said))
    found = {(one.text, one.thinking_tokens) for one in answered(TextEngine(lm), 3)}
    assert found == {("The Danube.", 0), ("", None), ("The Rhine.", 0)}
