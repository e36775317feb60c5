"""Verified pairs beside models, on known points and cameras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.mapping.pair_agreement import (
    PairAgreement,
    agreement_of_pairs,
    read_stored_pairs,
    triangulated_share,
)
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import EXIF, GUESSED, ExactScene, make_model, ring_scene, write_database

LIMITS = 3.0, 5.0
NAMES = tuple(f"{idx:02d}.jpg" for idx in range(6))
WRONG = ImagePair(NAMES[0], NAMES[2])
STATIC = ImagePair(NAMES[1], NAMES[2])


@pytest.fixture(scope="module")
def scene() -> ExactScene:
    return ring_scene(6)


def stored(scene: ExactScene, folder: Path, **options: object):
    return read_stored_pairs(write_database(folder / "database.db", scene, **options))  # type: ignore[arg-type]


def key(agreement: PairAgreement) -> ImagePair:
    return ImagePair(agreement.pair.name0, agreement.pair.name1)


def test_the_stored_pairs_are_those_that_were_written(scene: ExactScene, tmp_path: Path) -> None:
    pairs = stored(scene, tmp_path, pairs=scene.pairs[:7], static=[STATIC])
    assert [ImagePair(pair.name0, pair.name1) for pair in pairs] == scene.pairs[:7]
    for pair in pairs:
        names = ImagePair(pair.name0, pair.name1)
        rows0, rows1 = scene.matches(names).indices.T
        assert np.allclose(pair.points0, scene.observed[pair.name0][1][rows0], atol=1e-4)
        assert np.allclose(pair.points1, scene.observed[pair.name1][1][rows1], atol=1e-4)
        assert pair.is_static == (names == STATIC)
        if not pair.is_static:
            assert pair.cam1_from_cam0 is not None
            assert max(relative_pose_error_deg(pair.cam1_from_cam0, scene.relative_pose(names))) < 1e-6


def test_a_guessed_focal_length_leaves_no_pose(scene: ExactScene, tmp_path: Path) -> None:
    pairs = stored(replace(scene, camera=GUESSED), tmp_path)
    assert len(pairs) == 15
    assert all(pair.cam1_from_cam0 is None for pair in pairs)
    assert all(each.agrees for each in agreement_of_pairs(make_model(scene), pairs, *LIMITS))


def test_true_pairs_agree_and_wrong_ones_do_not(scene: ExactScene, tmp_path: Path) -> None:
    wrong = Rigid3.from_rotvec([0, np.pi / 2, 0], [1, 0, 0])
    pairs = stored(replace(scene, camera=EXIF), tmp_path, wrong={WRONG: wrong}, static=[STATIC])
    agreements = {key(each): each for each in agreement_of_pairs(make_model(scene), pairs, *LIMITS)}
    assert agreements.keys() == set(scene.pairs)
    for pair, agreement in agreements.items():
        assert agreement.agrees is {WRONG: False, STATIC: None}.get(pair, True)
        assert agreement.weight == len(scene.matches(pair))


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_frame_and_the_scale_of_the_model_do_not_matter(scene: ExactScene, tmp_path: Path, scale: float) -> None:
    pairs = stored(scene, tmp_path)
    turn = Rigid3.from_rotvec([0.3, -1, 0.4], [5, 2, -7])
    moved = {name: pose @ turn for name, pose in scene.poses.items()}
    moved = {name: Rigid3(pose.R, scale * pose.t) for name, pose in moved.items()}
    model = make_model(replace(scene, points=scale * (turn.inverse() @ scene.points), poses=scene.poses), moved)
    assert all(each.agrees for each in agreement_of_pairs(model, pairs, *LIMITS))


def test_only_pairs_of_registered_images_are_compared(scene: ExactScene, tmp_path: Path) -> None:
    pairs = stored(scene, tmp_path)
    model = make_model(scene, {name: scene.poses[name] for name in NAMES[:4]})
    assert len(agreement_of_pairs(model, pairs, *LIMITS)) == 6


def test_a_displaced_camera_disagrees_with_all_its_pairs(scene: ExactScene, tmp_path: Path) -> None:
    pairs = stored(scene, tmp_path)
    poses = dict(scene.poses)
    displaced = poses[NAMES[3]]
    poses[NAMES[3]] = Rigid3(displaced.R, displaced.t + np.array([0.0, 1.0, 0.5]))
    for agreement in agreement_of_pairs(make_model(scene, poses), pairs, *LIMITS):
        assert agreement.agrees is (NAMES[3] not in (agreement.pair.name0, agreement.pair.name1))


def test_a_pair_with_some_wrong_matches_agrees_by_its_pose(scene: ExactScene, tmp_path: Path) -> None:
    pairs = stored(scene, tmp_path)
    mixed = []
    for pair in pairs:
        points1 = pair.points1.copy()
        num = int(0.4 * len(points1))
        points1[:num] = np.roll(points1[:num], 5, axis=0) + 15.0
        mixed.append(replace(pair, points1=points1))
    model = make_model(scene)
    assert all(each.agrees for each in agreement_of_pairs(model, mixed, *LIMITS))
    without_pose = [replace(pair, cam1_from_cam0=None) for pair in mixed]
    assert not any(each.agrees for each in agreement_of_pairs(model, without_pose, *LIMITS))
    turned = [
        replace(pair, cam1_from_cam0=Rigid3.from_rotvec([0, 0.2, 0], [0, 0, 0]) @ pair.cam1_from_cam0)
        for pair in mixed
        if pair.cam1_from_cam0 is not None
    ]
    assert not any(each.agrees for each in agreement_of_pairs(model, turned, *LIMITS))


def test_two_images_at_one_place_have_no_direction(scene: ExactScene, tmp_path: Path) -> None:
    pairs = stored(scene, tmp_path)
    first = scene.poses[NAMES[0]]
    poses = scene.poses | {NAMES[1]: first}
    agreements = {key(each): each for each in agreement_of_pairs(make_model(scene, poses), pairs, *LIMITS)}
    assert agreements[ImagePair(NAMES[0], NAMES[1])].agrees is False


def test_the_limit_grows_with_large_images(scene: ExactScene, tmp_path: Path) -> None:
    """An error of 4 px is too large for images of 800 px, and small for those of 3200 px."""
    pairs = stored(scene, tmp_path)
    offset = [replace(pair, points1=pair.points1 + np.array([0, 6.0]), cam1_from_cam0=None) for pair in pairs]
    pair = offset[:1]
    model = make_model(scene)
    assert not agreement_of_pairs(model, pair, *LIMITS)[0].agrees
    large = make_model(scene)
    camera = large.cameras[1]
    camera.rescale(4.0)
    scaled = [replace(one, points0=4 * one.points0, points1=4 * one.points1 - np.array([0, 18.0])) for one in pair]
    assert agreement_of_pairs(large, scaled, *LIMITS)[0].agrees


def test_the_share_of_matches_that_became_points(scene: ExactScene, tmp_path: Path) -> None:
    pairs = stored(scene, tmp_path)
    model = make_model(scene)
    assert triangulated_share(model, pairs) == pytest.approx(1.0, abs=0.02)
    for point_id in sorted(model.point3D_ids())[::2]:
        model.delete_point3D(point_id)
    assert triangulated_share(model, pairs) == pytest.approx(0.5, abs=0.1)
    assert triangulated_share(model, []) is None
