"""Models whose weights cannot be moved are refused, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from safety_tasks import Direction, perturbed
from safety_tasks.errors import NotPerturbable
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.tiny import model_path


def test_weights_that_are_not_there_cannot_be_moved(build_model: Callable[..., LoadedModel]) -> None:
    model = build_model().model.to("meta")
    with pytest.raises(NotPerturbable, match="off-loaded"), perturbed(model, Direction(0), 0.1):
        pass


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own
def test_an_adapter_that_is_not_merged_is_refused() -> None:
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_model("tiny-aligned").model, model_path("tiny-finetuned") / "adapter")
    with pytest.raises(NotPerturbable, match="merge it first"), perturbed(model, Direction(0), 0.1):
        pass
    with perturbed(model.merge_and_unload(), Direction(0), 0.1):
        pass


def test_integer_weights_cannot_be_moved(build_model: Callable[..., LoadedModel]) -> None:
    model = build_model().model
    model.is_quantized = True
    with pytest.raises(NotPerturbable, match="quantised"), perturbed(model, Direction(0), 0.1):
        pass


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_off_loaded_weights_are_refused(where: str, build_model: Callable[..., LoadedModel], tmp_path: Path) -> None:
    import accelerate

    model = build_model().model
    if where == "cpu":
        accelerate.cpu_offload(model, execution_device="cpu")
    else:
        accelerate.disk_offload(model, tmp_path, execution_device="cpu")
    with pytest.raises(NotPerturbable, match="off-loaded.*device_map"), perturbed(model, Direction(0), 0.1):
        pass


def test_a_model_on_a_device_by_its_map_is_not_off_loaded(model_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder, device_map={"": "cpu"})
    with perturbed(model, Direction(0), 0.1):
        pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch.ao's own
def test_layers_quantised_by_torch_are_refused(build_model: Callable[..., LoadedModel]) -> None:
    from torch.ao.quantization import quantize_dynamic

    model = quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(8, 8)), {torch.nn.Linear})
    with pytest.raises(NotPerturbable, match="quantised"), perturbed(model, Direction(0), 0.1):
        pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_scripted_model_is_refused() -> None:
    model = torch.jit.trace(torch.nn.Linear(4, 4), torch.zeros(1, 4))
    with pytest.raises(NotPerturbable, match="TorchScript"), perturbed(model, Direction(0), 0.1):
        pass


def test_an_adapter_inside_a_model_is_refused() -> None:
    model = load_model("tiny-aligned").model
    model.load_adapter(str(model_path("tiny-finetuned") / "adapter"))
    with pytest.raises(NotPerturbable, match="merge it first"), perturbed(model, Direction(0), 0.1):
        pass


def sharded_by_zero(weight: torch.nn.Parameter) -> torch.nn.Parameter:
    weight.ds_id = 0
    return weight


def sharded_by_fsdp(weight: torch.nn.Parameter) -> torch.nn.Parameter:
    return type("FlatParameter", (torch.nn.Parameter,), {})(weight.detach())


@pytest.mark.parametrize("shard", [sharded_by_zero, sharded_by_fsdp])
def test_weights_spread_over_processes_are_refused(
    shard: Callable[[torch.nn.Parameter], torch.nn.Parameter],
) -> None:
    model = torch.nn.Linear(4, 4)
    model.weight = shard(model.weight)
    with pytest.raises(NotPerturbable, match="several processes"), perturbed(model, Direction(0), 0.1):
        pass


def test_a_dtensor_is_refused(tmp_path: Path) -> None:
    from torch import distributed
    from torch.distributed.tensor import DeviceMesh, distribute_module

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = distribute_module(torch.nn.Linear(4, 4), DeviceMesh("cpu", [0]))
        with pytest.raises(NotPerturbable, match="several processes"), perturbed(model, Direction(0), 0.1):
            pass
    finally:
        distributed.destroy_process_group()


def test_weights_of_another_kind_are_refused() -> None:
    model = torch.nn.Linear(4, 4)
    model.register_parameter("counts", torch.nn.Parameter(torch.ones(3, dtype=torch.int32), requires_grad=False))
    with pytest.raises(NotPerturbable, match="torch.int32: only plain"), perturbed(model, Direction(0), 0.1):
        pass


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(NotPerturbable, match="has no parameters"), perturbed(torch.nn.ReLU(), Direction(0), 0.1):
        pass
