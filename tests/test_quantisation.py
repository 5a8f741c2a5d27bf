"""Quantised models: behaviour is measured as they are, landscapes on dequantised weights, or they are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from safety_tasks import measure_landscape
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import NotPerturbable
from safety_tasks.fingerprints import fingerprint
from safety_tasks.harness.evaluation import evaluate_tasks, load_lm
from safety_tasks.models import LoadedModel, load_model, load_weights
from safety_tasks.perturbable import is_quantised
from safety_tasks.quantisation import check_dequantisable, dequantised, method_of
from safety_tasks.settings import Settings
from safety_tasks.tiny import model_path

FEW: dict[str, Any] = {"points": 3, "directions": 1, "n_prompts": 6, "max_new_tokens": 8, "radius": 0.2}
IDS = torch.arange(24).view(1, -1) + 5
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # of other packages


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def with_config(folder: Path, quantisation: dict[str, Any]) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": quantisation}))
    return folder


@pytest.fixture(scope="module")
def eight_bit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-aligned in 8 bits, as bitsandbytes saves it."""
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    folder = tmp_path_factory.mktemp("quantised") / "tiny-8-bit"
    config = BitsAndBytesConfig(load_in_8bit=True)
    load_weights(str(model_path("tiny-aligned")), device="cpu", quantisation=config).save_pretrained(folder)
    load_model("tiny-aligned", device="cpu").tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def gptq(model_folder: Path, tmp_path: Path) -> Path:
    """A folder whose configuration says that its weights are packed integers."""
    return with_config(Path(shutil.copytree(model_folder, tmp_path / "llama-gptq")), GPTQ)


@pytest.fixture
def fp8(build_model: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    """A Llama whose linear layers are FP8 in blocks, written by hand as its checkpoints are."""
    model, tokenizer = build_model(dtype=torch.bfloat16)
    folder = tmp_path / "llama-fp8"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    packed: dict[str, torch.Tensor] = {}
    for name, values in load_file(folder / "model.safetensors").items():
        if "_proj" not in name:
            packed[name] = values
            continue
        scale = values.float().abs().max() / torch.finfo(torch.float8_e4m3fn).max
        packed[name] = (values.float() / scale).to(torch.float8_e4m3fn)
        packed[f"{name}_scale_inv"] = scale.view(1, 1)
    save_file(packed, folder / "model.safetensors", {"format": "pt"})
    config = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    return with_config(folder, config)


# -- dequantised in memory -------------------------------------------------------------------------------------


def test_behaviour_is_of_the_quantised_model_and_the_landscape_of_its_dequantised_weights(eight_bit: Path) -> None:
    settings = Settings(**FEW)
    lm: Any = load_lm(str(eight_bit), settings=settings, device="cpu")
    before = logits(lm.model)
    tasks = evaluate_tasks(lm, ["visage_landscape", "visage_harmful"], settings, quiet=True)
    landscape, harmful = tasks["visage_landscape"].facts, tasks["visage_harmful"].facts
    assert is_quantised(lm.model) and torch.equal(logits(lm.model), before)
    assert harmful["quantisation"] == landscape["quantisation"] == "bitsandbytes 8-bit"
    assert "dequantised" not in harmful and harmful["weights_fingerprint"] is None
    known = landscape["dequantised"]
    linear = sum(p.numel() for n, p in load_model("tiny-aligned").model.named_parameters() if "_proj" in n)
    assert known["parameters"] == linear and known["dtype"] == "float32"
    assert known["next_tokens_kept"] > 0.9 and 0 < known["largest_logit_change"] < 1
    assert landscape["weights_fingerprint"] == fingerprint(dequantised(LoadedModel(lm.model, lm.tokenizer)).model)


def test_a_landscape_from_python_is_that_of_its_name_and_is_read_back_from_the_journal(eight_bit: Path) -> None:
    loaded = load_model(str(eight_bit), device="cpu")
    given, named = measure_landscape(loaded, **FEW), measure_landscape(str(eight_bit), device="cpu", **FEW)
    assert is_quantised(loaded.model)
    assert (given.facts["points_measured"], named.facts["points_read_back"]) == (3, 3)
    assert (given.verdicts == named.verdicts).all() and named.facts["quantisation"] == "bitsandbytes 8-bit"


def test_four_bits_that_a_cpu_has_packed_anew_are_dequantised_to_the_same_function(tokenizer: Any) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2}
    folder = Path.cwd() / "llama"
    llama: Any = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **sizes))
    llama.save_pretrained(folder)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = load_weights(str(folder), device="cpu", quantisation=config)
    before = logits(model)  # on some CPUs its first use packs the weights for another kernel
    plain = dequantised(LoadedModel(model, tokenizer)).model
    assert torch.allclose(logits(plain), before, atol=0.05) and torch.equal(logits(model), before)
    assert HuggingFaceEngine(LoadedModel(plain, tokenizer)).facts()["quantisation"] == "bitsandbytes 4-bit"


