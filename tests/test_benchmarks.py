from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from safety_tasks import Direction, perturbed
from safety_tasks.models import LoadedModel

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ALPHAS = (-0.6, -0.3, 0.0, 0.3, 0.6)
SMALL = "--model tiny-aligned --directions 2 --points 3 --radius 0.35 --prompts 4 --tokens 8".split()


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_restated_walk_stands_where_ours_does_at_every_alpha(build_model: Callable[..., LoadedModel]) -> None:
    from point_times import distance_of
    from roads import StoredWalk

    walked, ours, direction = build_model(tied=False).model, build_model(tied=False).model, Direction(3)
    walk = StoredWalk(walked, direction, ALPHAS)
    for alpha in ALPHAS:
        assert walk.advance() == alpha
        with perturbed(ours, direction, alpha):
            assert distance_of(walk.state, ours) < len(ALPHAS) * torch.finfo(torch.float32).eps
            assert distance_of(walked.state_dict(), ours) < len(ALPHAS) * torch.finfo(torch.float32).eps
    assert distance_of(walk.state, ours) > 0.5, "the last point lies away from the unmoved weights"


def test_the_walk_refuses_tied_weights(build_model: Callable[..., LoadedModel]) -> None:
    from roads import StoredWalk

    with pytest.raises(SystemExit, match="not tied"):
        StoredWalk(build_model(tied=True).model, Direction(0), ALPHAS)


@pytest.mark.filterwarnings("ignore")  # of lm_eval's and generate's own
def test_a_small_comparison_finds_equal_verdicts_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import vs_reference

    monkeypatch.setattr(sys, "argv", ["vs_reference.py", "--json", "--journal", str(tmp_path), *SMALL])
    vs_reference.main()
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["verdicts_equal"] and found["flips"] == [] and found["verdicts"] == 24
    assert min(found["speedup_fp32"], found["speedup_bf16"], found["speedup_hflm_fp32"]) > 0
    assert sum(found["points"].values()) == 6
    assert found["same_work"]["inside"]["vs_reference"] > 0

    journal = next(tmp_path.glob("points-*.jsonl"))
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:-1], lines[-1][:40]]))  # killed while it wrote the last visit
    vs_reference.main()
    renewed = journal.read_text().splitlines()
    assert renewed[:-1] == lines[:-1]
    assert json.loads(renewed[-1])["road"] == json.loads(lines[-1])["road"]
