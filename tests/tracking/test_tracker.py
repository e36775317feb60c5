"""The tracker on rendered sequences: starts, tracks, loses, finds again, and never makes a wrong map."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import umeyama
from sfm_lightglue.synthetic.corridor import Corridor
from sfm_lightglue.synthetic.hard_frames import standing, turning_poses, with_blackout, with_exposure_jumps
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.precise_adjustment import LastAdjustment
from sfm_lightglue.tracking.tracker import Tracker

NUM_FRAMES = 30
MAX_ERROR = 0.01
"""Largest root mean square of the errors of the camera centres, as a fraction of the way."""


@functools.cache
def corridor() -> Corridor:
    return Corridor((256, 192))


@functools.cache
def walk() -> ImageSequence:
    """A walk whose images are rendered once."""
    sequence = corridor().sequence(NUM_FRAMES)
    images = [sequence.image(idx) for idx in range(NUM_FRAMES)]
    return ImageSequence(
        "walk", sequence.camera, sequence.names, sequence.times_s, sequence.cam_from_world, images.__getitem__
    )


def config(**tables) -> TrackerConfig:
    """Few keypoints and the quick matcher: the images are small."""
    values = {"threads": 1, "extractor": {"max_keypoints": 250}, "matcher": {"name": "nearest"}}
    return TrackerConfig.from_mapping(values | tables)


def tracked(sequence: ImageSequence, camera=None, **tables) -> Tracker:
    tracker = Tracker(camera or sequence.camera, config(**tables))
    for name, time_s, image in zip(sequence.names, sequence.times_s.tolist(), sequence.images(), strict=True):
        tracker.track(image, time_s, name)
    return tracker


def relative_error(tracker: Tracker, sequence: ImageSequence) -> float:
    """Error of the centres of all frames with a pose after alignment, as a fraction of the way."""
    posed = [one for one in tracker.records if one.cam_from_world is not None]
    centers = np.array([one.cam_from_world.center for one in posed if one.cam_from_world is not None])
    truth = sequence.centers[[one.frame_idx for one in posed]]
    errors = umeyama(centers, truth) @ centers - truth
    return float(np.sqrt((errors**2).sum(axis=1).mean()) / sequence.path_length)


def states(tracker: Tracker) -> list[str]:
    return [one.state for one in tracker.records]


def kinds(tracker: Tracker) -> list[str]:
    return [event.kind for event in tracker.events]


@pytest.fixture(scope="module")
def plain() -> Tracker:
    tracker = tracked(walk())
    tracker.finish()
    return tracker


def test_a_walk_is_tracked_from_its_start_to_its_end(plain):
    start = states(plain).index("tracked")
    assert start < 20
    assert set(states(plain)[start:]) == {"tracked"}
    assert kinds(plain)[:1] == ["initialized"] and "lost" not in kinds(plain)
    assert relative_error(plain, walk()) < MAX_ERROR


def test_frames_before_the_start_get_their_poses_afterwards(plain):
    assert states(plain)[0] == "initializing"
    assert all(one.cam_from_world is not None and one.map_id == 0 for one in plain.records)


def test_the_model_has_the_keyframes(plain):
    model = plain.reconstructions[0]
    keyframes = plain.slam_map.keyframes.values()
    assert sorted(image.name for image in model.images.values()) == sorted(one.name for one in keyframes)
    assert len(keyframes) < NUM_FRAMES / 2
    assert model.compute_mean_reprojection_error() < 1.0


def test_keyframes_have_one_pose_in_model_and_records(plain):
    poses = {one.name: one.cam_from_world for one in plain.records}
    for image in plain.reconstructions[0].images.values():
        assert np.allclose(image.cam_from_world().matrix(), poses[image.name].as_matrix()[:3])


def test_finish_again_gives_the_first_result_and_no_more_frames_come(plain):
    before = [one.cam_from_world for one in plain.records]
    first = plain.finish()
    assert plain.finish() is first
    assert all(one.cam_from_world is pose for one, pose in zip(plain.records, before, strict=True))
    with pytest.raises(DataError, match=r"late\.png: the sequence was finished"):
        plain.track(walk().image(0), 100.0, "late.png")


def test_aligned_patches_make_poses_more_exact(plain):
    without = tracked(walk(), mapping={"align_patches": False})
    without.finish()
    assert all(keyframe.image is None for keyframe in without.slam_map.keyframes.values())
    assert plain.last_adjustments[0].uses_patches
    assert without.last_adjustments == {0: LastAdjustment(False, "`mapping.align_patches` is false")}
    assert relative_error(plain, walk()) < 0.9 * relative_error(without, walk())


def test_a_single_thread_gives_the_same_bytes_again(plain):
    again = tracked(walk())
    again.finish()
    for one, other in zip(plain.records, again.records, strict=True):
        assert one.cam_from_world.as_matrix().tobytes() == other.cam_from_world.as_matrix().tobytes()


def test_a_thread_for_mapping_tracks_the_same_walk():
    tracker = tracked(walk(), threads=2)
    tracker.finish()
    assert all(one.cam_from_world is not None for one in tracker.records)
    assert relative_error(tracker, walk()) < 2 * MAX_ERROR


def test_a_standing_camera_waits():
    tracker = tracked(standing(walk(), 0, 10).take(range(11)))
    assert set(states(tracker)) == {"initializing"}
    with pytest.raises(DataError, match="no frame could be tracked"):
        tracker.finish()


def test_a_turning_camera_gives_no_map():
    turn = corridor().along(turning_poses(corridor().pose(0), 15, 1.5), "turn")
    tracker = tracked(turn)
    assert set(states(tracker)) == {"initializing"} and tracker.events == ()


def test_a_covered_lens_is_lost_and_found_again_in_the_same_map():
    sequence = with_blackout(walk(), 20, 4)
    tracker = tracked(sequence)
    tracker.finish()
    assert states(tracker)[20:24] == ["lost"] * 4
    assert states(tracker)[24] == "relocalized" and states(tracker)[-1] == "tracked"
    assert {one.map_id for one in tracker.records if one.cam_from_world is not None} == {0}
    assert relative_error(tracker, sequence) < 2 * MAX_ERROR


def test_exposure_jumps_do_not_lose_the_camera():
    sequence = with_exposure_jumps(walk(), every=8, gains=(1.0, 1.5, 0.6))
    tracker = tracked(sequence)
    tracker.finish()
    assert "lost" not in kinds(tracker)
    assert relative_error(tracker, sequence) < 2 * MAX_ERROR


def test_the_memory_of_an_image_can_be_used_again():
    trackers, buffer = [Tracker(walk().camera, config()) for _ in range(2)], np.zeros_like(walk().image(0)[..., 0])
    for idx in range(2):
        grey = np.ascontiguousarray(walk().image(idx)[..., 0])
        buffer[:] = grey
        for tracker, image in zip(trackers, (buffer, grey), strict=True):
            tracker.track(image, float(idx))
    assert len(trackers[0].tracked_pixels) > 0
    assert (trackers[0].tracked_pixels == trackers[1].tracked_pixels).all()


def test_the_frame_of_a_start_is_named_while_the_start_is_searched():
    tracker = Tracker(walk().camera, config())
    assert tracker.start_name == ""
    for idx in range(2):
        tracker.track(walk().image(idx), float(idx), f"{idx}.png")
        assert tracker.start_name == "0.png"


def test_a_tracker_that_was_closed_says_so():
    with Tracker(walk().camera, config()) as tracker:
        tracker.track(walk().image(0), 0.0)
    with pytest.raises(DataError, match=r"1\.png: the tracker was closed"):
        tracker.track(walk().image(1), 1.0, "1.png")


def test_a_size_that_differs_from_that_of_the_camera_is_refused_before_there_is_a_thread():
    before = set(threading.enumerate())
    with pytest.raises(DataError, match="128 x 96 pixels"):
        Tracker(walk().camera, config(threads=2)).track(np.zeros((96, 128), np.uint8), 0.0)
    assert set(threading.enumerate()) <= before


def test_an_error_of_a_component_at_the_blank_image_says_what_was_tried():
    class Extractor:
        def extract(self, image):
            raise KeyError(image.name)

    with pytest.raises(KeyError) as error:
        Tracker(walk().camera, config(), extractor=Extractor())
    assert error.value.__notes__ == [
        "Extractor was tried on a blank grey image of 64 x 64 pixels, to load it before the first frame"
    ]


def test_wrong_input_is_refused():
    tracker = Tracker(walk().camera, config())
    with pytest.raises(DataError, match="nan s; expected a finite number"):
        tracker.track(walk().image(0), float("nan"))
    for shape, kind in (((192, 256), float), ((192, 256, 1), np.uint8), ((192, 256, 4), np.uint8), ((0, 0), np.uint8)):
        with pytest.raises(DataError, match=r"a: expected an image \[H, W, 3\] RGB or \[H, W\] of uint8, got"):
            tracker.track(np.zeros(shape, kind), 0.0, "a")
    tracker.track(walk().image(0), 0.0, "a")
    with pytest.raises(DataError, match="a: a frame before has this name"):
        tracker.track(walk().image(1), 1.0, "a")
    with pytest.raises(DataError, match="not later"):
        tracker.track(walk().image(1), 0.0)
    with pytest.raises(DataError, match="128 x 96 pixels"):
        tracker.track(np.zeros((96, 128), np.uint8), 1.0)
    with pytest.raises(DataError, match="no frames"):
        Tracker(None, config()).finish()
