"""Levels of detail: every beginning of the order is spread over the cloud; their number follows the time of a frame."""

import numpy as np
import pytest

from sfm_lightglue.viewer import levels

POINTS = np.concatenate(
    [
        np.random.default_rng(0).uniform(-1, 1, (4000, 3)),
        np.random.default_rng(1).normal(0.5, 0.001, (4000, 3)),  # half of the points in one corner
    ]
).astype(np.float32)


def voxels(points: np.ndarray, level: int) -> set[int]:
    return {*(levels.morton_codes(points) >> np.uint32(3 * (levels.NUM_LEVELS - level))).tolist()}


def test_the_order_is_a_permutation_and_repeats():
    order = levels.octree_order(POINTS)
    assert sorted(order.tolist()) == list(range(len(POINTS)))
    np.testing.assert_array_equal(order, levels.octree_order(POINTS.copy()))
    assert levels.octree_order(POINTS[:0]).tolist() == []
    assert levels.octree_order(POINTS[:1]).tolist() == [0]
    assert sorted(levels.octree_order(np.zeros((5, 3), np.float32)).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_the_first_points_hit_every_voxel_of_a_level_once(level):
    codes = levels.morton_codes(POINTS) >> np.uint32(3 * (levels.NUM_LEVELS - level))
    occupied = {*codes.tolist()}
    first = levels.octree_order(POINTS)[: len(occupied)]
    assert {*codes[first].tolist()} == occupied


def test_a_dense_corner_does_not_fill_the_first_points():
    first = levels.octree_order(POINTS)[:1000]
    assert (first >= 4000).mean() < 0.1


def test_codes_of_the_curve_have_the_bits_of_the_axes_in_turn():
    cells = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (1023, 1023, 1023)], np.float32)
    assert levels.morton_codes(cells * 1024 / 1023).tolist() == [0, 1, 2, 4, 8, 2**30 - 1]


def test_moving_points_are_half_from_everywhere_and_half_from_the_view():
    order = levels.octree_order(POINTS)
    is_in_view = POINTS[:, 0] > 0.8
    rows = levels.moving_rows(order, is_in_view, 800)
    assert len({*rows.tolist()}) == len(rows) <= 800
    assert {*order[:400].tolist()} <= {*rows.tolist()} and len(rows) > 500
    assert rows[:200:2].tolist() == order[:100].tolist() and is_in_view[rows[1:200:2]].all()
    assert levels.moving_rows(order, is_in_view, 10**6).tolist() == order.tolist()


@pytest.mark.parametrize("s_per_point", [1e-7, 2e-6, 5e-5])
def test_the_number_of_points_comes_to_rest_at_the_time_of_a_frame(s_per_point):
    number, seen = 100_000, []
    for _ in range(40):
        number = levels.next_number(number, 0.004 + number * s_per_point, 5_000_000)
        seen.append(number)
    frame_s = 0.004 + number * s_per_point
    assert seen[-1] == seen[-2]
    assert frame_s <= 1.5 * levels.TARGET_FRAME_S or number == levels.MIN_MOVING_POINTS
    assert frame_s >= 0.6 * levels.TARGET_FRAME_S or number >= 5_000_000


def test_a_movement_begins_with_what_the_view_at_rest_allows_and_never_with_less_than_before():
    assert levels.number_after_rest(100_000, 0.01, 5_000_000) == 5_000_000
    assert levels.number_after_rest(100_000, 0.5, 5_000_000) == 5_000_000 * levels.TARGET_FRAME_S / 0.5
    assert levels.number_after_rest(100_000, 50.0, 5_000_000) == 100_000


def test_parts_cover_a_cloud_once_and_grow():
    for number in (0, 1, 50_000, 50_001, 5_000_000):
        slices = levels.parts(number)
        assert [row for part in slices for row in (part.start, part.stop)][1:-1:2] == [
            part.start for part in slices[1:]
        ]
        assert sum(part.stop - part.start for part in slices) == number
        assert max((part.stop - part.start for part in slices), default=0) <= levels.MAX_PART


def test_thumbnails_are_those_of_the_nearest_cameras_in_front():
    frusta = np.zeros((20, 8, 3), np.float32)
    frusta[..., 2] = np.arange(20)[:, None]
    near = levels.nearest_cameras(frusta, np.array([0.0, 0.0, 4.5]), np.array([0.0, 0.0, 1.0]), 3)
    assert near.tolist() == [5, 6, 7]
    frusta[5, 1:5, 0] = 1.0  # a frustum that begins at 5 and is one unit long
    inside = levels.nearest_cameras(frusta, np.array([0.0, 0.0, 4.5]), np.array([0.0, 0.0, 1.0]), 3)
    assert inside.tolist() == [6, 7, 8], "its photo would cover the view"
    assert levels.nearest_cameras(frusta[:0], np.zeros(3), np.array([0.0, 0.0, 1.0]), 3).tolist() == []


def test_cameras_of_a_moving_view_are_evenly_spaced():
    assert levels.camera_rows(10, 20).tolist() == list(range(10))
    assert levels.camera_rows(5000, 5).tolist() == [0, 1000, 2000, 3000, 4000]
