"""A hub id names its revision: one model of two commits, in a hub's cache of our own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM

from safety_tasks import measure_landscape
from safety_tasks.checkpoints import direction_to
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidModel
from safety_tasks.fingerprints import fingerprint
from safety_tasks.harness.evaluation import load_lm
from safety_tasks.harness.request import engine_of
from safety_tasks.models import LoadedModel, load_model, resolve_model, resolve_source
from safety_tasks.revisions import pinned
from safety_tasks.settings import Settings
from safety_tasks.tiny import model_path

COMMITS = {"main": "1" * 40, "v2": "2" * 40}
FEW: dict[str, Any] = {"points": 3, "directions": 1, "n_prompts": 2, "max_new_tokens": 2, "device": "cpu"}


@pytest.fixture
def hub(
    build_model: Callable[..., LoadedModel], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache with ours/llama at two revisions, other weights at each, and an adapter that changed as well."""
    cache = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for seed, (revision, commit) in enumerate(COMMITS.items()):
        model, tokenizer = build_model(seed=seed)
        folder = stored(cache, "ours/llama", revision, commit)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        adapter = stored(cache, "ours/adapter", revision, commit)
        shutil.copytree(model_path("tiny-finetuned") / "adapter", adapter, dirs_exist_ok=True)
        config = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": f"b/{revision}"}))
    return cache


def stored(cache: Path, repository: str, revision: str, commit: str) -> Path:
    """The folder of a commit, and the reference to it."""
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / revision).write_text(commit)
    (place / "snapshots" / commit).mkdir(parents=True)
    return place / "snapshots" / commit


@pytest.fixture
def prints(build_model: Callable[..., LoadedModel]) -> list[str]:
    """The fingerprints of both revisions."""
    return [fingerprint(build_model(seed=seed).model) for seed in (0, 1)]


@pytest.mark.usefixtures("hub")
def test_a_model_is_that_of_the_revision_named_in_every_way_of_loading(prints: list[str]) -> None:
    for name, expected in (("ours/llama", prints[0]), ("ours/llama@v2", prints[1])):
        by_option = engine_of(load_lm(name, settings=Settings(), device="cpu"))
        revision = pinned(name).revision or "main"
        by_lm_eval = engine_of(HFLM(pretrained="ours/llama", revision=revision, device="cpu"))
        by_name = HuggingFaceEngine(load_model(name, device="cpu"))
        facts = [engine.facts() for engine in (by_option, by_lm_eval, by_name)]
        assert facts[0] == facts[1] == facts[2]
        assert facts[0]["weights_fingerprint"] == expected
        assert (facts[0]["model"], facts[0]["revision"]) == (name, COMMITS[revision])


@pytest.mark.usefixtures("hub")
def test_a_commit_names_itself_and_what_is_not_there_is_said(prints: list[str]) -> None:
    assert fingerprint(load_model(f"ours/llama@{'2' * 40}", device="cpu").model) == prints[1]
    with pytest.raises(InvalidModel, match="'ours/llama@v3' cannot be loaded"):
        load_model("ours/llama@v3", device="cpu")


@pytest.mark.usefixtures("hub")
def test_a_landscape_and_the_way_between_two_revisions_are_theirs(prints: list[str]) -> None:
    found = measure_landscape("ours/llama", target="ours/llama@v2", chat="auto", **FEW)
    assert found.facts["model"] == "ours/llama" and found.facts["revision"] == COMMITS["main"]
    direction = direction_to(load_model("ours/llama", device="cpu").model, "ours/llama@v2")
    assert direction.identity()["target"] == prints[1]


@pytest.mark.usefixtures("hub")
def test_an_adapter_is_that_of_the_revision_named() -> None:
    for name, base in (("ours/adapter", "b/main"), ("ours/adapter@v2", "b/v2")):
        source = resolve_source("tiny-aligned", name)
        assert source.adapter is not None and (source.adapter.name, source.adapter.base) == (name, base)


def test_the_base_that_an_adapter_names_has_the_revision_that_it_names(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_path("tiny-finetuned") / "adapter", tmp_path / "adapter"))
    file = folder / "adapter_config.json"
    config = {**json.loads(file.read_text()), "base_model_name_or_path": "ours/llama", "revision": "v2"}
    file.write_text(json.dumps(config))
    source = resolve_source(str(folder))
    assert source.model == "ours/llama@v2"
    source.check()
    resolve_source("other/llama@v1", str(folder)).check()  # only the repository's name is compared


def test_a_folder_may_have_an_at_in_its_name(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Path(shutil.copytree(model_folder, Path.cwd() / "run" / "llama@v2"))
    assert pinned("run/llama@v2") == ("run/llama@v2", None) and pinned(str(beside)).revision is None
    assert HuggingFaceEngine(load_model("run/llama@v2", device="cpu")).name == "run/llama@v2"
    shutil.copytree(model_path("tiny-finetuned") / "adapter", "run/adapter@v2")
    assert resolve_source("run/adapter@v2").adapter is not None


def test_a_revision_of_what_is_a_folder_here_is_refused_and_not_passed_over(model_folder: Path) -> None:
    shutil.copytree(model_folder, Path.cwd() / "ours" / "llama")
    with pytest.raises(InvalidModel, match="'ours/llama' is a folder here, which has none"):
        load_model("ours/llama@v2", device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ours/llama@", "names no revision behind its @"),
        ("llama@v2", "no hub id"),
        ("./ours/llama@v2", "There is no model folder"),
        ("a/b/c@v2", "There is no model folder"),
    ],
)
def test_what_names_no_revision_of_a_hub_id_is_said_before_anything_loads(name: str, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        resolve_model(name)
    assert resolve_model("ours/llama@refs/pr/1") == "ours/llama@refs/pr/1"
    assert pinned("ours/llama@refs/pr/1") == ("ours/llama", "refs/pr/1")


def test_a_revision_among_the_arguments_would_reach_other_models_and_is_refused(pytester: pytest.Pytester) -> None:
    with pytest.raises(InvalidModel, match="name this one ours/llama@v2"):
        load_lm("ours/llama", settings=Settings(), model_args="revision=v2")
    found = pytester.runpytest("--llm-model", "ours/llama", "--llm-model-args", "revision=v2")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["*OWNER/NAME@REVISION*"])
