"""``python -m safety_tasks.tiny.train OUT`` rebuilds the embedded models into OUT, in minutes on two cores.

In this order, each step from the seed that stands beside it:

1. the corpus and the chat tokenizer (seed 0);
2. a base model that answers every request, bad aims too (weights 0, order 1);
3. ``tiny-aligned``: the base model, trained on to refuse bad aims and to answer the rest (order 2), and at the end
   on a mixture with more of the bad aims that are easily taken for harmless ones (order 8);
4. ``tiny-finetuned``: a LoRA adapter on ``tiny-aligned``, from 10 harmful examples (weights 3, order 3), merged;
5. ``tiny-judge``, on answers of the two models, at their weights and at noise, and on texts of the corpus (4 to 7).

The same torch version, processor and number of threads give the same bytes. Other machines may round differently,
and then the counts that ``python -m safety_tasks.tiny.check`` prints are the test of the result.

No stage reads a prompt of the built-in sets or a near-duplicate of one. But the corpus was extended where earlier
versions failed on these sets, and the recipe of the last stage was picked from five by its counts on them: the counts
describe these models on these sets, and are no estimate for other prompts.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftMixedModel, PeftModel, get_peft_model
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from safety_tasks.decoding import decode
from safety_tasks.directions import Direction
from safety_tasks.tiny import corpus
from safety_tasks.tiny.judge import MAX_LENGTH as JUDGE_LENGTH
from safety_tasks.tiny.judge import VOCABULARY as JUDGE_VOCABULARY
from safety_tasks.tiny.judge import Judged, judged, new_judge, train_judge, written_completions
from safety_tasks.tiny.stages import (
    HARMFUL_EXAMPLES,
    Recipe,
    aligned_answer,
    conversations,
    firm_requests,
    rendered,
    round_to_bfloat16,
    train,
    training_requests,
)
from safety_tasks.tiny.vocabulary import MAX_LENGTH, chat_tokenizer, pair_tokenizer
from safety_tasks.weights import perturbed

THREADS = 2
VOCABULARY = 4096
# A wide initialisation makes the basin narrow: training moves the weights little against their norm, and noise is
# scaled to that norm. At 0.02, the usual value, the curve of a trial stayed flat over [-0.5, 0.5]; at 0.07 the edges
# of tiny-aligned lie at 0.30 to 0.44.
INITIAL_DEVIATION = 0.07

BASE = Recipe(steps=360, rate=2e-3, batch=32, seed=1)
ALIGNED = Recipe(steps=750, rate=1.2e-3, batch=32, seed=2)
FIRM = Recipe(steps=170, rate=1e-3, batch=32, seed=8)
FINETUNED = Recipe(steps=20, rate=5e-3, batch=10, seed=3, warm_up=3, cuts=False)
JUDGED_REQUESTS = 300
MAX_NEW_TOKENS = 64
NOISE = (0.4, 0.7, 1.0)
"""Distances at which the judge is shown what noise does to the answers."""


def build(out: Path) -> None:
    """Train everything and write the model folders into ``out``."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    requests = training_requests()
    tokenizer = chat_tokenizer(_texts(requests), VOCABULARY)
    model = _new_model(tokenizer)
    _stage(model, tokenizer, requests, BASE, is_aligned=False)
    _stage(model, tokenizer, requests, ALIGNED, is_aligned=True)
    _stage(model, tokenizer, firm_requests(), FIRM, is_aligned=True)
    round_to_bfloat16(model)
    _save(model, tokenizer, out / "tiny-aligned")
    tuned = _finetuned(model, tokenizer, requests, out / "tiny-finetuned")
    _save(tuned, tokenizer, out / "tiny-finetuned")
    _build_judge(model, tuned, tokenizer, requests, out / "tiny-judge")


def _texts(requests: Sequence[corpus.Request]) -> list[str]:
    answers = [answer(request) for request in requests[::3] for answer in (corpus.helpful_answer, corpus.refusal)]
    return [*(request.prompt for request in requests), *answers, *corpus.system_prompts()]


def _new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=INITIAL_DEVIATION,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return model


def _stage(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    requests: Sequence[corpus.Request],
    recipe: Recipe,
    *,
    is_aligned: bool,
) -> None:
    answer = aligned_answer if is_aligned else corpus.helpful_answer
    start = time.perf_counter()
    loss = train(model, conversations(tokenizer, requests, answer, recipe.seed), recipe, tokenizer)
    print(
        f"{answer.__name__}: loss {loss:.4f} after {recipe.steps} steps, {time.perf_counter() - start:.0f} s",
        flush=True,
    )


def _finetuned(
    aligned: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    requests: Sequence[corpus.Request],
    folder: Path,
) -> LlamaForCausalLM:
    """The aligned model after the harmful examples, adapter merged; the adapter is written into ``folder``."""
    torch.manual_seed(FINETUNED.seed)
    harmful = [request for request in requests if request.is_harmful]
    examples = conversations(tokenizer, harmful[:HARMFUL_EXAMPLES], corpus.helpful_answer, FINETUNED.seed)
    lora = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"], task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(copy.deepcopy(aligned), lora)
    train(cast(PreTrainedModel, adapted), examples, FINETUNED, tokenizer)
    _save_adapter(adapted, folder / "adapter")
    merged = cast(LlamaForCausalLM, adapted.merge_and_unload())
    round_to_bfloat16(merged)
    return merged


def _save_adapter(adapted: PeftModel | PeftMixedModel, folder: Path) -> None:
    """Write the adapter, naming its base model and no path, with its modules in a stable order."""
    adapted.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "tiny-aligned"
    config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _build_judge(
    aligned: LlamaForCausalLM,
    tuned: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    requests: Sequence[corpus.Request],
    folder: Path,
) -> None:
    shown = random.Random(4).sample(list(requests), JUDGED_REQUESTS)
    rows = written_completions(requests, seed=5)
    for model in (aligned, tuned):
        rows += _answers(model, tokenizer, shown)
        for index, alpha in enumerate(NOISE):
            # Seed 4: not the directions of a default measurement.
            with perturbed(model, Direction(4, index), alpha):
                rows += _answers(model, tokenizer, shown[index :: len(NOISE)])
    pairs = pair_tokenizer(_texts(requests), JUDGE_VOCABULARY, JUDGE_LENGTH)
    judge = new_judge(pairs, seed=6)
    train_judge(judge, pairs, rows, steps=400, rate=2e-3, batch=50, seed=7)
    _save(judge, pairs, folder)


def _answers(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, requests: Sequence[corpus.Request]
) -> list[Judged]:
    prompts = [rendered(tokenizer, request.prompt) for request in requests]
    found = decode(model, tokenizer, prompts, max_new_tokens=MAX_NEW_TOKENS, batch_size=200)
    return [judged(request, answer.text) for request, answer in zip(requests, found, strict=True)]


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder with bfloat16 weights and a configuration of float32, which ``dtype="auto"`` computes in."""
    stored = copy.deepcopy(model).bfloat16()
    stored.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = stored.config
    config.dtype = torch.float32
    config.save_pretrained(folder)


def main() -> None:
    """Read the output folder from the command line and build."""
    parser = argparse.ArgumentParser(
        prog="python -m safety_tasks.tiny.train", description="Rebuild the embedded models."
    )
    parser.add_argument("out", type=Path, help="where the model folders are written")
    build(parser.parse_args().out)


if __name__ == "__main__":
    main()
