"""A finished model gets the points of the dense layer, and keeps its keypoints."""

import weakref
from dataclasses import replace

import numpy as np
import PIL.Image  # noqa: F401  # before pycolmap
import pycolmap
import pytest

from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.geometry import point_choice
from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.mapping import dense_adjustment, densify
from sfm_lightglue.mapping.dense_keypoints import with_all_keypoints
from sfm_lightglue.mapping.densify import densify_model
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.types import DenseFeatures, Features
from tests.helpers.dense_models import SIZE, model_of

NUM_SPARSE, NUM_DENSE = 60, 600


def scene(noise_px=0.3, num_images=4, seed=0, step=1.0, pair=(), num_of_pair=0):
    """True points, poses, and features of all layers: the first rows show the first points, in all images.

    The last `num_of_pair` points are in the two images of a pair alone.
    """
    rng = np.random.default_rng(seed)
    points = rng.uniform((-1.5, -1, 4), (1.5, 1, 7), (NUM_DENSE, 3))
    descriptors = np.abs(rng.standard_normal((NUM_DENSE, 64))).astype(np.float32)
    poses, features = [], {}
    for number in range(num_images):
        R = rotation_from_rotvec(np.array([0.0, 0.08 * step * number, 0.0]))
        center = np.array([0.4 * step * number, 0.0, 0.0])
        poses.append((R, -R @ center))
        in_camera = (points - center) @ R.T
        pixels = 800 * in_camera[:, :2] / in_camera[:, 2:] + (500, 400) + rng.normal(0, noise_px, (NUM_DENSE, 2))
        order = np.concatenate([np.arange(NUM_SPARSE), NUM_SPARSE + rng.permutation(NUM_DENSE - NUM_SPARSE)])
        order = order[order < NUM_DENSE - (0 if number in pair else num_of_pair)]
        one = Features(
            np.clip(pixels[order], 0, SIZE).astype(np.float32),
            np.ones(len(order), np.float32),
            (descriptors[order] + 0.05 * rng.standard_normal((len(order), 64))).clip(0).astype(np.float32),
            SIZE,
        )
        features[f"{number}.png"] = DenseFeatures.from_features(one, NUM_SPARSE)
    return points, poses, features


def sparse_model(points, poses, features):
    seen = [np.arange(NUM_SPARSE)] * len(poses)
    keypoints = [features[f"{number}.png"].keypoints[:NUM_SPARSE] for number in range(len(poses))]
    return model_of(points[:NUM_SPARSE], poses, seen, keypoints)


def nothing(model):
    """No adjustment: the poses are exact."""


def densified(model, features, config=None, adjust=nothing, executor=None):
    config = config or DensityConfig()
    return densify_model(model, features.__getitem__, config, adjust, executor or ThreadExecutor(1)).model


def test_the_dense_layer_becomes_points_and_the_keypoints_keep_their_indices():
    points, poses, features = scene()
    model = sparse_model(points, poses, features)
    dense = densified(model, features)
    assert model.num_points3D() == NUM_SPARSE  # the model itself is not changed
    assert dense.num_points3D() > 0.9 * NUM_DENSE
    assert dense.compute_mean_track_length() > 3.5
    for image_id, image in model.images.items():
        found = np.array([point.xy for point in dense.images[image_id].points2D])
        own = np.array([point.xy for point in image.points2D])
        assert found.shape == (NUM_DENSE, 2)
        np.testing.assert_array_equal(found[:NUM_SPARSE], own)
        np.testing.assert_array_equal(dense.images[image_id].cam_from_world().matrix(), image.cam_from_world().matrix())
    positions = np.array([point.xyz for point in dense.points3D.values()])
    errors = np.linalg.norm(positions[:, None] - points[None], axis=2).min(axis=1)
    assert np.median(errors) < 0.01


def test_the_model_of_another_tool_keeps_its_keypoints_and_its_tracks_continue():
    points, poses, features = scene()
    rng = np.random.default_rng(5)
    seen = [np.arange(30)] * 3 + [np.zeros(0, np.int64)]
    keypoints = [features[f"{number}.png"].keypoints[:30] + rng.normal(0, 0.2, (30, 2)) for number in range(3)]
    foreign = model_of(points[:30], poses, seen, [*keypoints, np.zeros((0, 2))])
    dense = densified(foreign, features, DensityConfig(min_shared_points=10))
    assert dense.num_points3D() > 0.9 * NUM_DENSE
    for number in range(3):
        found = np.array([point.xy for point in dense.images[number + 1].points2D])
        np.testing.assert_array_equal(found[:30], np.array([p.xy for p in foreign.images[number + 1].points2D]))
        assert sum(point.has_point3D() for point in list(dense.images[number + 1].points2D)[:30]) >= 28
        # A keypoint of the dense layer beside one with a point is the same keypoint.
        assert len(found) <= NUM_DENSE + 2
    lengths = [
        point.track.length()
        for point in dense.points3D.values()
        if any(element.image_id == 1 and element.point2D_idx < 30 for element in point.track.elements)
    ]
    assert len(lengths) >= 28
    assert np.mean([length == 4 for length in lengths]) > 0.5  # the fourth image saw none of them before


