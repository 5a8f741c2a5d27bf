from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from safetensors.torch import load_file

from safety_tasks.errors import InvalidModel, UnknownName
from safety_tasks.fingerprints import fingerprint
from safety_tasks.harness.evaluation import load_lm
from safety_tasks.harness.request import engine_of
from safety_tasks.loading_errors import conversion
from safety_tasks.models import display_name, load_model, resolve_model
from safety_tasks.settings import Settings
from safety_tasks.tiny import NAMES, model_path


@pytest.mark.parametrize("name", NAMES)
def test_an_embedded_name_stands_for_its_folder_and_back(name: str) -> None:
    assert resolve_model(name) == str(model_path(name))
    assert display_name(str(model_path(name))) == name


def test_folders_and_hub_ids_stay_as_they_are(model_folder: Path) -> None:
    assert resolve_model(str(model_folder)) == str(model_folder) == display_name(str(model_folder))
    assert resolve_model("owner/model") == "owner/model"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "name is empty"),
        ("nonesuch", "none of the embedded models tiny-aligned"),
        ("./nonesuch", "There is no model folder"),
        ("a/b/c", "There is no model folder"),
    ],
)
def test_what_is_no_model_is_said_before_anything_loads(name: str, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        resolve_model(name)


def test_a_file_and_a_folder_without_config_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_text("")
    with pytest.raises(InvalidModel, match="is a file"):
        resolve_model(str(tmp_path / "weights.bin"))
    with pytest.raises(InvalidModel, match="has no config.json"):
        resolve_model(str(tmp_path))


def test_a_model_loads_in_the_dtype_that_is_asked_for(model_folder: Path) -> None:
    assert str(load_model(str(model_folder)).model.dtype) == "torch.float32"
    assert str(load_model(str(model_folder), dtype="bfloat16").model.dtype) == "torch.bfloat16"
    assert not load_model(str(model_folder)).model.training


REMOTE = """
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

Path("ran.txt").touch()


class OursConfig(LlamaConfig):
    model_type = "ours"


class OursForCausalLM(LlamaForCausalLM):
    config_class = OursConfig
"""


@pytest.fixture
def remote(model_folder: Path, tmp_path: Path) -> Path:
    """A model whose classes lie beside its weights; its code leaves a file where it runs."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "remote"))
    (folder / "ours.py").write_text(REMOTE)
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "ours.OursConfig", "AutoModelForCausalLM": "ours.OursForCausalLM"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "ours", "auto_map": classes}))
    return folder


def test_code_that_comes_with_a_model_runs_only_when_it_is_asked_for_by_name(
    remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(remote.parent / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path])
    for load in (lambda: load_model(str(remote)), lambda: load_lm(str(remote), settings=Settings(), device="cpu")):
        with pytest.raises(InvalidModel, match="code of its own.*--llm-model-args trust_remote_code=True"):
            load()
    assert not Path("ran.txt").exists()
    lm: Any = load_lm(str(remote), settings=Settings(), device="cpu", model_args="trust_remote_code=True")
    assert type(lm.model).__name__ == "OursForCausalLM" and Path("ran.txt").exists()


@pytest.fixture
def pickled(model_folder: Path, tmp_path: Path) -> Path:
    """A model that was saved before safetensors."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "pickled"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_pickled_weights_are_refused_unless_they_are_asked_for_by_name(pickled: Path) -> None:
    for load in (
        lambda: load_model(str(pickled)),
        lambda: load_lm(str(pickled), settings=Settings(), device="cpu"),
        lambda: load_lm(str(pickled), settings=Settings(), device="cpu", backend="hf-multimodal"),
    ):
        with pytest.raises(InvalidModel, match="pickled weights only.*save_pretrained.*use_safetensors=False"):
            load()
    lm: Any = load_lm(str(pickled), settings=Settings(), device="cpu", model_args="use_safetensors=False")
    assert lm.model.num_parameters() > 0


def test_the_command_that_a_refusal_names_converts_the_weights(pickled: Path, model_folder: Path) -> None:
    command = conversion(str(pickled)).partition('python -c "')[2].rpartition('"')[0]
    exec(command, {})
    assert fingerprint(load_model("converted").model) == fingerprint(load_model(str(model_folder)).model)


def test_of_pickles_that_lm_eval_loaded_itself_a_user_is_warned_once(
    pickled: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder, times in ((model_folder, 0), (pickled, 1)):
        lm = HFLM(pretrained=str(folder), device="cpu")
        for _ in range(2):
            engine_of(lm)
        assert caplog.text.count("pickled weights only") == times
    assert "use_safetensors=True among --model_args" in caplog.text


@pytest.mark.parametrize("road", ["python", "lm_eval", "pytest"])
def test_a_dtype_that_is_none_is_said_before_anything_loads(road: str, pytester: pytest.Pytester) -> None:
    said = "There is no dtype 'bf16'. There are: auto, bfloat16, float16, float32, float64."
    if road == "pytest":
        found = pytester.runpytest("--llm-model", "tiny-aligned", "--llm-dtype", "bf16")
        assert found.ret == pytest.ExitCode.USAGE_ERROR
        found.stderr.fnmatch_lines([f"*{said}*"])
        return
    with pytest.raises(UnknownName, match=re.escape(said)):
        if road == "python":
            load_model("tiny-aligned", dtype="bf16")
        else:
            load_lm("tiny-aligned", settings=Settings(), dtype="bf16")
