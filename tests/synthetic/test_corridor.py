"""The corridor: exact views, a closed walk within its walls, and sequences that are hard to track."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from sfm_lightglue.synthetic import hard_frames
from sfm_lightglue.synthetic.corridor import LOOP, SMALL_LOOP, Corridor, CorridorWalk
from sfm_lightglue.synthetic.corridor_walls import corridor_solids
from sfm_lightglue.synthetic.face_view import faces_of_box, render_faces
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.synthetic.shapes import Box
from sfm_lightglue.synthetic.solids import solid_world
from sfm_lightglue.synthetic.tiled_view import ShapeIndex, render_view

SIZE = (160, 120)


@pytest.fixture(scope="module")
def corridor() -> Corridor:
    return Corridor(SIZE, seed=1, walk=SMALL_LOOP)


@pytest.fixture(scope="module")
def sequence(corridor: Corridor) -> ImageSequence:
    return corridor.sequence(40)


def test_views_are_those_of_the_ray_tracer(corridor: Corridor) -> None:
    solids = corridor_solids(SMALL_LOOP.plan, 60, seed=1)
    with ThreadPoolExecutor(1) as executor:
        world = solid_world(solids, 1, executor)
    faces = []
    for solid, textures in zip(solids, world.textures, strict=True):
        assert isinstance(solid.shape, Box)
        faces += faces_of_box(solid.shape, textures, sorted(solid.painters))
    for idx in (0, 40):
        traced, depth = render_view(ShapeIndex(world.shapes), world.textures, corridor.camera, corridor.pose(idx))
        drawn = render_faces(faces, corridor.camera, corridor.pose(idx))
        assert (depth > 0).all()
        # They filter textures differently, so that only smooth images are alike.
        traced, drawn = (cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.5) for image in (traced, drawn))
        difference = np.abs(traced - drawn).mean()
        for other in (drawn[:, 1:], drawn[1:]):
            shifted = np.abs(traced[: len(other), : other.shape[1]] - other).mean()
            assert difference < 1.2 and shifted > 3 * difference, (difference, shifted)


@pytest.mark.parametrize(("walk", "num_frames"), [(LOOP, 600), (SMALL_LOOP, 60)])
def test_the_walk_comes_back_and_stays_within_the_walls(walk: CorridorWalk, num_frames: int) -> None:
    corridor = Corridor((64, 64), walk=walk)
    centers = np.array([corridor.pose(idx).center for idx in range(num_frames)])
    assert corridor.frames_per_round < num_frames, "the walk does not come back"
    assert np.linalg.norm(centers[corridor.frames_per_round] - centers[0]) < 0.15
    directions = corridor.pose(0).R[2] @ corridor.pose(corridor.frames_per_round).R[2]
    assert directions > np.cos(np.radians(20)), "the camera comes back, but looks elsewhere"
    outer, inner = np.array(walk.plan.outer_m) / 2, np.array(walk.plan.inner_m) / 2
    assert (np.abs(centers[:, :2]) < outer - 0.3).all()
    assert (np.abs(centers[:, :2]) > inner + 0.1).any(axis=1).all()
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    assert steps.max() < 2 * walk.step_m and steps.min() > 0.3 * walk.step_m


def test_the_same_seed_gives_the_same_bytes_and_rounds_differ(corridor: Corridor) -> None:
    again = Corridor(SIZE, seed=1, walk=SMALL_LOOP)
    np.testing.assert_array_equal(corridor.sequence(10).image(7), again.sequence(60).image(7))
    other = Corridor((64, 64), seed=2, walk=SMALL_LOOP)
    assert not np.allclose(corridor.pose(7).R, other.pose(7).R, atol=1e-3)
    per_round = corridor.frames_per_round
    assert not np.allclose(corridor.pose(0).R, corridor.pose(10 * per_round).R, atol=1e-3)


def test_a_standing_camera_has_one_pose_and_new_noise(sequence: ImageSequence) -> None:
    standing = hard_frames.standing(sequence, 3, 10)
    assert len(standing) == len(sequence) + 10
    assert all(pose is sequence.cam_from_world[3] for pose in standing.cam_from_world[3:14])
    first, second = standing.image(4).astype(float), standing.image(5).astype(float)
    assert 0 < np.abs(first - second).mean() < 5
    np.testing.assert_array_equal(standing.image(14), sequence.image(4))


def test_a_turning_camera_does_not_move(corridor: Corridor) -> None:
    poses = hard_frames.turning_poses(corridor.pose(0), 31, 3.0)
    centers = np.array([pose.center for pose in poses])
    np.testing.assert_allclose(centers, np.broadcast_to(centers[0], centers.shape), atol=1e-9)
    assert poses[30].R[2] @ poses[0].R[0] > 0.99, "the camera does not turn to the right"


def test_changed_images_are_those_that_were_asked_for(sequence: ImageSequence) -> None:
    for change in (hard_frames.with_blur, hard_frames.with_hand, hard_frames.with_blackout):
        hard = change(sequence, 5, 20)
        np.testing.assert_array_equal(hard.image(4), sequence.image(4))
        np.testing.assert_array_equal(hard.image(25), sequence.image(25))
        assert not np.array_equal(hard.image(15), sequence.image(15))
        np.testing.assert_array_equal(hard.image(15), change(sequence, 5, 20).image(15))
    assert hard_frames.with_blackout(sequence, 5, 20).image(15).max() < 30
    blurred, sharp = hard_frames.with_blur(sequence, 5, 20).image(15), sequence.image(15)
    assert (
        np.abs(np.diff(blurred.astype(float), axis=1)).mean()
        < 0.7 * np.abs(np.diff(sharp.astype(float), axis=1)).mean()
    )


def test_a_hand_hides_the_whole_scene(sequence: ImageSequence) -> None:
    elsewhere = replace(sequence, image=lambda idx: sequence.image(idx + 17))
    hands = [hard_frames.with_hand(one, 5, 28).image(19) for one in (sequence, elsewhere)]
    np.testing.assert_array_equal(hands[0], hands[1])


def test_exposure_jumps_change_the_brightness_at_once(sequence: ImageSequence) -> None:
    hard = hard_frames.with_exposure_jumps(sequence, first=10, gains=(0.5,))
    means = [hard.image(idx).mean() for idx in (9, 10)]
    assert means[1] < 0.65 * means[0]


def test_a_cut_leaves_images_out_but_no_time(sequence: ImageSequence) -> None:
    cut = hard_frames.with_cut(sequence, 9, 30)
    assert len(cut) == 20 and cut.cam_from_world[10] is sequence.cam_from_world[30]
    np.testing.assert_allclose(np.diff(cut.times_s), 1 / 30)
    np.testing.assert_array_equal(cut.image(10), sequence.image(30))
    assert len(set(cut.names)) == 20


def test_a_sequence_refuses_numbers_that_do_not_fit(sequence: ImageSequence) -> None:
    with pytest.raises(ValueError, match="differ in number"):
        replace(sequence, names=sequence.names[1:])
    with pytest.raises(ValueError, match="must increase"):
        replace(sequence, times_s=np.zeros(len(sequence)))
