"""Safety measurements of language models: landscapes, attack success rate, over-refusal, with honest intervals.

Importing this package imports neither torch nor lm_eval; each public name is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _safety_tasks_startup import install as enable_lm_eval

    from safety_tasks.attack import harmful_finetune
    from safety_tasks.blocks import Block
    from safety_tasks.breaking_run import examples_to_break
    from safety_tasks.capability import Capability
    from safety_tasks.checkpoints import CheckpointDirection, direction_to
    from safety_tasks.data_scan import scan_data
    from safety_tasks.directions import Direction
    from safety_tasks.estimates import Decision, Estimate
    from safety_tasks.harness.capability_task import measure_capability
    from safety_tasks.harness.margin_task import measure_margin
    from safety_tasks.interpolation import Interpolation
    from safety_tasks.judges import get_judge
    from safety_tasks.landscape import Landscape
    from safety_tasks.margin import Margin
    from safety_tasks.plane import Plane
    from safety_tasks.prompts import PromptSet, load_prompts
    from safety_tasks.pruning import antidote
    from safety_tasks.python_api import measure_landscape, measure_plane, measure_worst_width
    from safety_tasks.reversed_blocks import blame
    from safety_tasks.run_trajectory import measure_trajectory
    from safety_tasks.settings import Settings
    from safety_tasks.trajectory import Trajectory
    from safety_tasks.weights import perturbed

_HOMES = {
    "Block": "safety_tasks.blocks",
    "Capability": "safety_tasks.capability",
    "CheckpointDirection": "safety_tasks.checkpoints",
    "Decision": "safety_tasks.estimates",
    "Direction": "safety_tasks.directions",
    "Estimate": "safety_tasks.estimates",
    "Interpolation": "safety_tasks.interpolation",
    "Landscape": "safety_tasks.landscape",
    "Margin": "safety_tasks.margin",
    "Plane": "safety_tasks.plane",
    "PromptSet": "safety_tasks.prompts",
    "Settings": "safety_tasks.settings",
    "Trajectory": "safety_tasks.trajectory",
    "antidote": "safety_tasks.pruning",
    "blame": "safety_tasks.reversed_blocks",
    "direction_to": "safety_tasks.checkpoints",
    "examples_to_break": "safety_tasks.breaking_run",
    "get_judge": "safety_tasks.judges",
    "harmful_finetune": "safety_tasks.attack",
    "load_prompts": "safety_tasks.prompts",
    "measure_capability": "safety_tasks.harness.capability_task",
    "measure_landscape": "safety_tasks.python_api",
    "measure_margin": "safety_tasks.harness.margin_task",
    "measure_plane": "safety_tasks.python_api",
    "measure_trajectory": "safety_tasks.run_trajectory",
    "measure_worst_width": "safety_tasks.python_api",
    "perturbed": "safety_tasks.weights",
    "scan_data": "safety_tasks.data_scan",
}

__all__ = [
    "Block",
    "Capability",
    "CheckpointDirection",
    "Decision",
    "Direction",
    "Estimate",
    "Interpolation",
    "Landscape",
    "Margin",
    "Plane",
    "PromptSet",
    "Settings",
    "Trajectory",
    "antidote",
    "blame",
    "direction_to",
    "enable_lm_eval",
    "examples_to_break",
    "get_judge",
    "harmful_finetune",
    "load_prompts",
    "measure_capability",
    "measure_landscape",
    "measure_margin",
    "measure_plane",
    "measure_trajectory",
    "measure_worst_width",
    "perturbed",
    "scan_data",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name == "enable_lm_eval":
        return importlib.import_module("_safety_tasks_startup").install
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