def test_the_result_does_not_depend_on_the_number_of_threads(tmp_path):
    points, poses, features = scene(num_images=8, step=0.5)
    model = sparse_model(points, poses, features)
    config = DensityConfig(max_matched_partners=2)
    contents = []
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        densified(model, features, config, executor=ThreadExecutor(workers)).write_binary(folder)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("turn_px", "num_rounds"), [(0.3, 1), (1.5, 2)])
def test_matching_is_repeated_while_the_adjustment_takes_away_large_errors(turn_px, num_rounds):
    points, poses, features = scene(num_images=8, step=0.5)
    turn = rotation_from_rotvec(np.array([turn_px / 800, 0.0, 0.0]))
    bad = [(turn @ R, turn @ t) if number % 4 == 2 else (R, t) for number, (R, t) in enumerate(poses)]
    model = sparse_model(points, bad, features)
    calls = []

    def corrects_the_poses(model):
        calls.append(model.num_points3D())
        for image_id, pose in enumerate(poses, start=1):
            model.images[image_id].frame.set_cam_from_world(1, pycolmap.Rigid3d(pycolmap.Rotation3d(pose[0]), pose[1]))

    result = densify_model(model, features.__getitem__, DensityConfig(), corrects_the_poses)
    assert result.num_rounds == len(calls) - 1 == num_rounds  # the last call adjusts the whole model
    once = densify_model(model, features.__getitem__, DensityConfig(max_rounds=1), nothing)
    assert once.num_rounds == 1


def test_poses_are_adjusted_by_a_part_of_the_points_and_all_points_follow(monkeypatch):
    monkeypatch.setattr(dense_adjustment, "_ENOUGH_OF_IMAGE", 60)
    monkeypatch.setattr(point_choice, "_ENOUGH_OF_PAIR", 40)
    points, poses, features = scene(num_images=5)
    model = sparse_model(points, poses, features)
    counts = []

    def moves_all_images(model):
        counts.append(model.num_points3D())
        for image in model.images.values():  # a shift of the world
            R, t = image.cam_from_world().rotation.matrix(), image.cam_from_world().translation
            image.frame.set_cam_from_world(1, pycolmap.Rigid3d(pycolmap.Rotation3d(R), t - R @ (0.2, 0.0, 0.0)))

    arguments = model, features.__getitem__, DensityConfig(), moves_all_images
    result = densify_model(*arguments, adjusts_all=False, constant_camera_ids={1})
    assert result.num_rounds == len(counts) == 1 and 30 < counts[0] < 200
    assert result.model.num_points3D() > 0.9 * NUM_DENSE
    found = np.array([point.xyz for point in result.model.points3D.values()])
    errors = np.linalg.norm(found[:, None] - (points + np.array([0.2, 0, 0]))[None], axis=2).min(axis=1)
    assert np.median(errors) < 0.01


def test_the_pairs_of_one_image_with_a_bad_pose_are_matched_again():
    points, poses, features = scene(num_images=15, step=0.5, pair=(5, 9), num_of_pair=200)
    bad = list(poses)
    turn = rotation_from_rotvec(np.array([2.6 / 800, 0.0, 0.0]))  # 2.6 px
    bad[5] = turn @ poses[5][0], turn @ poses[5][1]
    model = sparse_model(points, bad, features)
    true = pycolmap.Rigid3d(pycolmap.Rotation3d(poses[5][0]), poses[5][1])

    def corrects_the_pose(model):
        model.images[6].frame.set_cam_from_world(1, true)
        model.update_point_3d_errors()

    totals = []

    def progress(stage, done, total):
        if stage == "densify" and done == 0:
            totals.append(total)

    config = DensityConfig(max_matched_partners=14, min_track_length=2)
    result = densify_model(model, features.__getitem__, config, corrects_the_pose, progress=progress)
    assert totals == [105, 14]  # 13 % of the pairs
    assert (result.num_rounds, result.num_pairs) == (2, 105)
    once = densify_model(model, features.__getitem__, replace(config, max_rounds=1), corrects_the_pose)
    assert result.model.images[6].num_points3D > 0.98 * NUM_DENSE
    assert once.model.images[6].num_points3D < 0.95 * NUM_DENSE  # tracks that the others do not have are not continued


