"""Points get the keypoints that matching left out, where they lie near and look alike, and no others."""

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.execution.executor import SERIAL, ThreadExecutor
from sfm_lightglue.execution.progress import silent
from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.mapping import track_completion
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints
from sfm_lightglue.mapping.dense_tracks import joined_points, triangulate_matches
from sfm_lightglue.mapping.observers import Observers
from sfm_lightglue.mapping.track_completion import TrackCompletion
from sfm_lightglue.two_view.guided import GuidedView

FOCAL_PX = 1000.0
NUM_IMAGES, NUM_POINTS = 5, 60
PAIRS = [(i, j) for i in range(NUM_IMAGES) for j in range(i + 1, NUM_IMAGES)]


class Scene:
    """Cameras on an arc around points; keypoint k of image i shows point k and has the number i * NUM_POINTS + k."""

    def __init__(self, noise_px=0.1):
        rng = np.random.default_rng(0)
        self.xyz = xyz = rng.uniform(-1, 1, (NUM_POINTS, 3)) + np.array([0, 0, 6])
        rotations = [rotation_from_rotvec(np.array([0.0, angle, 0.0])) for angle in np.linspace(-0.3, 0.3, NUM_IMAGES)]
        shifts = [np.array([0, 0, 6.0]) - R @ [0, 0, 6] for R in rotations]
        in_cameras = [xyz @ R.T + t for R, t in zip(rotations, shifts, strict=True)]
        noise = rng.normal(0, noise_px / FOCAL_PX, (NUM_IMAGES, NUM_POINTS, 2))
        self.observers = Observers(
            np.array(rotations),
            np.array(shifts),
            np.full(NUM_IMAGES, FOCAL_PX),
            np.full(NUM_IMAGES, 2.0),
            np.repeat(np.arange(NUM_IMAGES), NUM_POINTS),
            np.concatenate([one[:, :2] / one[:, 2:] for one in in_cameras]) + noise.reshape(-1, 2),
        )
        self.without_descriptors = set()
        looks = rng.normal(size=(NUM_POINTS, 64))
        self.descriptors = np.stack([self.unit(looks + 0.3 * rng.normal(size=looks.shape)) for _ in range(NUM_IMAGES)])

    @staticmethod
    def unit(values):
        return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)

    def completion(self, pairs=PAIRS, executor=SERIAL, max_distance=0.9, progress=silent):
        starts = np.arange(NUM_IMAGES + 1) * NUM_POINTS
        numbers = tuple(np.arange(start, start + NUM_POINTS) for start in starts[:-1])
        pixels = tuple(self.observers.points[rows] * FOCAL_PX for rows in numbers)
        ids = tuple(range(1, NUM_IMAGES + 1))
        keypoints = DenseKeypoints(ids, tuple(f"{i}.png" for i in ids), pixels, starts, numbers)
        every = np.arange(NUM_POINTS)

        def view(image):
            points = np.concatenate([self.observers.points[numbers[image]], np.ones((NUM_POINTS, 1))], axis=1)
            rows = every if image not in self.without_descriptors else every[:0]
            return GuidedView(points[rows], self.descriptors[image][rows], rows, FOCAL_PX, 1000)

        return TrackCompletion(keypoints, self.observers, view, pairs, max_distance, executor, progress)

    def matches(self, images):
        rows = np.arange(NUM_POINTS)
        return np.concatenate([np.stack([i * NUM_POINTS + rows, j * NUM_POINTS + rows], axis=1) for i, j in images])

    def points(self, images, min_views=3):
        return triangulate_matches(self.matches(images), self.observers, 1.5, min_views)


def shown(points):
    """For each observation, whether its keypoint shows the same point as the first observation of its track."""
    first = np.full(len(points.xyz), -1)
    first[points.point[::-1]] = points.keypoint[::-1] % NUM_POINTS
    return points.keypoint % NUM_POINTS == first[points.point]


def test_each_image_is_reported():
    scene, reports = Scene(), []
    scene.completion(progress=lambda *report: reports.append(report)).completed(scene.points([(0, 1), (1, 2)]), 0.9)
    assert reports == [("complete tracks", done, NUM_IMAGES) for done in range(NUM_IMAGES + 1)]


def test_points_of_three_images_get_their_keypoints_in_the_others():
    scene = Scene()
    points = scene.points([(0, 1), (1, 2)])
    assert len(points.keypoint) == 3 * NUM_POINTS
    grown = scene.completion().completed(points, 0.9)
    assert len(grown.keypoint) == NUM_IMAGES * NUM_POINTS
    assert shown(grown).all()
    assert len(np.unique(grown.keypoint)) == len(grown.keypoint)
    assert np.array_equal(grown.xyz, points.xyz)
    assert np.array_equal(grown.keypoint[: len(points.keypoint)], points.keypoint)


def test_only_images_of_pairs_are_asked():
    scene = Scene()
    points = scene.points([(0, 1), (1, 2)])
    grown = scene.completion([(0, 1), (1, 2), (2, 3)]).completed(points, 0.9)
    assert np.bincount(scene.observers.image[grown.keypoint], minlength=NUM_IMAGES).tolist() == [NUM_POINTS] * 4 + [0]


