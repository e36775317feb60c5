"""Image pairs that are matched again along their epipolar lines."""

import numpy as np
import PIL.Image  # noqa: F401  # before pycolmap
import pycolmap
import pytest

from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.mapping.dense_pairs import (
    has_all_partners,
    pairs_to_match,
    pairs_with_common_surface,
    ranked_partners,
)
from sfm_lightglue.mapping.density_config import DensityConfig
from tests.helpers.dense_models import model_of


def wall(z, num=120, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-2, 2, (num, 2)), np.full((num, 1), z)], axis=1)


def pose(x=0.0, y=0.0, z=0.0, turn_deg=0.0):
    R = rotation_from_rotvec(np.array([0.0, np.radians(turn_deg), 0.0]))
    return R, -R @ [x, y, z]


EVERYTHING = DensityConfig(min_shared_points=15, min_pair_angle_deg=1.5)


def test_images_with_common_points_and_parallax_are_pairs():
    model = model_of(wall(5.0), [pose(0), pose(0.5), pose(1.0)])
    assert pairs_with_common_surface(model, [1, 2, 3], EVERYTHING) == [(0, 1), (0, 2), (1, 2)]


def test_narrow_baselines_are_pairs_of_the_level_dense_only():
    model = model_of(wall(5.0), [pose(0), pose(0.08), pose(1.0)])  # about one degree
    assert (0, 1) not in pairs_with_common_surface(model, [1, 2, 3], EVERYTHING)
    assert (0, 1) in pairs_with_common_surface(model, [1, 2, 3], DensityConfig(level="dense"))
    best = pairs_with_common_surface(model, [1, 2, 3], EVERYTHING, max_partners=1)
    assert best == [(0, 2), (1, 2)]  # pairs without parallax take no place


def test_images_without_common_points_that_are_predicted_to_see_the_same_are_pairs():
    points = wall(5.0)
    seen = [np.arange(0, 60), np.arange(0, 120), np.arange(60, 120)]  # the first and the last share nothing
    model = model_of(points, [pose(0), pose(0.5), pose(1.0)], seen)
    assert (0, 2) in pairs_with_common_surface(model, [1, 2, 3], EVERYTHING)


def test_predictions_can_be_left_out_where_images_have_enough_partners():
    seen = [np.arange(0, 60), np.arange(40, 80), np.arange(60, 120), np.arange(40, 80)]  # 0 and 2 share nothing
    model = model_of(wall(5.0), [pose(0), pose(0.5), pose(1.0), pose(1.5)], seen)
    config = DensityConfig(max_matched_partners=1)
    for max_partners, predicts_all, is_there in ((3, True, True), (3, False, True), (2, True, True), (2, False, False)):
        found = pairs_with_common_surface(
            model, [1, 2, 3, 4], config, None, max_partners, ThreadExecutor(2), predicts_all
        )
        assert ((0, 2) in found) == is_there


def test_predicted_pairs_come_after_those_with_common_points():
    seen = [np.arange(0, 60), np.arange(40, 80), np.arange(60, 120)]  # three times as many are predicted for 0 and 2
    model = model_of(wall(5.0), [pose(0), pose(0.5), pose(1.0)], seen)
    ranked = ranked_partners(model, [1, 2, 3], EVERYTHING)
    assert ranked[0] == [(0, 1), (0, 2)] and ranked[2] == [(1, 2), (0, 2)]
    assert pairs_to_match(ranked, 1) == [(0, 1), (1, 2)]
    assert pairs_with_common_surface(model, [1, 2, 3], EVERYTHING, max_partners=1) == [(0, 1), (1, 2)]


def test_half_of_the_partners_that_are_matched_are_wide():
    seen = [np.arange(0, num) for num in (120, 100, 80, 60)]
    model = model_of(wall(5.0), [pose(0), pose(0.2), pose(0.4), pose(0.6)], seen)  # two degrees a step
    ranked = ranked_partners(model, [1, 2, 3, 4], DensityConfig(max_matched_partners=2))
    assert ranked[0] == [(0, 2), (0, 1), (0, 3)]
    assert ranked_partners(model, [1, 2, 3, 4], DensityConfig(min_point_angle_deg=20.0))[0] == [(0, 3), (0, 2), (0, 1)]