def test_a_round_without_points_does_not_replace_the_one_before():
    points, poses, features = scene(num_images=8, step=0.5)
    turn = rotation_from_rotvec(np.array([1.5 / 800, 0.0, 0.0]))
    model = sparse_model(
        points, [(turn @ R, turn @ t) if i % 4 == 2 else (R, t) for i, (R, t) in enumerate(poses)], features
    )
    calls = []

    def fails_the_second_time(model):
        calls.append(model.num_points3D())
        for image_id, (R, t) in enumerate(poses, start=1):
            turned = rotation_from_rotvec(np.array([0.0, (len(calls) - 1) * 0.9 * image_id, 0.0])) @ R
            model.images[image_id].frame.set_cam_from_world(1, pycolmap.Rigid3d(pycolmap.Rotation3d(turned), t))

    result = densify_model(model, features.__getitem__, DensityConfig(), fails_the_second_time, adjusts_all=False)
    assert len(calls) == 2 and result.num_rounds == 1
    assert result.model.num_points3D() > 0.9 * NUM_DENSE


def test_what_is_needed_for_matching_is_free_when_the_whole_model_is_adjusted(monkeypatch):
    points, poses, features = scene()
    alive = weakref.WeakSet()

    class Watched(densify.SurfaceViews):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive.add(self)

    monkeypatch.setattr(densify, "SurfaceViews", Watched)
    counts = []
    densified(sparse_model(points, poses, features), features, adjust=lambda model: counts.append(len(alive)))
    assert counts == [1, 0]  # the poses are adjusted by a part of the points before the tracks are continued


def test_points_are_found_in_images_that_are_not_matched():
    points, poses, features = scene(num_images=8, step=0.5)
    model = sparse_model(points, poses, features)
    totals = []

    def progress(stage, done, total):
        if stage == "densify" and done == 0:
            totals.append(total)

    few = densify_model(model, features.__getitem__, DensityConfig(), nothing, progress=progress)
    every = densify_model(model, features.__getitem__, DensityConfig(max_matched_partners=7), nothing)
    assert few.num_pairs < every.num_pairs == 28 and totals == [few.num_pairs]
    assert (few.num_rounds, every.num_rounds) == (1, 1)  # all images have enough partners
    assert few.model.num_points3D() > 0.98 * every.model.num_points3D()
    assert few.model.compute_mean_track_length() > 0.98 * every.model.compute_mean_track_length() > 6


def chain_of_images():
    """Features, and a model whose first and last image are three steps apart: a dense model shows their overlap."""
    points, poses, features = scene()
    rows = [np.arange(0, 20), np.arange(0, 40), np.arange(20, 60), np.arange(40, 60)]
    return features, windowed_model(points, poses, features, rows)


def windowed_model(points, poses, features, rows):
    """A model whose images observe the points of these rows only."""
    keypoints = [features[f"{number}.png"].keypoints[:NUM_SPARSE] for number in range(len(poses))]
    seen = [np.full(NUM_SPARSE, -1) for _ in rows]
    for one, chosen in zip(seen, rows, strict=True):
        one[chosen] = chosen
    return model_of(points[:NUM_SPARSE], poses, seen, keypoints)


def test_points_are_looked_for_in_overlaps_that_only_the_dense_model_shows():
    features, chain = chain_of_images()
    totals = []

    def progress(stage, done, total):
        if stage == "densify" and done == 0:
            totals.append(total)

    config = DensityConfig(max_matched_partners=1)  # each image has its partner after the first round
    result = densify_model(chain, features.__getitem__, config, nothing, progress=progress)
    assert totals == [result.num_pairs, 0]
    assert result.num_rounds == 2


def test_pairs_without_matches_are_no_partners():
    points, poses, features = scene(num_images=5)
    first = features["0.png"]  # all others would choose it, and nothing looks like it
    noise = np.abs(np.random.default_rng(3).standard_normal(first.descriptors.shape))
    one = Features(first.keypoints, np.ones(NUM_DENSE, np.float32), noise.astype(np.float32), SIZE)
    features["0.png"] = DenseFeatures.from_features(one, NUM_SPARSE)
    model = sparse_model(points, poses, features)
    config = DensityConfig(max_matched_partners=1, min_shared_points=30)
    result = densify_model(model, features.__getitem__, config, nothing)
    assert result.num_rounds == 2
    assert result.model.num_points3D() > 0.8 * NUM_DENSE


