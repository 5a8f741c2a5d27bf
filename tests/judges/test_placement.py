"""Where a judge's weights go, how they are fetched, and how the model under test makes room for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, OfflineModeIsEnabled

from safety_tasks import devices
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidModel, WeightsChanged
from safety_tasks.fingerprints import fingerprint
from safety_tasks.judges import judge_model
from safety_tasks.judges.cards import CARDS
from safety_tasks.judges.judge_model import JudgeModel
from safety_tasks.judges.placement import RESERVE, Place, place, room_for
from safety_tasks.memory import Memory
from safety_tasks.models import LoadedModel

GIB = 1 << 30
GPU = Memory(free=60 * GIB, total=80 * GIB)


@pytest.mark.parametrize(
    ("gib", "gpus", "expected"),
    [
        (14, [], Place.HOST),  # no GPU
        (14, [GPU], Place.BESIDE),
        (58, [GPU], Place.BESIDE),  # the very last that leaves the reserve
        (59, [GPU], Place.AFTER),
        (78, [GPU], Place.AFTER),
        (79, [GPU], Place.HOST),  # not even alone
        (14, [Memory(free=10 * GIB, total=24 * GIB)], Place.AFTER),
        (28, [Memory(free=20 * GIB, total=24 * GIB)], Place.HOST),  # beaver-dam in float32 on a 24 GB card
        (70, [GPU, Memory(free=79 * GIB, total=80 * GIB)], Place.BESIDE),  # the model under test is on another
        (0.1, [GPU], Place.HOST),  # small
    ],
)
def test_a_judge_goes_where_there_is_room(gib: float, gpus: list[Memory], expected: Place) -> None:
    assert place(int(gib * GIB), gpus) is expected and RESERVE == 2 * GIB


def test_on_a_machine_without_a_gpu_no_judge_wants_one(model_folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    judge = JudgeModel(str(model_folder), "causal")
    assert not judge.wants_device and judge.ready().model.device.type == "cpu"


def test_nothing_is_loaded_before_it_is_asked_for(model_folder: Path) -> None:
    judge = JudgeModel(str(model_folder), "causal")
    assert judge.n_bytes > 0 and "loaded" not in judge.__dict__  # the size comes from the files' headers
    assert judge.n_bytes == sum(p.numel() * p.element_size() for p in judge.loaded.model.parameters())


def test_it_goes_to_the_gpu_with_most_room_and_then_wants_no_more(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = JudgeModel(str(model_folder), "causal")
    judge.__dict__["n_bytes"] = 14 * GIB
    moves: list[str] = []
    on_device = SimpleNamespace(device=torch.device("cpu"))

    def move(device: str) -> None:
        moves.append(device)
        on_device.device = torch.device(device)

    on_device.to = move
    judge.__dict__["loaded"] = LoadedModel(on_device, None)  # type: ignore[arg-type]
    memories = [Memory(20 * GIB, 80 * GIB), Memory(40 * GIB, 80 * GIB)]
    monkeypatch.setattr(judge_model, "gpu_memories", lambda: memories)
    judge.ready()
    memories[:] = [Memory(GIB, 80 * GIB)] * 2
    judge.ready()
    assert moves == ["cuda:1"] and not judge.wants_device
    judge.leave_device()
    judge.leave_device()
    assert moves == ["cuda:1", "cpu"] and judge.wants_device


class RecordingEngine:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    @contextmanager
    def aside(self) -> Iterator[None]:
        self.log.append("model off")
        yield
        self.log.append("model back")


def judge_that(wants: bool, log: list[str]) -> SimpleNamespace:
    return SimpleNamespace(model=SimpleNamespace(wants_device=wants, leave_device=lambda: log.append("judge off")))


def test_a_large_judge_has_the_gpu_to_itself_and_leaves_it_before_the_model_is_back() -> None:
    log: list[str] = []
    with room_for(judge_that(True, log), RecordingEngine(log)):
        log.append("judge reads")
    assert log == ["model off", "judge reads", "judge off", "model back"]


def test_a_judge_that_fails_leaves_the_gpu_too() -> None:
    log: list[str] = []
    with pytest.raises(KeyboardInterrupt), room_for(judge_that(True, log), object()):
        raise KeyboardInterrupt
    assert log == ["judge off"]


@pytest.mark.parametrize("judge", [judge_that(False, []), object()])
def test_a_judge_that_fits_moves_nothing(judge: object) -> None:
    log: list[str] = []
    with room_for(judge, RecordingEngine(log)):
        pass
    assert log == []


def test_a_judge_wants_the_gpu_when_it_fits_it_only_alone(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = JudgeModel(str(model_folder), "causal")
    judge.__dict__["n_bytes"] = 14 * GIB
    for free, wants in ((60, False), (10, True)):
        monkeypatch.setattr(judge_model, "gpu_memories", lambda free=free: [Memory(free * GIB, 80 * GIB)])
        assert judge.wants_device is wants


# The model under test aside.


@pytest.fixture
def engine(build_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch) -> HuggingFaceEngine:
    """Its model is taken for one on GPUs; the tensors' journeys lead nowhere."""
    loaded = build_model()
    tensors = [*loaded.model.parameters(), *loaded.model.buffers()]
    homes = [(tensor, torch.device("cpu")) for tensor in tensors]
    monkeypatch.setattr(devices, "on_gpus", lambda model: homes)
    return HuggingFaceEngine(loaded)


