"""What a model takes of memory is known before its weights are loaded, and what cannot fit is refused then."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers import PretrainedConfig

from safety_tasks import Direction, memory, memory_plan, perturbed, pristine
from safety_tasks.decoding import DecodingLog, Scored, batches, decode, mean_nll
from safety_tasks.decoding.cache_size import cache_bytes, row_bytes
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidModel, NotPerturbable
from safety_tasks.harness import request
from safety_tasks.harness.evaluation import load_lm
from safety_tasks.memory import GIB, Memory, in_gib, pinned_bytes
from safety_tasks.memory_plan import MemoryPlan, Size, plan_loading, plan_memory, plan_of_loaded, size_of
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.settings import Settings

SMALL = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=128,
    vocab_size=300,
)
GROUPED = SMALL | dict(num_key_value_heads=2)
WINDOW_AND_ALL = dict(sliding_window=16, layer_types=["sliding_attention", "full_attention"], head_dim=8)
LATENT = dict(kv_lora_rank=16, q_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8)
EXPERTS = dict(n_routed_experts=4, moe_intermediate_size=16, n_group=1, topk_group=1, num_experts_per_tok=2)
CONFIGS: dict[str, dict[str, Any]] = {
    "LlamaConfig": GROUPED | dict(tie_word_embeddings=True),
    "Qwen3Config": GROUPED | dict(head_dim=16),
    "MistralConfig": GROUPED | dict(sliding_window=16),
    "MixtralConfig": GROUPED | dict(num_local_experts=4, num_experts_per_tok=2),
    "Gemma3TextConfig": GROUPED | WINDOW_AND_ALL,
    "GptOssConfig": GROUPED | WINDOW_AND_ALL | dict(num_local_experts=4, num_experts_per_tok=2),
    "GPT2Config": dict(n_embd=32, n_layer=2, n_head=4, n_positions=128, vocab_size=300),
    "MptConfig": dict(d_model=32, n_layers=2, n_heads=4, max_seq_len=128, vocab_size=300),
    "FalconConfig": SMALL | dict(multi_query=True),
    "GPTNeoXConfig": SMALL,
    "DeepseekV3Config": SMALL | LATENT | EXPERTS | dict(first_k_dense_replace=1),
    "Lfm2Config": GROUPED | dict(layer_types=["conv", "full_attention"], conv_L_cache=3),
}


@pytest.fixture(scope="module", params=CONFIGS)
def config(request: pytest.FixtureRequest) -> PretrainedConfig:
    found: PretrainedConfig = getattr(transformers, request.param)(**CONFIGS[request.param])
    return found


def n_bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of kernels that are not installed
def test_sizes_from_the_configuration_are_those_of_real_tensors(config: PretrainedConfig) -> None:
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    size = size_of(config, "bfloat16", 50)
    assert size is not None and size.weights == n_bytes(model.parameters()) and size.tokens == 128
    for tokens in (7, 40):  # within the windows, and beyond
        with torch.no_grad():
            layers = model(torch.randint(0, 300, (3, tokens)), use_cache=True).past_key_values.layers
        kept = [(layer.keys, layer.values) for layer in layers if getattr(layer, "keys", None) is not None]
        assert 3 * cache_bytes(config, tokens, 2) == n_bytes(tensor for pair in kept for tensor in pair)
        assert row_bytes(config, tokens, 2) == cache_bytes(config, tokens, 2) + 300 * 2


def test_a_configuration_that_tells_nothing_has_no_size() -> None:
    assert row_bytes(PretrainedConfig(), 10, 2) == 0
    quantised = transformers.LlamaConfig(**GROUPED, quantization_config={"quant_method": "gptq", "bits": 4})
    assert size_of(quantised, "bfloat16", 50) is None and size_of(transformers.LlamaConfig(**GROUPED), None, 5) is None


# -- where things go ---------------------------------------------------------------------------------------------------

HOST = Memory(400 * GIB, 512 * GIB)
MIB = 1 << 20


def plan(weights: int, gpus: list[tuple[int, int]], host: Memory = HOST, **options: Any) -> MemoryPlan:
    """Of weights, and of free and total memory, all in GiB."""
    size = Size(options.pop("dtype", "bfloat16"), (weights * GIB,), 200 * MIB, 640)
    cards = {f"cuda:{i}": Memory(free * GIB, total * GIB) for i, (free, total) in enumerate(gpus)}
    return MemoryPlan("m", size, cards, host, **options)


def test_a_plan_says_where_weights_copy_and_answers_go() -> None:
    assert str(plan(14, [(79, 80)])) == (
        "memory of m: weights 14.0 GiB (bfloat16) on cuda:0, 79.0 GiB free; for a landscape as much again for their "
        "pristine copy; the rest holds about 261 answers of 640 tokens (200 MiB each) at once (--llm-batch-size)"
    )
    on_host = plan(14, [(23, 24)])
    assert on_host.copy_on_host and "pinned host memory, 16.0 GiB of 400.0 GiB free; the rest holds about 46 " in str(
        on_host
    )
    assert str(plan(14, [(23, 24)], Memory(8 * GIB, 16 * GIB))).count("8.0 GiB free: it does not fit") == 1
    assert "not one answer of 640 tokens" in str(plan(23, [(23, 24)]))
    on_cpu = plan(100, [], Memory(150 * GIB, 256 * GIB))
    assert "on the host, 150.0 GiB free; for a landscape as much again for their pristine copy: it does" in str(on_cpu)
    assert "answers" not in str(on_cpu)


def test_only_a_gpu_or_a_host_that_gets_tight_is_worth_a_line() -> None:
    assert plan(1, [(79, 80)]).is_worth_saying and plan(101, []).is_worth_saying
    assert not plan(100, []).is_worth_saying


@pytest.mark.parametrize(
    ("weights", "gpus", "off_loads", "fits"),
    [
        (79, [(79, 80)], False, True),
        (80, [(79, 80)], False, False),
        (140, [(79, 80), (79, 80)], True, True),
        (500, [(79, 80), (79, 80)], True, True),  # the rest off-loaded
        (600, [(79, 80), (79, 80)], True, False),
        (400, [], False, True),
        (401, [], False, False),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    weights: int, gpus: list[tuple[int, int]], off_loads: bool, fits: bool
) -> None:
    found = plan(weights, gpus, may_off_load=off_loads)
    if fits:
        found.check()
        return
    with pytest.raises(InvalidModel, match=f"take {weights}.0 GiB in bfloat16, and .* free of "):
        found.check()


def test_the_refusal_names_what_may_help() -> None:
    with pytest.raises(InvalidModel) as error:
        plan(80, [(79, 80)], dtype="float32").check()
    assert str(error.value) == (
        "The weights of 'm' take 80.0 GiB in float32, and cuda:0 has 79.0 GiB free of 80.0 GiB: load it in half "
        "precision (--llm-dtype bfloat16); or spread it over several GPUs (--llm-model-args parallelize=True); or free "
        "memory that other processes hold, or take a larger machine."
    )
    assert "158.0 GiB free on cuda:0, cuda:1: the rest is off-loaded, where behaviour is slow" in str(
        plan(200, [(79, 80)] * 2, may_off_load=True)
    )


def test_the_device_map_and_parallelize_spread_a_model_over_all_gpus(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_plan, "_SMALL", 0)
    monkeypatch.setattr(memory_plan, "gpu_memories", lambda: [Memory(1, 2), Memory(3, 4)])
    monkeypatch.setattr(memory_plan, "gpu_memory", lambda device: Memory(5, 6))
    both = {"cuda:0": Memory(1, 2), "cuda:1": Memory(3, 4)}
    for arguments in ({"parallelize": True}, {"parallelize": "true"}, {"device_map": "auto"}):
        found = plan_loading(str(model_folder), arguments, device="cuda")
        assert found is not None and found.gpus == both and found.may_off_load
    alone = plan_loading(str(model_folder), {}, device="cuda:1")
    assert alone is not None and alone.gpus == {"cuda:1": Memory(5, 6)} and not alone.may_off_load
    for other in ("tp_plan", "load_in_4bit", "quantization_config"):
        assert plan_loading(str(model_folder), {other: "True"}, device="cuda") is None


def test_each_gpu_of_a_spread_model_keeps_its_copy_where_it_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cuda:0": Memory(20 * GIB, 40 * GIB), "cuda:1": Memory(19 * GIB, 40 * GIB)}
    monkeypatch.setattr(pristine, "gpu_memory", lambda device: free[str(device)])
    monkeypatch.setattr(pristine, "_copy", lambda parameter, on_host: on_host)
    checked: list[int] = []
    monkeypatch.setattr(pristine, "check_host", checked.append)
    places = {"a": "cuda:0", "b": "cuda:1", "c": "cuda:1", "d": "cpu"}
    sizes = {"a": 10, "b": 7, "c": 3, "d": 1}
    parameters = {
        name: SimpleNamespace(device=torch.device(place), numel=lambda n=sizes[name]: n * GIB, element_size=lambda: 1)
        for name, place in places.items()
    }
    assert pristine.copy_all(parameters, None) == {"a": False, "b": True, "c": True, "d": False}  # type: ignore
    assert checked == [(8 + 4 + 1) * GIB]  # pinned memory comes in powers of two
    assert pinned_bytes([7 * GIB, 1 << 20, (1 << 20) + 1]) == 8 * GIB + 3 * (1 << 20)


# -- the host ----------------------------------------------------------------------------------------------------------


def free_host(monkeypatch: pytest.MonkeyPatch, module: object, n_bytes: int) -> None:
    monkeypatch.setattr(module, "host_memory", lambda: Memory(n_bytes, 16 * GIB))


def test_a_copy_that_the_host_has_no_room_for_is_refused_and_the_model_still_answers(
    build_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = build_model()
    free_host(monkeypatch, pristine, n_bytes(loaded.model.parameters()) - 1)
    with pytest.raises(NotPerturbable, match="pristine copy .* KiB|MiB of host memory, and .* of 16.0 GiB are free"):
        with perturbed(loaded.model, Direction(0), 0.1):
            pass
    free_host(monkeypatch, pristine, n_bytes(loaded.model.parameters()))
    with perturbed(loaded.model, Direction(0), 0.1):
        pass


def test_a_container_has_what_its_control_groups_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "jobs" / "job"
    group.mkdir(parents=True)
    cached = "active_file 100000\ninactive_file 190000\nslab_reclaimable 10000"
    for name, value in {"max": "1000000", "current": "900000", "stat": "anon 5\n" + cached}.items():
        (group / f"memory.{name}").write_text(value + "\n")
    for name, value in {"max": "max", "current": "900000", "stat": "inactive_file 0"}.items():
        (group.parent / f"memory.{name}").write_text(value + "\n")
    own = tmp_path / "cgroup"
    own.write_text("0::/jobs/job\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUP", own)
    assert memory.host_memory() == Memory(400_000, 1_000_000)
    own.write_text("9:memory:/somewhere\n")
    assert memory.host_memory().total > GIB / 4


def test_an_integrated_gpu_has_what_the_host_has_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"mem_get_info": (2, 16), "memory_reserved": 3, "memory_allocated": 1}.items():
        monkeypatch.setattr(torch.cuda, name, lambda gpu, value=value: value)
    monkeypatch.setattr(memory, "host_memory", lambda: Memory(9, 16))
    for is_integrated, free in ((True, 11), (False, 4)):
        found = SimpleNamespace(is_integrated=is_integrated)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu, found=found: found)
        assert memory.gpu_memory(0) == Memory(free, 16)


def test_batches_are_halved_until_free_host_memory_holds_them_and_answers_stay(
    build_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, tokenizer = build_model()
    prompts = [[5 + i, 6, 7] for i in range(8)]
    sizes: list[int] = []
    forward = type(model).forward
    monkeypatch.setattr(
        type(model), "forward", lambda self, *a, **k: sizes.append(len(k["input_ids"])) or forward(self, *a, **k)
    )

    def answers(**options: Any) -> list[Any]:
        sizes.clear()
        return decode(model, tokenizer, prompts, max_new_tokens=2, log=log, **options)

    log = DecodingLog()
    whole = answers()
    assert sizes == [8, 8] and log.smallest_batch is None
    free_host(monkeypatch, batches, 2 * 3 * row_bytes(model.config, 5, 4))  # of free memory a half is taken: 3 rows
    assert answers() == whole and answers() == whole
    assert sizes == [2, 2] * 4 and log.smallest_batch == 2
    assert caplog.messages == ["batches of 2: all 8 prompts at once would not fit free memory"]
    answers(batch_size=8)
    assert sizes == [8, 8]  # as it was asked for
    rows = [Scored([1, 2], [3]) for _ in range(4)]
    free_host(monkeypatch, batches, 2 * 2 * 3 * 300 * 4)
    sizes.clear()
    assert len(mean_nll(model, rows, batch_size=32)) == 4 and sizes == [2, 2]


# -- before loading ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that sets the host's free memory, where no checkpoint is small."""
    monkeypatch.setattr(memory_plan, "_SMALL", 0)
    return lambda free: free_host(monkeypatch, memory_plan, free)


