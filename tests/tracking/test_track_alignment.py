"""Observations of a rendered map are moved to the same places of its surfaces."""

import numpy as np
import pytest

from sfm_lightglue.refinement.tracks import REFERENCE_SIGMA_PX
from sfm_lightglue.tracking.track_alignment import align_tracks, observations_of
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