def test_a_model_that_was_aside_is_what_it_was(engine: HuggingFaceEngine) -> None:
    before = fingerprint(engine.model)
    with pytest.raises(KeyboardInterrupt), engine.aside():
        raise KeyboardInterrupt
    with engine.aside():
        pass
    assert fingerprint(engine.model) == before
    assert engine.model.lm_head.weight is engine.model.model.embed_tokens.weight


def test_weights_that_come_back_changed_are_an_error(engine: HuggingFaceEngine) -> None:
    with pytest.raises(WeightsChanged, match="came back"), engine.aside(), torch.no_grad():
        engine.model.lm_head.weight[0, 0] += 1


def test_a_model_stays_on_its_gpus_where_the_host_has_no_room(
    engine: HuggingFaceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "host_memory", lambda: Memory(0, GIB))
    monkeypatch.setattr(devices, "_carry", lambda places: pytest.fail("it moved"))
    with engine.aside():
        pass


def stub(placed: list[str]) -> SimpleNamespace:
    tensors = [SimpleNamespace(device=torch.device(device)) for device in placed]
    return SimpleNamespace(parameters=lambda: tensors, buffers=list)


@pytest.mark.parametrize(
    ("model", "is_plain", "expected"),
    [
        (stub(["cuda:0", "cuda:0"]), True, ["cuda:0", "cuda:0"]),
        (stub(["cuda:0", "cuda:1"]), True, ["cuda:0", "cuda:1"]),  # spread by a device map
        (stub(["cuda:0", "cpu"]), True, ["cuda:0"]),
        (stub(["cuda:0"]), False, []),  # quantised, off-loaded
        (stub(["cpu"]), True, []),
        (stub([]), True, []),
    ],
)
def test_what_lies_on_gpus_moves_where_it_is_all_that_computes(
    model: SimpleNamespace, is_plain: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has_plain_weights", lambda model: is_plain)
    found = devices.on_gpus(model)  # type: ignore[arg-type]
    assert [str(home) for _, home in found] == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_model_on_the_gpu_makes_room_and_comes_back_bit_for_bit(build_model: Callable[..., LoadedModel]) -> None:
    loaded = build_model(dtype=torch.bfloat16)
    engine = HuggingFaceEngine(LoadedModel(loaded.model.to("cuda"), loaded.tokenizer))  # type: ignore[arg-type]
    before, held = fingerprint(engine.model), torch.cuda.memory_allocated()
    with engine.aside():
        assert engine.model.device.type == "cpu" and torch.cuda.memory_allocated() < held
    assert engine.model.device.type == "cuda" and fingerprint(engine.model) == before
    assert engine.model.lm_head.weight.data_ptr() == engine.model.model.embed_tokens.weight.data_ptr()


# Fetching and loading.


def test_pickled_weights_are_refused_with_the_command_that_converts_them(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text((model_folder / "config.json").read_text())
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InvalidModel, match=r"no safetensors weights.*python -c .*save_pretrained\('converted'\)"):
        _ = JudgeModel(str(folder), "causal").loaded


def refusal(kind: type[Exception]) -> Exception:
    if issubclass(kind, GatedRepoError):
        response = SimpleNamespace(status_code=403, headers={}, request=SimpleNamespace(url="", method="GET"))
        return kind("403", response=response)  # type: ignore[call-arg]
    return kind("not there")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (GatedRepoError, r"accept its terms on https://huggingface\.co/google/shieldgemma-2b and run `hf auth login`"),
        (LocalEntryNotFoundError, r"not in the hub's cache.*hf download google/shieldgemma-2b.*local folder"),
        (OfflineModeIsEnabled, r"not in the hub's cache"),
        (OSError, r"cannot be fetched from https://huggingface\.co/google/shieldgemma-2b \(OSError: not there\)"),
    ],
)
def test_weights_that_cannot_be_had_say_what_to_do(
    kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise refusal(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InvalidModel, match=message):
        _ = JudgeModel("google/shieldgemma-2b", "causal").tokenizer
    with pytest.raises(InvalidModel, match=f"^(?!.*tokenizer).*{message}"):
        _ = JudgeModel("google/shieldgemma-2b", "causal").loaded


def test_only_safetensors_and_texts_are_fetched(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def fetched(hub_id: str, *, revision: str | None = None, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(model_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    assert JudgeModel("some/judge", "causal").loaded.model is not None
    assert not any(name.endswith((".bin", ".pt", ".py")) or name == "*" for name in asked[0])


def test_licence_and_gate_are_told_once_when_a_named_judge_is_first_used(
    model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge = JudgeModel(str(model_folder), "causal", card=CARDS["shieldgemma-9b"])
    with caplog.at_level(logging.WARNING):
        assert caplog.messages == []
        _ = judge.n_bytes, judge.loaded, judge.ready(), judge.identity
    assert caplog.messages == [
        "Judge shieldgemma-9b: licence Gemma Terms of Use; gated: accept its terms on that page; "
        "https://huggingface.co/google/shieldgemma-9b. This project has not run it on its real weights."
    ]


def test_a_named_judge_tells_its_facts_and_a_folder_says_that_nothing_is_known(model_folder: Path) -> None:
    named = JudgeModel("x/y", "causal", card=CARDS["qwen3guard-gen-4b"]).facts(None)
    assert named == {
        "source": "https://huggingface.co/Qwen/Qwen3Guard-Gen-4B",
        "licence": "Apache-2.0",
        "gated": False,
        "ran_on_real_weights": False,
        "threshold": None,
    }
    assert JudgeModel(str(model_folder), "causal").facts(0.5) == {
        "source": str(model_folder),
        "licence": None,
        "gated": None,
        "ran_on_real_weights": False,
        "threshold": 0.5,
    }
