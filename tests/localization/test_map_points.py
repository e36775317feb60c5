"""The points behind features: observations have their point, features nearby a position on their own ray."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.execution import threads
from sfm_lightglue.execution.threads import num_cores_of_this_thread
from sfm_lightglue.features import Features
from sfm_lightglue.localization.map_points import MapPoints
from sfm_lightglue.localization.matching import collected, match_with_points
from sfm_lightglue.types import Matches
from tests.helpers.exact_scenes import SIZE, make_model, ring_scene


@pytest.fixture(scope="module")
def scene():
    return ring_scene(6, 150)


@pytest.fixture(scope="module")
def points(scene):
    return MapPoints(make_model(scene))


def features_at(keypoints):
    keypoints = np.asarray(keypoints, np.float32)
    num = len(keypoints)
    return Features(keypoints, np.ones(num, np.float32), np.eye(num, 256, dtype=np.float32), SIZE)


def test_features_of_the_model_have_its_points(scene, points):
    rows, pixels = scene.observed["02.jpg"]
    found = points.of("02.jpg", features_at(pixels))
    assert found.has_point.mean() > 0.9
    assert np.allclose(found.xyz[found.has_point], scene.points[rows[found.has_point]])
    assert set(found.point_ids[found.has_point].tolist()) == set(points.observed_ids("02.jpg").tolist())


def test_other_features_lie_on_their_rays(scene, points):
    """As in the model of another tool, whose keypoints are not ours."""
    rows, pixels = scene.observed["03.jpg"]
    apart = [i for i in range(len(pixels)) if np.sort(np.linalg.norm(pixels - pixels[i], axis=1))[1] > 8]
    moved = pixels[apart] + [2.0, 0.5]
    found = MapPoints(points.model).of("03.jpg", features_at([*moved, [1, 1]]))
    assert not found.has_point[-1]
    assert np.isnan(found.xyz[-1]).all()
    has = found.has_point[:-1]
    assert has.mean() > 0.9
    in_cam = points.pose("03.jpg") @ found.xyz[:-1][has]
    assert np.allclose(points.camera("03.jpg").img_from_cam(in_cam), moved[has], atol=1e-3)
    truth = points.pose("03.jpg") @ scene.points[rows[apart]][has]
    assert np.allclose(in_cam[:, 2], truth[:, 2])


class Identical:
    """Matches equal rows, and one row wrongly in the second image."""

    batch_size = 3

    def match_batch(self, pairs):
        found = []
        for number, pair in enumerate(pairs):
            num = min(map(len, pair))
            rows = np.arange(num)
            if number == 1:
                rows = np.roll(rows, 1)
            found.append(Matches(np.stack([rows, np.arange(num)], 1).astype(np.int32), np.full(num, 0.5, np.float32)))
        return found


def test_a_point_is_matched_once(scene, points):
    """Two of three images agree on the keypoint of each point."""
    fresh = MapPoints(points.model)
    common = sorted(set.intersection(*({*fresh.observed_ids(name).tolist()} for name in fresh.names)))
    pixel_of = {
        name: {p.point3D_id: p.xy for p in fresh.model.find_image_with_name(name).points2D} for name in fresh.names
    }
    names = list(fresh.names[:3])
    features = {name: features_at([pixel_of[name][i] for i in common]) for name in names}
    query = features_at(np.random.default_rng(0).uniform(10, 500, (len(common), 2)))
    found = collected(match_with_points(query, [names[0], names[2], names[1]], features, fresh, Identical()))
    assert found.point_ids[np.argsort(found.rows)].tolist() == common
    assert found.num_keypoints == len(common)
    support = found.supporting(np.ones(len(common), np.bool_))
    assert [one.num_inliers for one in support] == [len(common), len(common), 0]
    assert support[-1].name == names[2]


class CountsCores(Identical):
    """Tells how many cores the thread of each batch may use."""

    batch_size = 1

    def __init__(self):
        self.found = []

    def match_batch(self, pairs):
        self.found.append(num_cores_of_this_thread())
        return super().match_batch(pairs)


@pytest.mark.parametrize(("num_pairs", "num_threads", "cores"), [(3, 16, 5), (1, 16, 16), (3, 2, 8)])
def test_few_pairs_share_all_cores(scene, points, monkeypatch, num_pairs, num_threads, cores):
    monkeypatch.setattr(threads, "num_usable_cores", lambda: 16)
    names = list(points.names[:num_pairs])
    features = {name: features_at(scene.observed[name][1]) for name in names}
    matcher = CountsCores()
    match_with_points(features[names[0]], names, features, points, matcher, num_threads)
    assert matcher.found == [cores] * num_pairs
