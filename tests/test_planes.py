"""Planes through a model: the points, their bits, eq. 4 against numpy, and the scores read from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from safety_tasks import CheckpointDirection, Direction, Plane, measure_landscape, measure_plane, perturbed
from safety_tasks.checkpoints import difference
from safety_tasks.directions import AnyDirection, Weight, step_coefficient
from safety_tasks.errors import InvalidModel, InvalidSetting
from safety_tasks.fingerprints import fingerprint
from safety_tasks.models import LoadedModel
from safety_tasks.parallel import Orthogonal, Parallel, orthogonal
from safety_tasks.points import ORIGIN, Point, grid
from safety_tasks.settings import Settings
from safety_tasks.shapes import axes, plane_points
from safety_tasks.targets import Toward, points_made
from safety_tasks.weights import Weights

Build = Callable[..., LoadedModel]
CPU = torch.device("cpu")
FEW: dict[str, Any] = {"n_prompts": 6, "max_new_tokens": 6}


# -- the points --------------------------------------------------------------------------------------------------------


def test_a_plane_holds_every_pair_once_and_the_origin_as_the_origin() -> None:
    points = plane_points(Settings())
    assert len(points) == len(set(points)) == 121 and points.count(ORIGIN) == 1


@given(radius=st.floats(0.01, 3), half=st.integers(1, 8), finer=st.integers(1, 4), seed=st.integers(0, 9))
def test_the_axes_are_the_points_of_the_lines_bit_for_bit(radius: float, half: int, finer: int, seed: int) -> None:
    plane = Settings(radius=radius, plane_points=2 * half + 1, seed=seed)
    on_axes = {point for point in plane_points(plane) if not isinstance(point.direction, Parallel)}
    assert len(on_axes) == 4 * half + 1
    same = Settings(radius=radius, points=2 * half + 1, directions=2, seed=seed)
    assert on_axes == set(grid(same))
    if finer in (1, 2, 4):  # a power of two: both are the same quotient, which is rounded once
        assert on_axes <= set(grid(Settings(radius=radius, points=2 * half * finer + 1, directions=2, seed=seed)))


def test_the_model_comes_first_and_each_further_point_is_a_step_from_the_one_before_it() -> None:
    def place(point: Point) -> tuple[float, float]:
        if isinstance(point.direction, Parallel):
            return point.alpha, point.direction.beta
        return (0.0, point.alpha) if point.direction == Direction(0, 1) else (point.alpha, 0.0)

    first, *rest = plane_points(Settings(plane_points=5))
    places = [place(point) for point in rest]
    steps = [abs(a - c) + abs(b - d) for (a, b), (c, d) in zip(places, places[1:], strict=False)]
    assert first == ORIGIN and sorted(steps)[:-1] == pytest.approx([0.25] * 22)
    assert max(steps) == pytest.approx(0.5), "over the model"


def test_a_point_at_two_coefficients_is_told_by_both_and_by_both_directions() -> None:
    one, again = (Point(Parallel(Direction(0), Direction(1), 0.5), 0.2) for _ in range(2))
    assert one == again and hash(one) == hash(again) and str(one) == "alpha +0.20, beta +0.50"
    others = [
        Point(Parallel(Direction(0), Direction(1), 0.4), 0.2),
        Point(Parallel(Direction(0), Direction(2), 0.5), 0.2),
        Point(Parallel(Direction(0), Direction(1), 0.5), 0.1),
        Point(Direction(0), 0.2),
    ]
    identities = {json.dumps(point.identity(), sort_keys=True) for point in (one, *others)}
    assert one not in others and len(identities) == 5


def test_what_a_plane_lacks_is_said() -> None:
    with pytest.raises(InvalidSetting, match="An interpolation needs a target.*visage_target"):
        axes(Settings(plane="interpolation"))
    with pytest.raises(InvalidSetting, match="the second is missing.*visage_second_target"):
        axes(Settings(plane="interpolation", target="tiny-finetuned"))


# -- their bits --------------------------------------------------------------------------------------------------------


def bits(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone().view(torch.uint8) for name, parameter in model.named_parameters()}


def noise(direction: Direction, name: str, pristine: torch.Tensor, alpha: float) -> torch.Tensor:
    drawn = torch.from_numpy(direction.noise(name, 0, pristine.numel())).double().view_as(pristine)
    squared = int(drawn.square().sum())
    return drawn * step_coefficient(squared, float(pristine.double().norm()), alpha)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_point_of_a_plane_is_rounded_once_from_the_pristine_weights(build_model: Build, dtype: torch.dtype) -> None:
    model = build_model(dtype=dtype).model
    pristine = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    first, second = Direction(1), Direction(2)
    with Weights(model) as weights:
        for alpha, beta in ((0.4, -0.4), (-0.1, 0.2), (0.3, 0.5)):
            weights.move_to(Parallel(first, second, beta), alpha)
        for name, parameter in model.named_parameters():
            if "norm" in name:
                assert torch.equal(parameter, pristine[name])
                continue
            steps = [noise(way, name, pristine[name], at) for way, at in ((first, 0.3), (second, 0.5))]
            assert torch.equal(parameter, (pristine[name].double() + steps[0] + steps[1]).to(dtype)), name
    assert all(torch.equal(parameter, pristine[name]) for name, parameter in model.named_parameters())


def test_two_rounded_steps_after_another_are_not_the_point(build_model: Build) -> None:
    model = build_model(dtype=torch.bfloat16).model
    with perturbed(model, Parallel(Direction(1), Direction(2), 0.2), 0.3):
        once = bits(model)
    with perturbed(model, Direction(1), 0.3), perturbed(model, Direction(2), 0.2):
        twice = bits(model)
    assert not all(torch.equal(once[name], twice[name]) for name in once)


def test_a_random_direction_beside_a_checkpoint_leaves_norm_layers_to_it(build_model: Build) -> None:
    model, target = build_model().model, build_model(seed=1).model
    with torch.no_grad():
        target.model.norm.weight.mul_(2)
    norm, before = model.model.norm.weight.detach().clone(), fingerprint(model)
    with perturbed(model, Parallel(difference(model, target), Direction(0), 0.3), 0.5):
        assert torch.equal(model.model.norm.weight, norm * 1.5)
    assert fingerprint(model) == before


LENGTH = 300
BEGIN = torch.randn(LENGTH, generator=torch.Generator().manual_seed(1))
ENDS = [torch.randn(LENGTH, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3)]
TO = [CheckpointDirection(str(i), 1.0, {"w": end}) for i, end in enumerate(ENDS)]
WAYS: list[AnyDirection] = [
    Parallel(Direction(0), Direction(1), -0.3),
    Parallel(TO[0], Direction(1), 0.7),
    Parallel(TO[0], Orthogonal(*TO, ratio=0.4, scale=1.1), 0.7),
    Orthogonal(*TO, ratio=0.4, scale=1.1),
]


@given(
    way=st.sampled_from(WAYS),
    alpha=st.floats(-2, 2),
    start=st.integers(0, LENGTH - 1),
    length=st.integers(1, LENGTH),
    piece=st.sampled_from([7, 64, 1 << 22]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_a_piece_moves_as_the_whole_does(
    way: AnyDirection, alpha: float, start: int, length: int, piece: int, dtype: torch.dtype
) -> None:
    begin = BEGIN.to(dtype)
    step = way.step(Weight("w", (LENGTH,), str(dtype), 17.0, False), alpha, CPU, dtype)
    whole, part = torch.empty(LENGTH, dtype=dtype), begin[start : start + length].clone()
    step(whole, begin, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("safety_tasks.parallel._PIECE", piece)
        step(part, part, start)
    assert torch.equal(whole[start : start + length], part)


# -- eq. 4 -------------------------------------------------------------------------------------------------------------


def flat(model: torch.nn.Module) -> Any:
    return np.concatenate([parameter.detach().double().numpy().ravel() for parameter in model.parameters()])


def test_the_second_axis_is_gram_schmidts_and_as_long_as_the_first(build_model: Build) -> None:
    model, one, other = (build_model(seed=seed).model for seed in (0, 1, 2))
    begin, d1, d2 = flat(model), flat(one) - flat(model), flat(other) - flat(model)
    wanted = d2 - (d1 @ d2) / (d1 @ d1) * d1
    wanted *= np.linalg.norm(d1) / np.linalg.norm(wanted)
    axis = orthogonal(model, difference(model, one), difference(model, other))
    with perturbed(model, axis, 1.0):
        moved = flat(model) - begin
    assert moved == pytest.approx(wanted, abs=1e-6)
    assert abs(moved @ d1) / (d1 @ d1) < 1e-6
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(d1), rel=1e-6)
    assert abs(d1 @ d2) / (d1 @ d1) > 0.4, "two targets of one model are far from orthogonal, so eq. 4 does something"


def test_both_targets_lie_in_the_plane(build_model: Build) -> None:
    model, one, other = (build_model(seed=seed).model for seed in (0, 1, 2))
    first = difference(model, one)
    axis = orthogonal(model, first, difference(model, other))
    alpha, beta = axis.place
    with perturbed(model, Parallel(first, axis, beta), alpha):
        assert flat(model) == pytest.approx(flat(other), abs=1e-6)
    with perturbed(model, first, 1.0):
        assert fingerprint(model) == fingerprint(one)
    assert axis.facts()["place"] == [alpha, beta] and json.dumps(axis.identity())


def test_targets_on_one_line_with_the_model_span_no_plane(build_model: Build) -> None:
    model, one = build_model().model, build_model(seed=1).model
    other = build_model(seed=1).model
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            begin = dict(model.named_parameters())[name]
            parameter.copy_(begin + 2 * (parameter - begin))
    with pytest.raises(InvalidModel, match="lie on one line"):
        orthogonal(model, difference(model, one), difference(model, other))


def test_named_targets_are_made_once_and_random_directions_stay(build_model: Build) -> None:
    class Guide:
        def __init__(self) -> None:
            self.model = build_model().model
            self.targets = {str(seed): difference(self.model, build_model(seed=seed).model) for seed in (1, 2)}

        def direction_to(self, target: str) -> CheckpointDirection:
            return self.targets[target]

        def orthogonal(self, first: CheckpointDirection, second: CheckpointDirection) -> Orthogonal:
            return orthogonal(self.model, first, second)

    settings = Settings(plane="interpolation", target="1", second_target="2", plane_points=3)
    guide = Guide()
    made = points_made(guide, [*plane_points(settings), *grid(Settings(points=3))])
    assert set(made) == set(plane_points(settings)) - {ORIGIN}
    assert made[Point(Toward("1"), 1.0)] == Point(guide.targets["1"], 1.0)
    beside = made[Point(Toward("2", beside="1"), 1.0)].direction
    assert isinstance(beside, Orthogonal) and beside.second == guide.targets["2"]
    assert points_made(object(), plane_points(settings)) == {}, "an engine that leads nowhere keeps the names"


# -- measured ----------------------------------------------------------------------------------------------------------


def test_the_axes_of_a_measured_plane_are_read_back_by_the_lines_and_equal_them() -> None:
    plane = measure_plane("tiny-aligned", plane_points=3, **FEW)
    lines = measure_landscape("tiny-aligned", points=3, directions=2, **FEW)
    assert plane.facts["read_from_journal"] == 0 and lines.facts["read_from_journal"] >= 5
    assert (plane.verdicts[:, 1] == lines.verdicts[0]).all() and (plane.verdicts[1] == lines.verdicts[1]).all()
    assert plane.asr().shape == (3, 3) and plane.asr_at_origin().value == lines.asr_at_origin().value


def test_an_interpolation_beside_a_random_direction_holds_the_target() -> None:
    settings = dict(plane="interpolation-random", target="tiny-finetuned", plane_points=3, **FEW)
    plane = measure_plane("tiny-aligned", **settings)
    tuned = measure_landscape("tiny-finetuned", points=3, directions=1, **FEW)
    at = plane.alphas.index(1.0), plane.betas.index(0.0)
    assert (plane.verdicts[at] == tuned.verdicts[0, tuned.origin]).all()
    assert plane.targets() == [("tiny-finetuned", 1.0, 0.0)] and plane.betas == (-0.5, 0.0, 0.5)
    assert "plane_visage" not in [score.name for score in plane.scores()]
    json.dumps(plane.to_dict())


def test_a_plane_of_two_targets_places_the_second(build_model: Build, tmp_path: Any) -> None:
    (model, tokenizer), names = build_model(), []
    for seed in (1, 2):
        names.append(str(tmp_path / str(seed)))
        build_model(seed=seed).model.save_pretrained(names[-1])
        tokenizer.save_pretrained(names[-1])
    before = fingerprint(model)
    plane = measure_plane(
        (model, tokenizer), plane="interpolation", target=names[0], second_target=names[1], plane_points=3, **FEW
    )
    assert fingerprint(model) == before
    (_, *first), (_, *second) = plane.targets()
    axis = orthogonal(model, *(difference(model, build_model(seed=seed).model) for seed in (1, 2)))
    assert first == [1.0, 0.0] and second == pytest.approx(axis.place)


# -- scores ------------------------------------------------------------------------------------------------------------

PROMPTS = 60


def plane_of(answered: Any) -> Plane:
    """A plane whose points answer these shares of 60 prompts."""
    counts = np.round(np.asarray(answered, dtype=float) * PROMPTS).astype(int)
    verdicts = (np.arange(PROMPTS) < counts[..., None]).astype(np.int8)
    a, b = (tuple(float(i - n // 2) / 10 for i in range(n)) for n in counts.shape)
    ids = tuple(f"p{i}" for i in range(PROMPTS))
    return Plane(a, b, verdicts, np.ones(verdicts.shape, dtype=bool), ids, ids, Settings(judge="refusal"))


def square(n: int, inside: Callable[[int, int], bool]) -> Plane:
    half = n // 2
    return plane_of([[0.0 if inside(i - half, j - half) else 1.0 for j in range(n)] for i in range(n)])


def test_the_area_counts_squares_by_their_corners() -> None:
    area = square(5, lambda a, b: abs(a) <= 1 and abs(b) <= 1).basin_area()
    # of 16 squares 4 lie inside, 8 have two corners inside and 4 have one
    assert area.value == pytest.approx((4 + 8 / 2 + 4 / 4) / 16)
    assert (area.low, area.high) == (4 / 16, 1.0)


def test_only_what_is_joined_to_the_origin_is_basin() -> None:
    joined = square(7, lambda a, b: abs(a) <= 1 and abs(b) <= 1)
    island = square(7, lambda a, b: (abs(a) <= 1 and abs(b) <= 1) or (a, b) == (3, 3))
    assert island.basin_area().value == joined.basin_area().value
    corner = square(7, lambda a, b: (a, b) in ((0, 0), (1, 1)))
    assert corner.basin_area().value == square(7, lambda a, b: (a, b) == (0, 0)).basin_area().value


def test_an_origin_beyond_the_tolerance_has_no_basin_and_a_whole_plane_is_no_certainty() -> None:
    none = square(5, lambda a, b: (a, b) != (0, 0)).basin_area()
    assert none.value == none.low == 0 and none.high > 0
    whole = square(5, lambda a, b: True).basin_area()
    assert whole.value == whole.high == 1 and whole.low == 1 - 1 / 16 and whole.stderr > 0


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.6, 1.0]), min_size=5, max_size=5), min_size=5, max_size=5)
)
def test_bounds_hold_the_value(answered: list[list[float]]) -> None:
    area = plane_of(answered).basin_area()
    assert 0 <= area.low <= area.value <= area.high <= 1 and area.high - area.low >= 1 / 16


def test_means_over_the_plane_are_plain_means() -> None:
    plane = square(5, lambda a, b: abs(a) + abs(b) <= 1)
    assert plane.plane_mean_safety().value == pytest.approx(5 / 25)
    visage = plane.plane_visage()
    assert visage is not None and visage.value == 1 and visage.low < 1
    assert [score.name for score in plane.scores()] == [
        "plane_visage",
        "basin_area",
        "plane_mean_safety",
        "asr_at_origin",
    ]
