"""Labels of keypoints follow reprojection, and are those of the slow code for one pair in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.visibility import DepthViews, depths_at, overlaps
from sfm_lightglue.training.data.labelled_scenes import IGNORED, MATCHED, UNMATCHABLE
from sfm_lightglue.training.data.labels import LabelConfig, PairStates, SeenKeypoints, label_pairs
from tests.helpers import label_reference as reference

FEW_SCALES = np.full(6, 5, np.float32)


def camera_at(x: float, y: float = 0.0, z: float = 0.0, focal_px: float = 300.0) -> PosedCamera:
    return PosedCamera(focal_px, (320, 240), Rigid3(np.eye(3), -np.array([x, y, z])))


def random_view(rng: np.random.Generator, size: tuple[int, int]) -> PosedCamera:
    pose = Rigid3.from_rotvec(rng.normal(size=3) * 0.08, rng.normal(size=3) * 0.4)
    return PosedCamera(float(size[0] * rng.uniform(0.7, 1.4)), size, pose)


def plane_depths(camera: PosedCamera, planes: list[np.ndarray]) -> np.ndarray:
    """Depths of rectangles [low (x, y), high (x, y), z, dz/dx] in the world, 0 where none is visible."""
    width, height = camera.size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(x - width / 2) / camera.focal_px, (y - height / 2) / camera.focal_px, np.ones_like(x)], -1)
    rays = rays @ camera.cam_from_world.R
    center = camera.cam_from_world.center
    nearest = np.full((height, width), np.inf)
    for x0, y0, x1, y1, z, slope in planes:
        along = (z + slope * center[0] - center[2]) / (rays[..., 2] - slope * rays[..., 0])
        hit = center + rays * along[..., None]
        inside = (along > 0.1) & (hit[..., 0] > x0) & (hit[..., 0] < x1) & (hit[..., 1] > y0) & (hit[..., 1] < y1)
        nearest = np.where(inside & (along < nearest), along, nearest)
    return np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)


def random_planes(rng: np.random.Generator) -> list[np.ndarray]:
    """A wall, and sheets before it."""
    sheets = []
    for _ in range(5):
        low = rng.uniform(-3, 2, 2)
        sheets.append(np.array([*low, *(low + rng.uniform(0.5, 2, 2)), rng.uniform(3, 6), rng.uniform(-0.5, 0.5)]))
    return [np.array([-7.0, -5, 6, 5, 8, 0.1]), *sheets]


def seen_of(views: list[reference.SeenKeypoints], has_scale: bool = True) -> SeenKeypoints:
    counts = [len(view.keypoints) for view in views]
    keypoints, scales = torch.zeros(len(views), max(*counts, 1), 2), torch.zeros(len(views), max(*counts, 1))
    for k, view in enumerate(views):
        keypoints[k, : counts[k]] = torch.from_numpy(view.keypoints)
        scales[k, : counts[k]] = torch.from_numpy(view.scales)
    depths = DepthViews.of([torch.from_numpy(view.depth) for view in views], [view.camera for view in views])
    return SeenKeypoints(depths, keypoints, torch.tensor(counts), scales if has_scale else None)


def matches_of(found: PairStates, pair: int) -> np.ndarray:
    partners = found.partners[pair].numpy()
    rows = np.flatnonzero(partners >= 0)
    return np.stack([rows, partners[rows]], 1)


def label_pair(
    view0: reference.SeenKeypoints, view1: reference.SeenKeypoints, has_scale: bool = True
) -> tuple[list[list[int]], list[int], list[int]]:
    found = label_pairs(seen_of([view0, view1], has_scale), torch.tensor([[0, 1]]), LabelConfig())
    states = [found.states[0, side, : len(view.keypoints)].tolist() for side, view in enumerate((view0, view1))]
    return matches_of(found, 0).tolist(), states[0], states[1]


def random_views(seed: int, sizes: list[tuple[int, int]], num_keypoints: int) -> list[reference.SeenKeypoints]:
    rng = np.random.default_rng(seed)
    planes = random_planes(rng)
    views = []
    for size in sizes:
        camera = random_view(rng, size)
        count = int(num_keypoints * rng.uniform(0.5, 1))
        keypoints = (rng.random((count, 2)) * size).astype(np.float32)
        scales = rng.uniform(3, 9, count).astype(np.float32)
        views.append(reference.SeenKeypoints(keypoints, scales, plane_depths(camera, planes), camera))
    return views


@pytest.mark.parametrize("seed", range(4))
def test_batched_labels_are_those_of_single_pairs(seed):
    """Views of several sizes and numbers of keypoints in one batch; no distance is within 1e-3 px of a limit."""
    views = random_views(seed, [(320, 240), (240, 320), (320, 200)], 700)
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2], [2, 1]])
    seen = seen_of(views)
    found, shares = label_pairs(seen, pairs, LabelConfig()), overlaps(seen.views, pairs, step=8)
    num_matches, num_states = 0, np.zeros(3, int)
    for row, (idx0, idx1) in enumerate(pairs.tolist()):
        matches, *states = reference.label_pair(views[idx0], views[idx1], LabelConfig())
        assert np.array_equal(matches_of(found, row), matches)
        for side, state in enumerate(states):
            assert np.array_equal(found.states[row, side, : len(state)].numpy(), state)
            assert (found.states[row, side, len(state) :] == IGNORED).all(), "padding has a label"
            num_states += np.bincount(state, minlength=3)
        numbers = [(view.depth, view.camera) for view in (views[idx0], views[idx1])]
        assert abs(shares[row] - reference.shared_view(*numbers[0], *numbers[1], step=8)) < 1e-9
        num_matches += len(matches)
    assert num_matches > 100 and (num_states > 100).all()


def test_depths_between_pixels_are_those_of_single_views():
    views = random_views(7, [(320, 240), (240, 320)], 500)
    seen = seen_of(views)
    depths, uncertain = depths_at(seen.views, seen.keypoints)
    for k, view in enumerate(views):
        count = len(view.keypoints)
        expected_depths, expected_uncertain = reference.depths_at(view.depth, view.keypoints)
        np.testing.assert_allclose(depths[k, :count], expected_depths, rtol=1e-9)
        assert np.array_equal(uncertain[k, :count].numpy(), expected_uncertain)
        assert 0 < expected_uncertain.sum() < count / 2


def test_ties_go_to_the_first_keypoint():
    """Keypoints at equal distance: the first of view 1 for one of view 0, and the first of view 0 for one of view 1."""
    depth = np.full((240, 320), 8.0, np.float32)
    single, double = np.array([[60, 50]], np.float32), np.array([[59, 50], [61, 50]], np.float32)
    one = reference.SeenKeypoints(single, FEW_SCALES[:1], depth, camera_at(0))
    two = reference.SeenKeypoints(double, FEW_SCALES[:2], depth, camera_at(0))
    assert label_pair(one, two)[0] == [[0, 0]]
    assert label_pair(two, one)[0] == [[0, 0]]


def two_planes() -> tuple[np.ndarray, PosedCamera, np.ndarray, PosedCamera]:
    """A wall at 8 m and a sheet at 4 m that occludes a part of it; the second camera is 0.4 m to the right."""
    planes = [np.array([-8.0, -6, 8, 6, 8, 0]), np.array([-0.5, -1, 1, 1, 4, 0])]
    camera0, camera1 = camera_at(0), camera_at(0.4)
    return plane_depths(camera0, planes), camera0, plane_depths(camera1, planes), camera1


def test_labels_of_two_planes_follow_their_disparities():
    """Disparity f b / z: 300 * 0.4 / 8 = 15 px for the wall, 30 px for the sheet; occluded points are unmatchable."""
    depth0, camera0, depth1, camera1 = two_planes()
    assert set(np.unique(depth0.round(4))) == {4.0, 8.0}
    # The sheet spans x = 122.5 to 235 in view 0 and 92.5 to 205 in view 1. In view 1, its left part occludes the
    # wall that view 0 shows at 107.5 to 122.5.
    keypoints0 = np.array([[60, 50], [150, 100], [115, 120], [10, 60], [250, 30], [180, 60]], np.float32)
    keypoints1 = np.array([[45, 50], [120, 101], [100, 120], [310, 10], [238.9, 30], [152.9, 62.5]], np.float32)
    view0 = reference.SeenKeypoints(keypoints0, FEW_SCALES, depth0, camera0)
    view1 = reference.SeenKeypoints(keypoints1, FEW_SCALES, depth1, camera1)
    for has_scale in (True, False):
        matches, state0, state1 = label_pair(view0, view1, has_scale)
        assert matches == [[0, 0], [1, 1]]
        # 2 is occluded, 3 outside; errors of 3.9 and 3.8 px at 4 and 5 are too large for a match, and too small for
        # an unmatchable point.
        assert state0 == [MATCHED, MATCHED, UNMATCHABLE, UNMATCHABLE, IGNORED, IGNORED]
        # In view 1, keypoint 2 shows a part of the sheet without keypoint in view 0; 3 is at x = 325 in view 0:
        # outside.
        assert state1 == [MATCHED, MATCHED, UNMATCHABLE, UNMATCHABLE, IGNORED, IGNORED]


def test_keypoints_of_different_scales_do_not_match():
    """Features without scale match all the same."""
    depth0, camera0, depth1, camera1 = two_planes()
    keypoints0, keypoints1 = np.array([[60, 50]], np.float32), np.array([[45, 50]], np.float32)
    for factor, num_matches in ((1.0, 1), (1.9, 1), (2.1, 0), (0.4, 0)):
        view0 = reference.SeenKeypoints(keypoints0, np.array([6], np.float32), depth0, camera0)
        view1 = reference.SeenKeypoints(keypoints1, np.array([6 * factor], np.float32), depth1, camera1)
        matches, state0, _ = label_pair(view0, view1)
        assert len(matches) == num_matches
        assert state0 == [MATCHED if num_matches else IGNORED]
        assert len(label_pair(view0, view1, has_scale=False)[0]) == 1


def test_labels_of_swapped_views_are_swapped():
    views = random_views(5, [(320, 240), (320, 240)], 800)
    matches, state0, state1 = label_pair(views[0], views[1])
    back, back1, back0 = label_pair(views[1], views[0])
    assert len(matches) > 10
    assert sorted(matches) == sorted([i, j] for j, i in back)
    assert state0 == back0 and state1 == back1


def test_no_keypoints_give_no_labels():
    depth0, camera0, depth1, camera1 = two_planes()
    none = reference.SeenKeypoints(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), depth0, camera0)
    one = reference.SeenKeypoints(np.array([[60, 50]], np.float32), np.ones(1, np.float32), depth1, camera1)
    for first, second in ((none, one), (one, none), (none, none)):
        matches, state0, state1 = label_pair(first, second)
        assert matches == [] and (len(state0), len(state1)) == (len(first.keypoints), len(second.keypoints))
        assert MATCHED not in state0
    nothing = label_pairs(seen_of([one, one]), torch.zeros(0, 2, dtype=torch.int64), LabelConfig())
    assert nothing.partners.shape == (0, 1) and nothing.states.shape == (0, 2, 1)


def test_overlap_is_the_fraction_that_both_see():
    wall = [np.array([-8.0, -6, 8, 6, 8, 0])]
    shifts = (0.0, 4.0, 20.0)
    cameras = [camera_at(0), *map(camera_at, shifts)]
    depths = [torch.from_numpy(plane_depths(camera, wall)) for camera in cameras]
    found = overlaps(DepthViews.of(depths, cameras), torch.tensor([[0, 1], [2, 0], [0, 3]]))
    # The camera moves by 4 m * 300 px / 8 m = 150 px.
    np.testing.assert_allclose(found, [1.0, 1 - 150 / 320, 0.0], atol=0.06)


def test_wrong_limits_are_refused():
    with pytest.raises(ConfigError):
        LabelConfig(max_error_px=6)
    with pytest.raises(ConfigError):
        LabelConfig(max_scale_ratio=1.0)
