"""Observations of a rendered map are moved to the same places of its surfaces."""

import numpy as np
import pytest

from sfm_lightglue.refinement.tracks import REFERENCE_SIGMA_PX
from sfm_lightglue.tracking.compact_image import CompactImage
from sfm_lightglue.tracking.track_alignment import align_tracks, observations_of
from sfm_lightglue.types import Camera
from tests.helpers.rendered_map import rendered_map

NOISE_PX = 0.5


def aligned(slam_map, num_threads=1):
    idxs = slam_map.members(0)
    seen = observations_of(slam_map, idxs)
    return seen, align_tracks(slam_map, seen, [slam_map.keyframes[idx].image for idx in idxs], num_threads)


def test_the_observations_of_a_map_are_those_of_its_tracks():
    slam_map = rendered_map(NOISE_PX, max_track=3)
    idxs = slam_map.members(0)
    seen = observations_of(slam_map, idxs)
    point_ids = slam_map.points_of(idxs)
    assert seen.point_ids == tuple(point_ids.tolist())
    assert np.array_equal(seen.positions, slam_map.xyz(point_ids))
    assert len(seen) == slam_map.num_observations(point_ids).sum()
    for row in range(0, len(seen), 97):
        idx, keypoint = idxs[seen.images[row]], int(seen.keypoints[row])
        assert slam_map.track(seen.point_ids[seen.points[row]])[idx] == keypoint
        assert np.array_equal(slam_map.keyframes[idx].keypoints[keypoint], seen.xy[row])


@pytest.mark.parametrize("max_image_size", [1280, 300], ids=["as stored", "shrunk"])
def test_observations_move_to_the_same_place_of_the_surface(max_image_size):
    seen, found = aligned(rendered_map(NOISE_PX, max_image_size=max_image_size))
    exact = observations_of(rendered_map(), range(4)).xy
    assert found.is_aligned.mean() > 0.25
    used = np.isin(seen.points, seen.points[found.is_aligned]) & (found.is_aligned | is_reference(found))
    before, after = (mutual_errors(seen.points[used], (xy - exact)[used]) for xy in (seen.xy, found.pixels))
    assert np.median(after) < 0.35 * np.median(before)


def mutual_errors(points, errors):
    """Distances [N] of the errors [N, 2] from the mean error of the other observations of their points [N].

    The patch of one of them defines the point, so that an error that all have in common is none.
    """
    counts = np.bincount(points)[points]
    sums = np.stack([np.bincount(points, axis)[points] for axis in errors.T], axis=1)
    others = (sums - errors) / (counts - 1)[:, None]
    return np.linalg.norm(errors - others, axis=1)


def is_reference(found):
    """Which observations others are aligned with."""
    return ~found.is_aligned & (found.sigmas_px < 1.5 * REFERENCE_SIGMA_PX)


def test_what_is_not_aligned_stays_and_counts_as_inexact():
    seen, found = aligned(rendered_map(NOISE_PX))
    stays = ~found.is_aligned
    assert np.array_equal(found.pixels[stays], seen.xy[stays])
    assert np.array_equal(np.unique(seen.points[is_reference(found)]), np.unique(seen.points[found.is_aligned]))
    rest = found.sigmas_px[stays & ~is_reference(found)]
    assert len(np.unique(rest)) == 1
    assert rest[0] > 2 * np.median(found.sigmas_px[found.is_aligned])


def test_two_threads_give_the_same_bytes():
    one, two = (aligned(rendered_map(NOISE_PX), number)[1] for number in (1, 2))
    assert one.pixels.tobytes() == two.pixels.tobytes()
    assert one.sigmas_px.tobytes() == two.sigmas_px.tobytes()


def test_pixels_of_larger_images_count_by_their_size():
    small, large = rendered_map(NOISE_PX), rendered_map(NOISE_PX)
    width, height = large.camera.size
    params = tuple(4 * value for value in large.camera.params)
    large.camera = Camera(large.camera.model, 4 * width, 4 * height, params)  # without distortion
    for keyframe in large.keyframes.values():
        keyframe.keypoints = 4 * keyframe.keypoints
        keyframe.image = CompactImage(keyframe.image.data, (4.0, 4.0))
    _, of_small = aligned(small)
    _, of_large = aligned(large)
    both = of_small.is_aligned & of_large.is_aligned
    assert both.sum() > 0.99 * of_small.is_aligned.sum()
    assert np.median(of_large.sigmas_px[both] / of_small.sigmas_px[both]) == pytest.approx(4, rel=1e-3)
    rest = ~of_large.is_aligned & ~is_reference(of_small) & ~of_small.is_aligned
    assert np.allclose(of_large.sigmas_px[rest], 2 * of_small.sigmas_px[rest]), "1280 px are twice 640 px"


def test_nothing_is_aligned_in_a_keyframe_whose_image_is_damaged():
    slam_map = rendered_map(NOISE_PX)
    slam_map.keyframes[0].image = CompactImage(b"no JPEG", (1.0, 1.0))
    seen, found = aligned(slam_map)
    assert found.is_aligned.sum() > 100
    assert not found.is_aligned[seen.of(0)].any()
    of_damaged = np.zeros(len(seen), np.bool_)
    of_damaged[seen.of(0)] = True
    assert not (is_reference(found) & of_damaged).any()


def test_a_point_that_no_keyframe_sees_from_the_front_is_left_out():
    slam_map = rendered_map(NOISE_PX)
    point_id = slam_map.points_of([0])[0]
    center, forward = slam_map.keyframes[0].cam_from_world.center, slam_map.keyframes[0].cam_from_world.R[2]
    slam_map.place({}, [point_id], center - 100 * forward)
    seen, found = aligned(slam_map)
    assert found.is_aligned.sum() > 100
    assert not found.is_aligned[seen.points == seen.point_ids.index(point_id)].any()
