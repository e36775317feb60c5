"""The parts of an extension, on exact models: registration, observations, adjustment, pairs."""

import numpy as np
import PIL.Image  # noqa: F401  # before pycolmap
import pycolmap
import pytest

from sfm_lightglue.colmap.image_points import pixels_of, point_ids_of
from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.mapping.extend_adjustment import adjust_images, part_seen_by
from sfm_lightglue.mapping.extend_keypoints import keypoints_of, num_observed
from sfm_lightglue.mapping.extend_pairs import Covisibility, suggested_by_points
from sfm_lightglue.mapping.extend_points import add_matches
from sfm_lightglue.mapping.extend_registration import MIN_NUM_INLIERS, Arrival, Link, register_arrivals
from sfm_lightglue.types import ImagePair
from tests.helpers.dense_models import model_of

NUM_POINTS, NUM_IMAGES = 120, 4
ADDED = NUM_IMAGES
"""Id of the image that comes in."""

NAME = f"{ADDED - 1}.png"
ROWS = {f"{number}.png": np.arange(NUM_POINTS) for number in range(NUM_IMAGES)}


def poses():
    rotations = [rotation_from_rotvec(np.array([0.0, 0.08 * number, 0.0])) for number in range(NUM_IMAGES)]
    return [(R, -R @ np.array([0.4 * number, 0.0, 0.0])) for number, R in enumerate(rotations)]


def points():
    return np.random.default_rng(0).uniform((-1.0, -1, 4), (1.0, 1, 7), (NUM_POINTS, 3))


def whole_model():
    everything = [np.arange(NUM_POINTS)] * NUM_IMAGES
    return model_of(points(), poses(), seen=everything)


def model_before():
    """The model without its last image. Keypoint k of each image shows point k + 1."""
    return model_of(points(), poses()[:-1], seen=[np.arange(NUM_POINTS)] * (NUM_IMAGES - 1))


def arrival(model):
    whole = whole_model()
    image = pycolmap.Image(name=NAME, keypoints=pixels_of(whole.images[ADDED]), camera_id=1, image_id=ADDED)
    image.frame_id = ADDED
    frame = pycolmap.Frame()
    frame.frame_id, frame.rig_id = ADDED, 1
    frame.add_data_id(image.data_id)
    return Arrival(image, model.cameras[1], model.rigs[1], frame, True)


def link(indices, name0="0.png"):
    return Link(ImagePair.from_names(name0, NAME), np.asarray(indices, np.int64).reshape(-1, 2))


def same_rows(count):
    return np.stack([np.arange(count)] * 2, axis=1)


def registered():
    model = model_before()
    assert register_arrivals(model, [arrival(model)], [link(same_rows(60))], 0) == [NAME]
    return model


def test_an_image_gets_its_pose_although_a_third_of_the_matches_is_wrong():
    model = model_before()
    wrong = np.stack([np.arange(30), np.arange(30)[::-1] + 60], axis=1)
    links = [link(same_rows(60)), link(wrong, "1.png")]
    assert register_arrivals(model, [arrival(model)], links, 0) == [NAME]
    R, t = poses()[-1]
    assert np.allclose(model.images[ADDED].cam_from_world().matrix(), np.column_stack([R, t]), atol=1e-5)


@pytest.mark.parametrize(
    "indices", [same_rows(MIN_NUM_INLIERS - 1), np.random.default_rng(1).integers(0, 120, (60, 2))]
)
def test_few_or_random_matches_register_nothing(indices):
    model = model_before()
    assert register_arrivals(model, [arrival(model)], [link(indices)], 0) == []
    assert ADDED not in model.images


def test_matches_continue_tracks_and_existing_points_stay():
    model = registered()
    before = {i: (point.xyz.copy(), point.track.length()) for i, point in model.points3D.items()}
    keypoints = keypoints_of(model, [1, ADDED], ROWS)
    wrong = [[NUM_POINTS - 1, 0]]  # of another point: it does not fit
    matches = np.concatenate([np.array(wrong), same_rows(80)]) + np.array([0, NUM_POINTS])
    assert add_matches(model, keypoints, matches, DensityConfig()) == 80
    assert np.array_equal(point_ids_of(model.images[ADDED])[:80], point_ids_of(model.images[1])[:80])
    for point_id, (xyz, length) in before.items():
        assert np.array_equal(model.points3D[point_id].xyz, xyz)
        assert model.points3D[point_id].track.length() in {length, length + 1}


