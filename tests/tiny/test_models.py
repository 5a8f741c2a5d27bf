"""The embedded models as folders and as loaded models."""

import json
from pathlib import Path

import pytest

import safety_tasks.tiny as tiny
from safety_tasks.errors import UnknownName
from safety_tasks.tiny.__main__ import USAGE_ERROR, main

MODELS = tiny.model_path(tiny.NAMES[0]).parent
CHAT_MODELS = ("tiny-aligned", "tiny-finetuned")


def test_all_folders_together_stay_under_8_megabytes() -> None:
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) < 8_000_000


def test_no_file_holds_a_path_of_the_machine_that_made_it() -> None:
    for file in MODELS.rglob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert "/tmp" not in text and "/work" not in text and "/home" not in text and "/root" not in text, file


def test_the_weights_are_safetensors_only() -> None:
    assert {file.suffix for file in MODELS.rglob("*") if file.is_file()} <= {
        ".json",
        ".jinja",
        ".safetensors",
        ".md",
    }


@pytest.mark.parametrize("name", CHAT_MODELS)
def test_a_chat_model_has_about_a_million_parameters_and_room_for_1024_tokens(name: str) -> None:
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny.model_path(name), dtype="auto")
    assert isinstance(model, LlamaForCausalLM)
    assert 500_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_500_000
    assert model.config.max_position_embeddings >= 1024


@pytest.mark.parametrize("name", CHAT_MODELS)
def test_weights_are_bfloat16_values_that_load_as_float32(name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny.model_path(name), dtype="auto")
    for tensor in model.state_dict().values():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensor.bfloat16().float())


@pytest.mark.parametrize("name", CHAT_MODELS)
def test_the_chat_template_has_a_system_role(name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.model_path(name))
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi."}]
    text = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert text == "<|begin|><|system|>Be kind.<|end|><|user|>Hi.<|end|><|assistant|>"


def test_the_tokenizer_gives_back_any_text() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.model_path("tiny-aligned"))
    text = "Caf\u00e9  \u4f60\u597d 12:30\n\n  I'm fine!"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_the_adapter_names_its_base_model_and_no_path() -> None:
    config = json.loads((MODELS / "tiny-finetuned" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-aligned"


# peft asks transformers for a method under its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_adapter_on_the_aligned_model_answers_as_the_merged_one() -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny.model_path("tiny-aligned"), dtype="auto")
    adapted = PeftModel.from_pretrained(base, tiny.model_path("tiny-finetuned") / "adapter").merge_and_unload()
    merged = AutoModelForCausalLM.from_pretrained(tiny.model_path("tiny-finetuned"), dtype="auto")
    for name, tensor in merged.state_dict().items():
        # The merged weights are rounded to bfloat16: half a unit in the last of 8 places.
        torch.testing.assert_close(adapted.state_dict()[name], tensor, rtol=2**-8, atol=1e-6)


def test_importing_the_package_imports_neither_torch_nor_transformers() -> None:
    import subprocess
    import sys

    code = "import sys, safety_tasks.tiny; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_prints_the_folder_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny-judge"]) == 0
    captured = capsys.readouterr()
    assert Path(captured.out.strip()) == tiny.model_path("tiny-judge") and not captured.err


def test_the_command_without_a_name_lists_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == list(tiny.NAMES)


def test_an_unknown_name_exits_2_and_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny"]) == USAGE_ERROR
    captured = capsys.readouterr()
    assert not captured.out and all(name in captured.err for name in tiny.NAMES)
    with pytest.raises(UnknownName):
        tiny.model_path("../..")
