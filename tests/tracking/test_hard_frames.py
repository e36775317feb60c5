"""The tracker on rendered sequences with exact poses: a loop, and frames that must not lead to a wrong map."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.evaluation.slam import SlamRun, run_slam
from sfm_lightglue.synthetic import hard_frames
from sfm_lightglue.synthetic.corridor import SMALL_LOOP, Corridor, small_corridor_loop
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.tracker import Tracker

CONFIG = TrackerConfig.from_mapping({"extractor": {"max_keypoints": 512}, "threads": 1})
"""Mapping between the frames: every run gives the same result."""


@pytest.fixture(scope="module")
def corridor() -> Corridor:
    return Corridor((480, 360), walk=SMALL_LOOP)


@pytest.fixture(scope="module")
def walk(corridor: Corridor) -> ImageSequence:
    """Most of a round; each frame is rendered once."""
    sequence = corridor.sequence(32)

    @cache
    def image(idx: int) -> UInt8Array:
        return sequence.image(idx)

    return replace(sequence, image=image)


def tracked(sequence: ImageSequence, config: TrackerConfig = CONFIG) -> SlamRun:
    return run_slam(sequence, Tracker(sequence.camera, config), num_threads=1)


def assert_right(run: SlamRun, min_tracked: float = 1.0, max_error: float = 0.01) -> None:
    """Enough frames have a pose in one map, and those poses are right."""
    scores = run.scores
    assert scores.tracked >= min_tracked, (scores.tracked, scores.events)
    assert scores.relative_ate <= max_error, scores.relative_ate


def test_a_loop_is_closed() -> None:
    loop = small_corridor_loop()
    run = tracked(loop)
    assert_right(run)
    assert "loop_closed" in dict(run.scores.events)
    assert run.scores.loop_error < 0.01 * loop.path_length
    assert run.scores.initialized_frame <= 30
    assert run.scores.num_maps == 1


def test_a_camera_that_stands_starts_no_map_and_makes_no_keyframes(walk: ImageSequence) -> None:
    at_start = hard_frames.standing(walk.take(range(14)), at=0, count=10)
    run = tracked(hard_frames.standing(at_start, at=len(at_start) - 1, count=15))
    assert all(record.state == "initializing" for record in run.live[:11])
    assert_right(run)
    last = {record.name for record in run.live[len(at_start) + 1 :]}
    assert not last & set(run.keyframes), "a standing camera makes keyframes"


def test_a_camera_that_only_turns_starts_no_map(corridor: Corridor) -> None:
    poses = hard_frames.turning_poses(corridor.pose(0), 30, 1.5)
    run = tracked(corridor.along(poses, "turning"))
    assert all(record.cam_from_world is None for record in run.live)
    assert run.scores.error


def test_a_camera_that_turns_on_a_map_keeps_its_place(walk: ImageSequence, corridor: Corridor) -> None:
    start = 14
    turn = hard_frames.turning_poses(walk.cam_from_world[start - 1], 16, 1.5)[1:]
    poses = [*walk.cam_from_world[:start], *turn, *reversed(turn), *walk.cam_from_world[start : start + 8]]
    assert_right(tracked(corridor.along(poses, "turn")))


def test_blurred_frames_lead_to_no_wrong_map(walk: ImageSequence) -> None:
    run = tracked(hard_frames.with_blur(walk.take(range(28)), first=18, count=5, length_px=16))
    assert_right(run, min_tracked=0.8, max_error=0.02)
    assert run.live[-1].cam_from_world is not None


def test_a_hand_before_the_lens_leads_to_no_wrong_map(walk: ImageSequence) -> None:
    """The camera stands while the hand is there, and goes on."""
    standing = hard_frames.standing(walk.take(range(32)), at=22, count=28)
    run = tracked(hard_frames.with_hand(standing, first=23, count=28))
    assert_right(run, min_tracked=0.3, max_error=0.02)
    hidden = [record for record in run.live[33:41] if record.cam_from_world is not None]
    assert not hidden, f"{len(hidden)} frames that show only the hand have a pose"
    after = [record for record in run.live[51:] if record.map_id == run.live[22].map_id]
    assert len(after) >= 2, "the camera was not found again"


def test_exposure_jumps_do_not_end_the_tracking(walk: ImageSequence) -> None:
    assert_right(tracked(hard_frames.with_exposure_jumps(walk.take(range(32)), first=18, every=4)))


def test_black_frames_lead_to_no_pose_and_no_wrong_map(walk: ImageSequence) -> None:
    standing = hard_frames.standing(walk.take(range(28)), at=22, count=28)
    run = tracked(hard_frames.with_blackout(standing, first=23, count=20))
    assert all(record.state == "lost" for record in run.live[23:43])
    assert run.live[-1].map_id == run.live[22].map_id, "the camera was not found again"
    assert_right(run, min_tracked=0.3, max_error=0.02)


def test_a_cut_to_known_ground_is_found_again(walk: ImageSequence) -> None:
    run = tracked(walk.take([*range(26), *range(16, 24)]))
    found = [idx for idx, record in enumerate(run.live[26:]) if record.map_id == run.live[25].map_id]
    assert found and found[0] < 8, "the camera was not found after the cut"
    assert_right(run, min_tracked=0.7, max_error=0.02)
