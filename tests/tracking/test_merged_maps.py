"""Two maps of one walk: the camera is lost, starts a second map elsewhere, and comes back to known ground."""

from __future__ import annotations

from sfm_lightglue.evaluation.slam import run_slam
from sfm_lightglue.synthetic.corridor import small_corridor_loop
from sfm_lightglue.synthetic.hard_frames import with_blackout
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.tracker import Tracker

LAST, BLACK, THEN = 18, 10, 29
"""The last frame before the lens is covered, for so many frames, and the frame of the walk that follows."""

CONFIG = TrackerConfig.from_mapping(
    {"extractor": {"max_keypoints": 512}, "threads": 1, "recovery": {"max_lost_s": 0.2, "min_lost_frames": 5}}
)


def test_two_maps_are_joined_when_they_meet() -> None:
    walk = small_corridor_loop(60, (480, 360))
    taken = walk.take([*range(LAST + 1), *[LAST] * BLACK, *range(THEN, len(walk))])
    sequence = with_blackout(taken, LAST + 1, BLACK)
    run = run_slam(sequence, Tracker(sequence.camera, CONFIG), num_threads=1)
    kinds = [event.kind for event in run.events]
    assert kinds.index("initialized") < kinds.index("lost") < kinds.index("map_started") < kinds.index("maps_merged")
    start = next(event.frame_idx for event in run.events if event.kind == "map_started")
    assert run.live[start].map_id != run.live[LAST].map_id, "the second map is no map of its own"
    before, after = (
        {record.map_id for record in part if record.cam_from_world is not None}
        for part in (run.records[: LAST + 1], run.records[LAST + BLACK + 1 :])
    )
    assert before == after and len(before) == 1, "the maps were not joined"
    assert run.scores.num_maps == 1
    assert run.scores.relative_ate < 0.02, "both maps have one scale and one frame"