def test_points_behind_what_an_image_sees_are_no_common_surface():
    near, far = wall(3.0), wall(12.0, seed=1)
    points = np.concatenate([near, far])
    # The third camera stands behind the near wall; it sees the far wall only, and the first one the near wall only.
    seen = [np.arange(0, 120), np.arange(0, 240), np.arange(120, 240)]
    model = model_of(points, [pose(0), pose(0.5), pose(0.3, z=3.5)], seen)
    assert (0, 2) not in pairs_with_common_surface(model, [1, 2, 3], EVERYTHING)


@pytest.mark.parametrize("max_partners", [1, 2])
def test_each_image_keeps_the_best_partners(max_partners):
    model = model_of(wall(5.0), [pose(0.5 * i) for i in range(6)])
    pairs = pairs_with_common_surface(model, [1, 2, 3, 4, 5, 6], DensityConfig(max_partners=max_partners))
    assert len(pairs) <= 6 * max_partners
    assert {image for pair in pairs for image in pair} == set(range(6))


def test_a_model_without_points_has_no_pairs():
    model = model_of(np.zeros((0, 3)), [pose(0), pose(1)])
    assert pairs_with_common_surface(model, [1, 2], EVERYTHING) == []
    assert isinstance(model, pycolmap.Reconstruction)


def test_pairs_of_some_images_are_those_of_their_best_partners():
    model = model_of(wall(5.0), [pose(0.5 * i) for i in range(6)])
    ids = [1, 2, 3, 4, 5, 6]
    everything = pairs_with_common_surface(model, ids, EVERYTHING)
    assert pairs_with_common_surface(model, ids, EVERYTHING, [1, 4]) == [p for p in everything if {1, 4} & {*p}]
    best = pairs_with_common_surface(model, ids, EVERYTHING, [4], 2)
    assert len(best) == 2 and set(best) <= set(everything) and all(4 in pair for pair in best)
    numbers = {pair: len(np.intersect1d(*(point_ids(model, ids[row]) for row in pair))) for pair in everything}
    assert min(numbers[pair] for pair in best) == sorted(num for pair, num in numbers.items() if 4 in pair)[-2]
    assert pairs_with_common_surface(model, ids, EVERYTHING, []) == []


def test_each_image_chooses_a_few_partners_and_keeps_those_it_has():
    model = model_of(wall(5.0), [pose(0.5 * i) for i in range(6)])
    ranked = ranked_partners(model, [1, 2, 3, 4, 5, 6], EVERYTHING)
    assert sorted({pair for pairs in ranked for pair in pairs}) == pairs_with_common_surface(
        model, [1, 2, 3, 4, 5, 6], EVERYTHING
    )
    pairs = pairs_to_match(ranked, 2)
    assert {pair for best in ranked for pair in best[:2]} == set(pairs) and pairs == sorted(pairs)
    assert has_all_partners(pairs, 6, 2) and not has_all_partners(pairs, 7, 2) and not has_all_partners([], 6, 1)
    last = [best[-1] for best in ranked]  # matched before, though not the best
    assert pairs_to_match(ranked, 1, last) == sorted({*last})
    assert pairs_to_match([], 3) == []


def test_pairs_that_failed_are_no_partners_and_are_not_matched_again():
    ranked = [[(0, 1), (0, 2), (0, 3)], [(0, 1), (1, 2)], [(0, 2), (1, 2)], [(0, 3)]]
    first = pairs_to_match(ranked, 1)
    assert first == [(0, 1), (0, 2), (0, 3)]
    assert pairs_to_match(ranked, 1, first) == first
    assert pairs_to_match(ranked, 1, first, failed={(0, 1)}) == sorted([*first, (1, 2)])


def point_ids(model, image_id):
    return [point.point3D_id for point in model.images[image_id].get_observation_points2D()]
