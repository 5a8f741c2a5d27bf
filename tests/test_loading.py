from __future__ import annotations

from pathlib import Path

import pytest

from safety_tasks.errors import InvalidModel
from safety_tasks.models import display_name, load_model, resolve_model
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


def test_weights_that_are_pickled_are_refused(model_folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(model_folder, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        load_model(str(tmp_path / "pickled"))
