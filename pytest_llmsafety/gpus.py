"""GPUs that the workers of pytest-xdist share out."""

from __future__ import annotations

from collections.abc import Mapping

from safety_tasks.gpus import VISIBLE, visible_gpus

__all__ = ["VISIBLE", "gpus_of_workers", "visible_gpus"]

_SPREADS = ("parallelize", "device_map", "tensor_parallel", "pipeline_parallel", "data_parallel", "tp_size", "dp_size")
"""In the arguments of lm_eval's model types: one model on several GPUs."""


def gpus_of_workers(device: str | None, model_args: str, environment: Mapping[str, str]) -> list[str]:
    """The GPUs to share out among workers, one each: none where the model goes elsewhere, or on several of them."""
    if (device or "cuda") != "cuda" or any(name in model_args for name in _SPREADS):
        return []
    return visible_gpus(environment)