def test_weights_that_come_out_as_others_are_refused(eight_bit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(str(eight_bit), device="cpu")
    right = type(loaded.model).dequantize

    def wrong(model: Any, dtype: Any = None) -> Any:
        plain = right(model, dtype)
        plain.lm_head.weight.data = plain.lm_head.weight.data.roll(1, 0)
        return plain

    monkeypatch.setattr(type(loaded.model), "dequantize", wrong)
    with pytest.raises(NotPerturbable, match=r"do not compute what the quantised ones do: .* at least 90% are needed"):
        measure_landscape(loaded, **FEW)


def test_what_cannot_be_dequantised_after_all_is_told_with_its_cause(
    eight_bit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(str(eight_bit), device="cpu")

    def fails(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(type(loaded.model), "dequantize", fails)
    with pytest.raises(NotPerturbable, match="OutOfMemoryError: out of memory.*--llm-model PARENT"):
        measure_landscape(loaded, **FEW)


def test_an_adapter_on_quantised_weights_has_no_landscape(eight_bit: Path) -> None:
    from peft import PeftModel

    loaded = load_model(str(eight_bit), device="cpu")
    adapted: Any = PeftModel.from_pretrained(loaded.model, str(model_path("tiny-finetuned") / "adapter"))
    with pytest.raises(NotPerturbable, match="carries an adapter on quantised weights"):
        measure_landscape((adapted, loaded.tokenizer), **FEW)


# -- dequantised while loading, or not at all ------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may compute in FP8")
def test_without_a_gpu_transformers_dequantises_fp8_by_itself_and_the_facts_say_so(fp8: Path) -> None:
    facts = HuggingFaceEngine(load_model(str(fp8), device="cpu")).facts()
    assert facts["quantisation"] == "fp8" and facts["dtype"] == "bfloat16" and facts["weights_fingerprint"]
    assert "from fp8 to bfloat16 while it loaded them" in facts["dequantised"]["told"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may compute in FP8")
def test_an_fp8_model_is_loaded_a_second_time_for_its_landscape(
    fp8: Path, build_model: Callable[..., LoadedModel]
) -> None:
    from transformers import FineGrainedFP8Config

    model, tokenizer = load_model(str(fp8), device="cpu")
    model.config.quantization_config = FineGrainedFP8Config()  # as where a GPU computes in FP8
    model.is_quantized = True
    plain = dequantised(LoadedModel(model, tokenizer)).model
    assert not is_quantised(plain) and plain is not model
    weight = "model.layers.0.mlp.up_proj.weight"
    ours, theirs = plain.get_parameter(weight), build_model(dtype=torch.bfloat16).model.get_parameter(weight)
    assert torch.allclose(ours.float(), theirs.float(), rtol=0.07, atol=1e-3)


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({"load_in_4bit": True, "quant_method": "bitsandbytes"}, "bitsandbytes 4-bit"),
        ({"load_in_8bit": True}, "bitsandbytes 8-bit"),
        ({"quant_method": "higgs"}, "higgs"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "fp8"}, "fp8"),
    ],
)
def test_what_transformers_can_dequantise_is_not_refused_by_its_configuration(
    config: dict[str, Any], method: str, model_folder: Path, tmp_path: Path
) -> None:
    check_dequantisable(str(with_config(Path(shutil.copytree(model_folder, tmp_path / "quantised")), config)))
    assert method_of(config) == method


@pytest.mark.parametrize("method", ["gptq", "awq", "hqq", "a new one"])
def test_packed_integers_are_refused_by_the_configuration_before_anything_loads(
    method: str, gptq: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_config(gptq, {**GPTQ, "quant_method": method})
    monkeypatch.setattr("safety_tasks.python_api.load_model", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(NotPerturbable, match=rf"quantised \({method}\) to packed integers.*--llm-model PARENT"):
        measure_landscape(str(gptq), **FEW)


def test_a_session_refuses_a_gate_on_the_landscape_of_packed_integers_before_it_begins(
    gptq: Path, pytester: pytest.Pytester
) -> None:
    found = pytester.runpytest("--llm-model", str(gptq), "--llm-gates", "none", "--llm-gate", "basin_width >= 0.1")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["*quantised (gptq) to packed integers*--llm-model PARENT*"])
    behaviour = pytester.runpytest("--llm-model", str(gptq), "--collect-only", "-q")
    behaviour.stdout.fnmatch_lines(["*attack_success_rate*"])


def test_a_session_tells_what_was_measured_on_dequantised_weights(eight_bit: Path, pytester: pytest.Pytester) -> None:
    few = ("--llm-n-prompts", "4", "--llm-points", "3", "--llm-directions", "1", "--llm-max-new-tokens", "2")
    gates = ("--llm-gates", "none", "--llm-gate", "mean_safety >= 0.2")
    found = pytester.runpytest("--llm-model", str(eight_bit), "--llm-device", "cpu", *few, *gates)
    found.stdout.fnmatch_lines(["*quantised (bitsandbytes 8-bit): 442,368 parameters were dequantised*"])
