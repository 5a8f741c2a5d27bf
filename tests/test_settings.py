from __future__ import annotations

import subprocess
import sys

import pytest

from safety_tasks.errors import InvalidSetting, UnknownName
from safety_tasks.settings import Settings


def test_the_grid_is_symmetric_and_holds_the_origin_exactly() -> None:
    alphas = Settings().alphas
    assert len(alphas) == 21 and alphas[0] == -0.5 and alphas[-1] == 0.5 and alphas[10] == 0.0
    assert [-alpha for alpha in reversed(alphas)] == list(alphas)


def test_text_from_a_command_line_becomes_numbers() -> None:
    found = Settings.from_metadata({"visage_points": "5", "visage_radius": "1", "pretrained": "x", "dtype": "auto"})
    assert (found.points, found.radius) == (5, 1.0) and isinstance(found.radius, float)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("points", 4, "an odd number"),
        ("points", "many", "a whole number"),
        ("points", 3.5, "a whole number"),
        ("directions", 0, "at least 1"),
        ("radius", -1, "a positive number"),
        ("radius", "nan", "a positive number"),
        ("tolerance", 1.5, "a fraction"),
        ("n_prompts", 0, "at least 1"),
        ("max_new_tokens", "0", "at least 1"),
        ("seed", True, "a whole number"),
    ],
)
def test_a_value_out_of_range_says_the_rule(name: str, value: object, rule: str) -> None:
    with pytest.raises(InvalidSetting, match=rule):
        Settings.parse({name: value})


def test_types_are_checked_and_large_seeds_stay_exact() -> None:
    with pytest.raises(InvalidSetting, match="points is '21': it must be of type int"):
        Settings(points="21")  # type: ignore[arg-type]
    with pytest.raises(InvalidSetting, match="must be of type int"):
        Settings(seed=1.5)  # type: ignore[arg-type]
    assert Settings.parse({"seed": str(2**60 + 1)}).seed == 2**60 + 1
    assert Settings.parse({"points": "5.0"}).points == 5


def test_an_unknown_metadata_key_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="There is no option 'visage_point'.*visage_points"):
        Settings.from_metadata({"visage_point": 5})


def test_a_wrong_choice_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="There are: auto, off"):
        Settings.parse({"chat": "perhaps"})


@pytest.mark.parametrize("module", ["safety_tasks", "safety_tasks.inputs", "pytest_llmsafety.plugin"])
def test_importing_it_is_cheap(module: str) -> None:
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'numpy', 'lm_eval', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