def test_a_model_that_cannot_fit_is_refused_before_it_loads(
    model_folder: Path, tight: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loading(*args: object, **kwargs: object) -> None:
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", loading)
    tight(1000)
    for load in (load_model, lambda name, **options: load_lm(name, settings=Settings(), **options)):
        with pytest.raises(InvalidModel, match="in float32, and the host has .* free of 16.0 GiB: load it in half"):
            load(str(model_folder), device="cpu")


def test_the_plan_is_said_before_the_weights_load_where_memory_is_tight(
    model_folder: Path, tight: Callable[[int], None], build_model: Callable[..., LoadedModel]
) -> None:
    said: list[str] = []
    for free in (GIB, 1 << 20):
        tight(free)
        load_lm(str(model_folder), settings=Settings(max_new_tokens=30), device="cpu", say=said.append)
    assert len(said) == 1 and "on the host, 1 MiB free; for a landscape" in said[0] and "158 tokens" in said[0]
    before = plan_memory(str(model_folder), device="cpu", max_new_tokens=30)
    assert before is not None and before.size == plan_of_loaded(build_model().model, "m", 30).size
    assert in_gib(before.size.weights) in said[0]


def test_lm_evals_command_line_is_told_once(
    build_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("lm_eval.safety_tasks")
    logger.addHandler(caplog.handler)
    monkeypatch.setattr(logger, "propagate", False)
    logger.setLevel(logging.INFO)
    free_host(monkeypatch, memory_plan, 1 << 20)
    lm, engine = SimpleNamespace(), HuggingFaceEngine(build_model())
    question = SimpleNamespace(settings=Settings(max_new_tokens=20))
    try:
        for _ in range(2):
            request._tell_memory(lm, engine, [question])  # type: ignore[arg-type, list-item]
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(logging.NOTSET)
    assert len(caplog.messages) == 1
    assert "(float32) on the host" in caplog.text and "of 148 tokens" in caplog.text
