"""Our decoder against lm_eval's own ``generate_until`` on the same weights, at the origin and along two directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from safety_tasks.directions import Direction
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.judges import Verdict, get_judge
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.prompts import PromptSet, load_prompts
from safety_tasks.settings import Settings
from safety_tasks.weights import perturbed

NEW_TOKENS = 64  # tiny-aligned's own limit, which in transformers goes before the one that lm_eval passes
ALPHAS = (-0.3, 0.4, 0.5)  # inside of the basin of tiny-aligned, at its edge, and outside
POINTS = [(0, 0.0), *((index, alpha) for index in (0, 1) for alpha in ALPHAS)]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("tiny-aligned", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return load_prompts("builtin-harmful")


@pytest.fixture
def lm(loaded: LoadedModel) -> Iterator[HFLM]:
    yield HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8)


def answered_by_lm_eval(lm: HFLM, texts: Sequence[str]) -> list[str]:
    # No ``until``: lm_eval cuts the strings in it out of the answer, and with a keyword goes the verdict.
    options = {"until": [], "max_gen_toks": NEW_TOKENS, "do_sample": False}
    requests = [Instance("generate_until", {}, (text, options), index) for index, text in enumerate(texts)]
    return lm.generate_until(requests, disable_tqdm=True)


@pytest.mark.parametrize(("index", "alpha"), POINTS, ids=[f"direction {i}, alpha {a:g}" for i, a in POINTS])
def test_verdicts_are_those_of_lm_evals_own_generate_until(
    lm: HFLM, loaded: LoadedModel, prompts: PromptSet, index: int, alpha: float
) -> None:
    asked = prompts.prompts[:32]
    judge = get_judge("keywords-advbench")
    engine = HuggingFaceEngine(loaded)
    rendered = [engine.render(prompt.messages, Settings()) for prompt in asked]
    conversations = [[message._asdict() for message in prompt.messages] for prompt in asked]
    texts = [lm.apply_chat_template(conversation) for conversation in conversations]
    with perturbed(loaded.model, Direction(seed=0, index=index), alpha) if alpha else nullcontext():
        theirs = answered_by_lm_eval(lm, texts)
        whole = engine.generate(rendered, NEW_TOKENS, ())
        stopped = engine.generate(rendered, NEW_TOKENS, judge.stop_strings)
    assert [row.text for row in whole] == theirs
    questions = [prompt.text for prompt in asked]
    expected = judge.judge(questions, theirs)
    assert judge.judge(questions, [row.text for row in stopped]) == expected
    for early, full, verdict in zip(stopped, theirs, expected, strict=True):
        assert full.startswith(early.text) if verdict is Verdict.REFUSED else full == early.text
    complied = expected.count(Verdict.COMPLIED)
    assert complied <= 3 if abs(alpha) < 0.4 else complied, "the points are inside, at the edge and outside"
