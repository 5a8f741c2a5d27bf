"""Imports go one way: each room may import the rooms below it, and heavy libraries stay in theirs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up. A module of one level may import modules of its own and lower levels.
LEVELS = [
    {"errors", "settings", "metrics", "intervals", "noise", "blocks", "threads", "directions", "journal", "tiny"}
    | {"profile", "sampling", "system_prompts", "setting_values", "gpus", "memory"},
    {"estimates", "prompts", "decoding", "agreement", "planning", "budget", "measured_pace"}
    | {"prediction_powered", "filter_rates", "training_rows", "tuning_data", "public_tuning_data", "attack_grid"},
    {
        "commands",
        "variants",
        "judges",
        "progress",
        "inputs",
        "points",
        "plans",
        "adapters",
        "merging",
        "models",
        "revisions",
        "loading_errors",
        "probes",
        "chat",
        "memory_plan",
        "template_control",
        "fingerprints",
        "human_labels",
        "judge_check",
        "calibrate",
        "training_runs",
    },
    {
        "pristine",
        "perturbable",
        "unmade",
        "quantisation",
        "devices",
        "weights",
        "checkpoints",
        "shared_weights",
        "parallel",
        "targets",
        "shapes",
    }
    | {"layer_groups", "worst_direction", "worst_points", "projections"},
    {"basin", "visage", "engine", "landscape", "paired", "paired_landscape", "task_record", "asr_within"}
    | {"landscape_values", "verdict_grid", "shown", "interpolation", "plane", "capability", "skill_curve", "trajectory"}
    | {"rate_curves", "margin", "block_widths", "curtailment", "by_system_prompt", "worst_width", "stored_shapes"}
    | {"edge_cut", "edge_settling", "edge_search", "edge_scan", "refusal_gap"},
    {"noise_floor", "repeats"},
    {"answering", "judging", "questions", "workers", "measurement", "records", "samples", "measured", "rates_at"},
    {"plots", "python_api", "reversals", "reversed_blocks", "data_scan", "run_trajectory", "masks", "finetuning"}
    | {"model_states", "tuned_weights", "state_measurement", "state_table", "saving", "attack"}
    | {"breaking_point", "breaking_run", "breaking_comparison", "pruning", "repairs", "repair_table", "repair_run"},
    {"report", "baseline", "audited", "audit_labels", "audit", "audit_terminal"},
    {"harness"},
    {"scan_command", "audit_command", "repair_commands"},
    {"__main__", "__init__"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# tiny is data with the scripts that made it; its check measures, and so stands on top.
ON_TOP = {"safety_tasks/tiny/check.py", "safety_tasks/tiny/train.py"}


def modules() -> Iterator[Path]:
    for package in ("safety_tasks", "pytest_llmsafety"):
        yield from sorted((ROOT / package).rglob("*.py"))


def imports(path: Path, *, at_import: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of every import; with ``at_import`` only those that run when the module is imported."""
    tree = ast.parse(path.read_text())
    for node in _run_at_import(tree) if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def _run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _run_at_import(node)


def room(path: Path) -> str:
    return path.relative_to(ROOT / "safety_tasks").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_a_room_above_it(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    for line, module in imports(path):
        parts = module.split(".")
        if name.startswith("safety_tasks/"):
            assert parts[0] != "pytest_llmsafety", f"{name}:{line} imports the plugin"
            assert parts[0] != "pytest", f"{name}:{line} imports pytest"
            assert parts[0] != "lm_eval" or room(path) == "harness", f"{name}:{line} imports lm_eval outside harness/"
            if parts[0] == "safety_tasks" and len(parts) > 1 and name not in ON_TOP:
                assert LEVEL[parts[1]] <= LEVEL[room(path)], f"{name}:{line} imports {module}, a room above it"
        else:
            assert parts[0] != "lm_eval" or _is_for_types_only(path, line), f"{name}:{line} imports lm_eval"


def _is_for_types_only(path: Path, line: int) -> bool:
    return line not in {found for found, _ in imports(path, at_import=True)} and any(
        isinstance(node, ast.If)
        and "TYPE_CHECKING" in ast.dump(node.test)
        and node.lineno <= line <= (node.end_lineno or 0)
        for node in ast.walk(ast.parse(path.read_text()))
    )


@pytest.mark.parametrize(
    "name",
    [
        "errors",
        "settings",
        "setting_values",
        "profile",
        "sampling",
        "metrics",
        "inputs",
        "adapters",
        "models",
        "memory",
        "memory_plan",
        "prompts/__init__",
        "prompts/files",
        "judges/__init__",
        "__init__",
    ],
)
def test_light_modules_import_nothing_heavy(name: str) -> None:
    heavy = {"torch", "transformers", "lm_eval", "numpy", "scipy", "datasets", "pyarrow", "rapidfuzz", "altair"}
    path = ROOT / "safety_tasks" / f"{name}.py"
    found = [(line, module) for line, module in imports(path, at_import=True) if module.split(".")[0] in heavy]
    assert not found


def test_files_stay_small() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert not {name: length for name, length in lengths.items() if length > 300}