def test_narrow_pairs_of_a_video_give_no_fewer_points():
    points, poses, features = scene(num_images=12, step=0.16)  # two thirds of a degree a step
    model = windowed_model(points, poses, features, [np.arange(i, i + 49) for i in range(12)])
    normal, dense = (DensityConfig(level=level, max_matched_partners=2) for level in ("normal", "dense"))
    few = densified(model, features, normal).num_points3D()
    assert densified(model, features, dense).num_points3D() >= few > 0.8 * NUM_DENSE


def test_pairs_that_only_the_dense_model_shows_are_matched_too():
    features, chain = chain_of_images()
    reports = []
    arguments = chain, features.__getitem__, DensityConfig(), nothing
    result = densify_model(*arguments, progress=lambda *report: reports.append(report))
    totals = [total for stage, done, total in reports if stage == "densify" and done == 0]
    assert totals == [5, 1]  # what was matched before is not matched again
    assert (result.num_rounds, result.num_pairs) == (2, 6)
    once = densify_model(chain, features.__getitem__, DensityConfig(max_rounds=1), nothing)
    assert (once.num_rounds, once.num_pairs) == (1, 5)
    assert once.num_matches < result.num_matches


def test_matching_ends_where_all_pairs_are_known_and_the_adjustment_does_not_help():
    points, poses, features = scene()
    model = sparse_model(points, poses, features)
    assert densify_model(model, features.__getitem__, DensityConfig(), nothing).num_rounds == 1

    def takes_the_worst_away(model):
        """Of the points with the largest errors, two observations are left; these points are removed then."""
        worst = sorted(model.point3D_ids(), key=lambda point_id: -model.points3D[point_id].error)
        for point_id in worst[: len(worst) // 2]:
            for element in list(model.points3D[point_id].track.elements)[2:]:
                model.delete_observation(element.image_id, element.point2D_idx)

    result = densify_model(model, features.__getitem__, DensityConfig(), takes_the_worst_away)
    assert result.num_rounds == 1
    assert result.model.num_points3D() < 0.6 * NUM_DENSE


def test_points_that_the_adjustment_leaves_with_two_observations_leave():
    points, poses, features = scene()
    short = []

    def takes_observations_away(model):
        points = [point_id for point_id in sorted(model.point3D_ids()) if model.points3D[point_id].track.length() == 4]
        for point_id in points[:50]:
            for element in list(model.points3D[point_id].track.elements)[:2]:
                model.delete_observation(element.image_id, element.point2D_idx)
        short[:] = points[:50]

    dense = densified(sparse_model(points, poses, features), features, adjust=takes_observations_away)
    assert len(short) == 50
    assert min(point.track.length() for point in dense.points3D.values()) >= 3
    assert not set(short) & dense.point3D_ids()


def test_a_model_can_get_the_keypoints_without_more_points(tmp_path):
    points, poses, features = scene()
    model = sparse_model(points, poses, features)
    longer = with_all_keypoints(model, features.__getitem__)
    longer.write_binary(tmp_path)
    read = pycolmap.Reconstruction(tmp_path)
    for one in (longer, read):
        assert one.num_points3D() == NUM_SPARSE
        for image_id, image in model.images.items():
            found = np.array([point.xy for point in one.images[image_id].points2D])
            assert found.shape == (NUM_DENSE, 2)
            np.testing.assert_array_equal(found[:NUM_SPARSE], np.array([point.xy for point in image.points2D]))
            assert one.images[image_id].num_points3D == image.num_points3D
    assert len(model.images[1].points2D) == NUM_SPARSE


def test_two_images_give_points_of_two_observations():
    points, poses, features = scene(num_images=2)
    dense = densified(sparse_model(points, poses, features), features)
    assert dense.num_points3D() > 0.8 * NUM_DENSE


def test_nothing_to_match_leaves_the_points_as_they_are():
    points, poses, features = scene()
    few = model_of(points[:5], poses, [np.arange(5)] * 4, [features[f"{i}.png"].keypoints[:5] for i in range(4)])
    result = densify_model(few, features.__getitem__, DensityConfig(), nothing)
    assert (result.num_rounds, result.num_pairs, result.model.num_points3D()) == (0, 0, 5)


def test_cameras_at_one_place_are_not_matched():
    points, poses, features = scene()
    standing = [(R, -R @ np.zeros(3)) for R, _ in poses]
    model = sparse_model(points, standing, features)
    result = densify_model(model, features.__getitem__, DensityConfig(), nothing)
    assert result.num_matches == 0


def test_registered_images_alone_take_part():
    points, poses, features = scene()
    model = sparse_model(points, poses, features)
    pycolmap.ObservationManager(model).deregister_frame(model.images[4].frame_id)
    asked = []

    def dense(name):
        asked.append(name)
        return features[name]

    densify_model(model, dense, DensityConfig(), nothing)
    assert set(asked) == {"0.png", "1.png", "2.png"}