def test_matched_keypoints_without_a_point_get_one():
    model = registered()
    for point_id in list(model.point3D_ids())[:40]:
        model.delete_point3D(point_id)
    free = np.flatnonzero(point_ids_of(model.images[1]) < 0)
    keypoints = keypoints_of(model, [1, 2, ADDED], ROWS)
    matches = np.concatenate([np.stack([free, free + 2 * NUM_POINTS], 1), np.stack([free + 120, free + 240], 1)])
    assert add_matches(model, keypoints, matches, DensityConfig()) == 3 * len(free)
    found = point_ids_of(model.images[ADDED])[free]
    assert np.allclose([model.points3D[i].xyz for i in found.tolist()], points()[free], atol=1e-6)


def test_only_the_added_pose_and_its_points_are_adjusted():
    model = registered()
    add_matches(
        model, keypoints_of(model, [1, ADDED], ROWS), same_rows(80) + np.array([0, NUM_POINTS]), DensityConfig()
    )
    frame = model.frames[ADDED]
    frame.rig_from_world = pycolmap.Rigid3d(
        frame.rig_from_world.rotation, frame.rig_from_world.translation + np.array([0.01, 0, 0.02])
    )
    unseen = sorted(model.point3D_ids() - part_seen_by(model, [ADDED]).point3D_ids())
    model.points3D[unseen[0]].xyz = [9.0, 9.0, 9.0]
    kept = [model.images[i].cam_from_world().matrix().copy() for i in (1, 2, 3)]
    params = model.cameras[1].params.tolist()
    adjust_images(model, [ADDED], 0.5, (), 1)
    assert np.allclose(model.images[ADDED].cam_from_world().translation, poses()[-1][1], atol=1e-4)
    assert all(np.array_equal(model.images[i].cam_from_world().matrix(), kept[i - 1]) for i in (1, 2, 3))
    assert model.cameras[1].params.tolist() == params
    assert model.points3D[unseen[0]].xyz.tolist() == [9.0, 9.0, 9.0]


def test_images_that_share_points_with_partners_are_suggested():
    covisibility = Covisibility(model_before())
    assert covisibility.shared("0.png") == {"1.png": NUM_POINTS, "2.png": NUM_POINTS}
    asked = {ImagePair("0.png", NAME)}
    verified = {ImagePair("0.png", NAME): 50}
    found = suggested_by_points([NAME], verified, asked, covisibility, 5, 12)
    assert found == [ImagePair("1.png", NAME), ImagePair("2.png", NAME)]
    assert suggested_by_points([NAME], verified, asked, covisibility, 5, 2) == found[:1]  # at most two partners
    assert suggested_by_points([NAME], verified, asked, covisibility, 1, 12) == []  # it has one verified partner
    assert suggested_by_points([NAME], {}, asked, covisibility, 5, 12) == []


def test_an_excluded_pair_takes_no_place_of_a_suggestion():
    covisibility, verified = Covisibility(model_before()), {ImagePair("0.png", NAME): 50}
    excluded = {ImagePair("1.png", NAME)}
    found = suggested_by_points([NAME], verified, set(verified), covisibility, 5, 2, excluded)
    assert found == [ImagePair("2.png", NAME)]


def test_points_are_counted_by_tracks_or_by_images(monkeypatch):
    """Some points: those of which the images see all, some and none; an image may observe a point twice."""
    poses = [(np.eye(3), np.array([0.1 * k, 0, 0])) for k in range(3)]
    xyz = np.random.default_rng(0).uniform((-1, -1, 4), (1, 1, 6), (20, 3))
    model = model_of(xyz, poses, seen=[np.arange(20), np.arange(5), np.r_[np.arange(8, 20), 8]])
    chosen = sorted(model.point3D_ids())[:6]
    ids = [{element.image_id for element in model.points3D[one].track.elements} for one in chosen]
    expected = {image_id: sum(image_id in one for one in ids) for image_id in set().union(*ids)}
    for factor in (0, 1000):
        monkeypatch.setattr("sfm_lightglue.mapping.extend_keypoints._MANY_POINTS", factor)
        assert num_observed(model, chosen) == expected
        assert num_observed(model, []) == {}
    assert 0 < expected[3] < expected[1] == 6
