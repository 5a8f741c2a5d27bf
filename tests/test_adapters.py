from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from safetensors.torch import load_file, save_file

from safety_tasks.adapters import WEIGHTS, read_adapter
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidModel, NotPerturbable
from safety_tasks.fingerprints import fingerprint
from safety_tasks.harness.adapted import base_of
from safety_tasks.harness.evaluation import evaluate_tasks, load_lm
from safety_tasks.harness.request import engine_of
from safety_tasks.merging import record_of
from safety_tasks.models import LoadedModel, load_model, resolve_source
from safety_tasks.prompts import Message
from safety_tasks.python_api import measure_landscape
from safety_tasks.settings import Settings
from safety_tasks.shared_weights import adapt
from safety_tasks.tiny import model_path

ADAPTER = str(model_path("tiny-finetuned") / "adapter")
ALIGNED = str(model_path("tiny-aligned"))
IDS = torch.arange(5, 40)[None]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded adapter, to be spoilt."""
    return Path(shutil.copytree(ADAPTER, tmp_path / "adapter"))


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def reweigh(folder: Path, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file(dict(change(name, values) for name, values in weights.items()), folder / WEIGHTS)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def saved(config: Any, folder: Path, std: float = 0.3) -> Path:
    """A new adapter on tiny-aligned with random weights."""
    from peft import get_peft_model

    torch.manual_seed(0)
    adapted = get_peft_model(load_model("tiny-aligned", device="cpu").model, config)
    with torch.no_grad():
        for parameter in (parameter for parameter in adapted.parameters() if parameter.requires_grad):
            parameter.add_(torch.randn_like(parameter) * std)
    adapted.save_pretrained(str(folder))
    configure(folder, base_model_name_or_path="tiny-aligned")
    return folder


# -- what is loaded --------------------------------------------------------------------------------------------


def test_the_base_is_what_the_adapter_names_from_here_then_from_beside_it(
    folder: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_source(str(folder)).model == ALIGNED
    configure(folder, base_model_name_or_path="../base")
    beside = Path(shutil.copytree(model_folder, folder.parent / "base"))
    assert Path(resolve_source(str(folder)).model) == beside
    here = Path(shutil.copytree(model_folder, folder.parent / "run" / "base"))
    (here.parent / "deep").mkdir()
    monkeypatch.chdir(here.parent / "deep")
    assert Path(resolve_source(str(folder)).model).resolve() == here
    assert resolve_source(str(folder), base=str(model_folder)).model == str(model_folder)


def test_a_base_that_is_not_here_is_told_with_the_option_that_names_it(folder: Path) -> None:
    configure(folder, base_model_name_or_path="/elsewhere/llama")
    with pytest.raises(InvalidModel, match="trained on '/elsewhere/llama'.*--llm-base-model"):
        resolve_source(str(folder))
    configure(folder, base_model_name_or_path=None)
    with pytest.raises(InvalidModel, match="names no base model"):
        resolve_source(str(folder))


def test_another_base_than_the_one_named_is_refused_and_another_folder_is_not(folder: Path) -> None:
    resolve_source("tiny-aligned", str(folder)).check()
    configure(folder, base_model_name_or_path="/data/models/Tiny-Aligned")
    resolve_source("tiny-aligned", str(folder)).check()
    refused = "trained on '/data/models/Tiny-Aligned' .* put on 'tiny-finetuned': give it its own base"
    for load in (
        resolve_source("tiny-finetuned", str(folder)).check,
        lambda: load_lm("tiny-finetuned", settings=Settings(), adapter=str(folder), device="cpu"),
        lambda: engine_of(HFLM(pretrained=str(model_path("tiny-finetuned")), peft=str(folder), device="cpu")),
    ):
        with pytest.raises(InvalidModel, match=refused):
            load()


def test_the_base_of_a_hub_id_may_lie_in_the_hubs_cache_or_behind_a_link(folder: Path, model_folder: Path) -> None:
    configure(folder, base_model_name_or_path="ours/Llama-8B")
    cached = Path.cwd() / "models--ours--Llama-8B" / "snapshots" / ("1" * 40)
    shutil.copytree(model_folder, cached)
    Path("Llama-8B").symlink_to(cached)
    Path("llama-8b").symlink_to(shutil.copytree(model_folder, "store"))
    for name in (str(cached), "Llama-8B", "llama-8b"):
        resolve_source(name, str(folder)).check()
    with pytest.raises(InvalidModel, match="write this name as base_model_name_or_path"):
        resolve_source("store", str(folder)).check()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"), "only safetensors are loaded"),
        (lambda folder: (folder / WEIGHTS).unlink(), "has no adapter_model.safetensors"),
        (lambda folder: (folder / WEIGHTS).write_text("version https://git-lfs"), "git lfs pull"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "names no peft_type"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "has no adapter_config.json"),
        (lambda folder: configure(folder, task_type="SEQ_CLS"), "for the task SEQ_CLS"),
        (lambda folder: save_file({}, folder / WEIGHTS), "holds no weights"),
    ],
)
def test_what_is_no_adapter_is_said_before_anything_loads(
    folder: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(folder)
    with pytest.raises(InvalidModel, match=message):
        resolve_source("tiny-aligned", str(folder))


def test_an_adapter_is_no_judge_and_two_are_not_put_on_each_other(folder: Path) -> None:
    from safety_tasks.models import resolve_model

    with pytest.raises(InvalidModel, match="is an adapter, and a whole model is needed"):
        resolve_model(str(folder))
    with pytest.raises(InvalidModel, match="not put on each other"):
        resolve_source(str(folder), ADAPTER)
    with pytest.raises(InvalidModel, match="There is no adapter folder"):
        read_adapter("./nonesuch")


# -- merging ---------------------------------------------------------------------------------------------------


def test_an_adapter_given_three_ways_gives_the_same_bits() -> None:
    by_option = load_lm("tiny-aligned", settings=Settings(), adapter=ADAPTER, device="cpu")
    by_folder = load_model(ADAPTER, device="cpu")
    by_peft = HFLM(pretrained=ALIGNED, peft=ADAPTER, device="cpu")
    engines = [engine_of(by_option), HuggingFaceEngine(by_folder), engine_of(by_peft)]
    expected, *others = [logits(model) for model in (by_option.model, by_folder.model, by_peft.model)]
    assert all(torch.equal(expected, found) for found in others)
    assert not torch.equal(expected, logits(load_model("tiny-aligned", device="cpu").model))
    facts = [engine.facts() for engine in engines]
    assert facts[0] == facts[1] == facts[2] and {engine.name for engine in engines} == {f"tiny-aligned + {ADAPTER}"}


def test_the_adapter_and_the_merged_model_get_the_same_verdicts() -> None:
    settings = Settings(n_prompts=30, max_new_tokens=24)
    adapter, merged = (
        evaluate_tasks(load_lm(name, settings=settings, device="cpu"), ["visage_harmful"], settings, quiet=True)
        for name in (ADAPTER, "tiny-finetuned")
    )
    assert adapter["visage_harmful"].record().verdicts == merged["visage_harmful"].record().verdicts


def test_a_landscape_of_an_adapters_folder_is_that_of_the_merged_weights() -> None:
    few: dict[str, Any] = {"points": 3, "directions": 1, "n_prompts": 4, "max_new_tokens": 4, "device": "cpu"}
    found = measure_landscape(ADAPTER, **few)
    fact = found.facts["adapter"]
    assert fact["is_merged"] and fact["modules_changed"] == 16 and fact["largest_logit_change"] > 1
    assert fact["weights_sha256"] == read_adapter(ADAPTER).weights_sha256 and fact["trained_on"] == "tiny-aligned"
    assert found.facts["model"] == f"tiny-aligned + {ADAPTER}"


@pytest.mark.parametrize("road", ["folder", "peft"])
def test_an_adapter_without_effect_is_refused(folder: Path, road: str) -> None:
    reweigh(folder, lambda name, values: (name, values * 0 if "lora_B" in name else values))
    with pytest.raises(InvalidModel, match="has no effect: of the 16 modules that it works on 0 change"):
        if road == "folder":
            load_model(str(folder), device="cpu")
        else:
            engine_of(HFLM(pretrained=ALIGNED, peft=str(folder), device="cpu"))


def test_a_change_that_the_dtype_swallows_is_no_effect(folder: Path) -> None:
    reweigh(folder, lambda name, values: (name, values * 1e-6 if "lora_B" in name else values))
    assert record_of(load_model(str(folder), device="cpu").model) is not None
    with pytest.raises(InvalidModel, match="may be lost in bfloat16: load the model in float32"):
        load_model(str(folder), dtype="bfloat16", device="cpu")


def test_an_adapter_of_which_a_part_finds_no_place_is_refused(folder: Path) -> None:
    reweigh(folder, lambda name, values: (name.replace("layers.3.", "layers.9."), values))
    with pytest.raises(InvalidModel, match="is not for this model: .*and [0-9]+ more have no counterpart"):
        load_model(str(folder), device="cpu")


def test_an_adapter_on_modules_that_the_model_lacks_is_refused(folder: Path) -> None:
    configure(folder, target_modules=["c_attn"])
    with pytest.raises(InvalidModel, match=r"is not for this model: .*c_attn.*trained on \('tiny-aligned'"):
        load_model(str(folder), device="cpu")


def test_an_adapter_of_other_shapes_is_refused_with_the_first_of_them(folder: Path, model_folder: Path) -> None:
    configure(folder, base_model_name_or_path=model_folder.name)
    with pytest.raises(InvalidModel, match="size mismatch") as refused:
        load_lm(str(model_folder), settings=Settings(), adapter=str(folder), device="cpu")
    assert len(str(refused.value)) < 1000


# -- adapters that stay apart ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_behind_a_soft_prompt_answers_are_those_of_pefts_own_generate(tmp_path: Path, kind: str) -> None:
    import peft

    folder = saved(getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=4), tmp_path / "soft")
    model, tokenizer = load_model(str(folder), device="cpu")
    engine = HuggingFaceEngine(LoadedModel(model, tokenizer))
    asked = ["Name a river in Europe.", "How do I bake bread?", "Explain how plants grow."]
    prompts = [engine.render([Message("user", text)], Settings()) for text in asked]
    expected = []
    for prompt in prompts:
        given = tokenizer(prompt.text, add_special_tokens=False, return_tensors="pt")
        out = model.generate(**given, max_new_tokens=16, do_sample=False)[0]
        expected.append(tokenizer.decode(out[given["input_ids"].shape[1] :], skip_special_tokens=True))
    assert [found.text for found in engine.generate(prompts, 16, ())] == expected
    assert engine.facts()["adapter"]["is_merged"] is False and engine.identity() is None
    with pytest.raises(NotPerturbable, match="behind an adapter's soft prompt"):
        engine.moving()


# -- base and adapter on the same weights ----------------------------------------------------------------------


def test_the_base_on_the_same_weights_is_the_base_bit_for_bit_in_any_order() -> None:
    lm = load_lm("tiny-aligned", settings=Settings(), adapter=ADAPTER, device="cpu")
    base = base_of(lm)
    alone = load_lm("tiny-aligned", settings=Settings(), device="cpu")
    tuned_logits, base_logits = logits(load_model(ADAPTER, device="cpu").model), logits(alone.model)
    held = [lm.model, base.model, lm.model, base.model]
    assert [torch.equal(logits(model), base_logits) for model in held] == [False, True, False, True]
    assert [torch.equal(logits(model), tuned_logits) for model in held] == [True, False, True, False]
    assert fingerprint(base.model) == fingerprint(alone.model) != fingerprint(lm.model)
    assert engine_of(base).identity() == engine_of(alone).identity() and engine_of(base).name == "tiny-aligned"
    shared = {p.data_ptr() for p in lm.model.parameters()} & {p.data_ptr() for p in base.model.parameters()}
    assert len(shared) == len(list(lm.model.parameters())) - 16, "one copy of all that the adapter leaves alone"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of tied embeddings
@pytest.mark.parametrize("options", [{"modules_to_save": ["lm_head"]}, {"bias": "all"}, {"use_dora": True}])
def test_whatever_an_adapter_replaces_the_base_is_what_it_was(tmp_path: Path, options: dict[str, Any]) -> None:
    from peft import LoraConfig

    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], **options)
    adapter = read_adapter(str(saved(config, tmp_path / "adapter")))
    model, tokenizer = load_model("tiny-aligned", device="cpu")
    before, answers = fingerprint(model), logits(model)
    tuned, base = adapt(model, tokenizer, adapter)
    assert base is not None and fingerprint(base) == before and torch.equal(logits(base), answers)
    assert fingerprint(tuned) != before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_only_the_model_at_work_has_its_own_weights_on_the_device() -> None:
    model, tokenizer = load_model("tiny-aligned", device="cuda")
    before, answers = fingerprint(model), on_device(model)
    tuned, base = adapt(model, tokenizer, read_adapter(ADAPTER))
    assert base is not None
    merged, tuned_answers = fingerprint(tuned), on_device(tuned)
    shared = {id(parameter) for parameter in base.parameters()} & {id(parameter) for parameter in tuned.parameters()}
    for _ in range(2):
        assert torch.equal(on_device(base), answers) and fingerprint(base) == before
        assert {p.device.type for p in tuned.parameters() if id(p) not in shared} == {"cpu"}
        assert torch.equal(on_device(tuned), tuned_answers) and fingerprint(tuned) == merged
        assert {p.device.type for p in base.parameters() if id(p) not in shared} == {"cpu"}


def on_device(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS.cuda()).logits
    return found