def test_keypoints_that_look_different_are_not_added():
    scene = Scene()
    scene.descriptors[3] = scene.unit(np.random.default_rng(5).normal(size=(NUM_POINTS, 64)))
    grown = scene.completion().completed(scene.points([(0, 1), (1, 2)]), 0.9)
    counts = np.bincount(scene.observers.image[grown.keypoint], minlength=NUM_IMAGES)
    assert counts[4] == NUM_POINTS
    assert counts[3] == 0


@pytest.mark.parametrize(("shift_px", "is_added"), [(1.0, True), (4.0, False)])
def test_keypoints_beyond_the_limit_are_not_added(shift_px, is_added):
    scene = Scene(noise_px=0.0)
    points = scene.points([(0, 1), (1, 2)])
    moved = scene.observers.points.copy()
    moved[3 * NUM_POINTS : 4 * NUM_POINTS, 1] += shift_px / FOCAL_PX
    scene.observers = replace(scene.observers, points=moved)
    grown = scene.completion().completed(points, 0.9)
    counts = np.bincount(scene.observers.image[grown.keypoint], minlength=NUM_IMAGES)
    assert counts[3] == (NUM_POINTS if is_added else 0)


def test_the_more_similar_of_two_near_keypoints_is_added():
    scene = Scene(noise_px=0.0)
    points = scene.points([(0, 1), (1, 2)])
    moved = scene.observers.points.copy()
    moved[3 * NUM_POINTS + 1] = moved[3 * NUM_POINTS] + 0.5 / FOCAL_PX  # beside keypoint 0, with another look
    scene.observers = replace(scene.observers, points=moved)
    grown = scene.completion().completed(points, 0.9)
    added = grown.keypoint[scene.observers.image[grown.keypoint] == 3]
    assert 3 * NUM_POINTS in added
    assert 3 * NUM_POINTS + 1 not in added
    assert shown(grown).all()


def test_keypoints_that_another_point_has_are_not_added():
    scene = Scene()
    taken = np.arange(3 * NUM_POINTS, 4 * NUM_POINTS)
    grown = scene.completion().completed(scene.points([(0, 1), (1, 2)]), 0.9, taken)
    assert not np.isin(taken, grown.keypoint).any()


@pytest.mark.parametrize(("distance", "num_points"), [(0.5, NUM_POINTS), (0.8, 2 * NUM_POINTS), (1.4, 2 * NUM_POINTS)])
def test_points_that_no_match_connects_become_one_where_they_look_alike(distance, num_points):
    scene, cosine = Scene(), 1 - distance**2 / 2
    looks, others = scene.descriptors[0], np.random.default_rng(5).normal(size=(NUM_POINTS, 64))
    others = scene.unit(others - (others * looks).sum(axis=1, keepdims=True) * looks)
    scene.descriptors[1:3] = looks
    scene.descriptors[3:] = scene.unit(cosine * looks + np.sqrt(1 - cosine**2) * others)
    grown = grown_from_halves(scene)
    assert len(grown.xyz) == num_points
    assert shown(grown).all() and len(grown.keypoint) == NUM_IMAGES * NUM_POINTS


def grown_from_halves(scene):
    """The points of the first three images, and those of the last two."""
    parts = [scene.points([(0, 1), (1, 2)]), scene.points([(3, 4)], min_views=2)]
    points, matches = joined_points(parts), scene.matches([(0, 1), (1, 2), (3, 4)])
    assert len(points.xyz) == 2 * NUM_POINTS
    return scene.completion().grown(points, matches, 1.5, 2)


@pytest.mark.parametrize(("shift_px", "num_points"), [(0.0, NUM_POINTS), (3.0, 2 * NUM_POINTS)])
def test_points_of_a_fine_pattern_that_distant_images_see_at_one_place_stay(shift_px, num_points):
    """The last two cameras are three times as near; they see the next elements of the pattern."""
    scene = Scene(noise_px=0.0)
    shifts, moved = scene.observers.t.copy(), scene.observers.points.copy()
    shifts[3:, 2] -= 4
    right = np.zeros_like(scene.xyz)
    right[:, 0] = shift_px / FOCAL_PX * (scene.xyz @ scene.observers.R[3].T + shifts[3])[:, 2]
    for image in (3, 4):
        in_camera = (scene.xyz + right) @ scene.observers.R[image].T + shifts[image]
        moved[image * NUM_POINTS : (image + 1) * NUM_POINTS] = in_camera[:, :2] / in_camera[:, 2:]
    scene.observers = replace(scene.observers, t=shifts, points=moved)
    scene.descriptors[1:] = scene.descriptors[0]
    assert len(grown_from_halves(scene).xyz) == num_points


NUM_SURE = 40
"""The first points are matched in four images, the others in two."""


def sure_and_others(scene):
    """Points of four images, and all matches."""
    sure = scene.matches([(0, 1), (1, 2), (2, 3)])
    sure = sure[sure[:, 0] % NUM_POINTS < NUM_SURE]
    return triangulate_matches(sure, scene.observers, 1.5, 3), np.concatenate([sure, scene.matches([(0, 2)])])


def test_matches_of_two_images_become_points_by_a_third_image():
    scene = Scene()
    points, matches = sure_and_others(scene)
    assert len(points.xyz) == NUM_SURE
    grown = scene.completion().grown(points, matches, 1.5, 3)
    assert len(grown.xyz) > NUM_SURE + 0.8 * (NUM_POINTS - NUM_SURE)
    assert shown(grown).all()
    assert grown.num_observations.min() >= 3


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_matches_of_two_images_become_no_point_before_or_behind_what_others_show(factor):
    """A wrong match has any depth; near its projection in a third image lies a keypoint that looks alike."""
    scene = Scene()
    observers, moved = scene.observers, scene.observers.points.copy()
    wrong = np.arange(NUM_POINTS - 8, NUM_POINTS)
    for image in (0, 2, 3):
        in_camera = factor * scene.xyz[wrong] @ observers.R[image].T + observers.t[image]
        moved[image * NUM_POINTS + wrong] = in_camera[:, :2] / in_camera[:, 2:]
    scene.observers = replace(observers, points=moved)
    points, matches = sure_and_others(scene)
    grown = scene.completion([(0, 2), (2, 3)]).grown(points, matches, 1.5, 3)
    assert not np.isin(grown.keypoint % NUM_POINTS, wrong).any()
    assert len(grown.xyz) > NUM_SURE + 0.8 * (NUM_POINTS - NUM_SURE - len(wrong))
    assert shown(grown).all()


def test_points_of_three_images_are_the_surface_where_photos_overlap_in_threes():
    scene = Scene()
    sure = scene.matches([(0, 1), (1, 2)])
    sure = sure[sure[:, 0] % NUM_POINTS < NUM_SURE]
    points, matches = triangulate_matches(sure, scene.observers, 1.5, 3), scene.matches([(0, 2)])
    grown = scene.completion([(0, 1), (1, 2), (0, 2)]).grown(points, np.concatenate([sure, matches]), 1.5, 3)
    assert len(grown.xyz) > NUM_SURE + 0.8 * (NUM_POINTS - NUM_SURE)
    assert shown(grown).all()


def test_points_of_two_images_need_a_surface_to_compare_with():
    scene = Scene()
    matches = scene.matches([(0, 2)])
    grown = scene.completion().grown(triangulate_matches(matches, scene.observers, 1.5, 3), matches, 1.5, 3)
    assert len(grown.xyz) == 0


def test_two_images_that_match_wrongly_do_not_become_points():
    scene = Scene()
    points, matches = sure_and_others(scene)
    rng = np.random.default_rng(2)
    others = np.flatnonzero((matches[:, 0] < NUM_POINTS) & (matches[:, 0] >= NUM_SURE))
    matches[others, 1] = rng.permutation(matches[others, 1])
    right = (matches[others, 0] % NUM_POINTS) == (matches[others, 1] % NUM_POINTS)
    grown = scene.completion().grown(points, matches, 1.5, 3)
    assert NUM_SURE <= len(grown.xyz) <= NUM_SURE + right.sum()


def test_images_without_a_dense_layer_give_and_get_nothing():
    """The model of another tool may have points in an image in which our extractor finds nothing."""
    scene = Scene()
    scene.without_descriptors = {0, 4}
    grown = scene.completion().completed(scene.points([(0, 1), (1, 2)]), 0.9)
    assert np.bincount(scene.observers.image[grown.keypoint], minlength=NUM_IMAGES).tolist() == [NUM_POINTS] * 4 + [0]


def test_the_limit_of_descriptors_is_that_of_the_options():
    scene = Scene()
    points = scene.points([(0, 1), (1, 2)])
    grown = scene.completion(max_distance=0.05).grown(points, scene.matches([(0, 1), (1, 2)]), 1.5, 3)
    assert len(grown.keypoint) == len(points.keypoint)


def test_several_threads_give_the_same():
    scene = Scene()
    points = scene.points([(0, 1), (1, 2)])
    one = scene.completion().completed(points, 0.9)
    two = scene.completion(executor=ThreadExecutor(2)).completed(points, 0.9)
    assert np.array_equal(one.keypoint, two.keypoint)
    assert np.array_equal(one.point, two.point)


def test_rows_of_few_images_are_in_memory_and_the_points_are_the_same(monkeypatch):
    scene = Scene()
    points = scene.points([(0, 1), (1, 2)])
    expected = scene.completion().completed(points, 0.9)
    monkeypatch.setattr(track_completion, "_NUM_IN_MEMORY", 2)
    completion = scene.completion()
    found = completion.completed(points, 0.9)
    assert len(completion._row_from_index) == 2
    np.testing.assert_array_equal(found.keypoint, expected.keypoint)
    np.testing.assert_array_equal(found.point, expected.point)
