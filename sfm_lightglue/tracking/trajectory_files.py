"""The poses of a sequence as text: TUM's and KITTI's trajectories, and a line of JSON for each frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pycolmap

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.tracking.frame import FrameRecord

_TUM_HEAD = "# timestamp tx ty tz qx qy qz qw\n"


def tum_text(poses: Iterable[tuple[float, Rigid3]]) -> str:
    """Lines of `timestamp tx ty tz qx qy qz qw` below a comment: poses world_from_cam.

    Args:
        poses: pairs (time in seconds, cam_from_world) in the order of time.

    Source: Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, 2012, file formats.
    """
    lines = []
    for time_s, cam_from_world in poses:
        world_from_cam = cam_from_world.inverse()
        quaternion = pycolmap.Rotation3d(world_from_cam.R).quat
        numbers = " ".join(f"{value:.9g}" for value in (*world_from_cam.t, *quaternion))
        lines.append(f"{float(time_s)!r} {numbers}\n")
    return _TUM_HEAD + "".join(lines)


def kitti_text(poses: Iterable[Rigid3]) -> str:
    """A line of 12 numbers for each pose cam_from_world: world_from_cam [3, 4] by rows.

    Source: Geiger, Lenz and Urtasun, Are we ready for Autonomous Driving?, 2012, development kit of odometry.
    """
    matrices = (pose.inverse().as_matrix()[:3].ravel() for pose in poses)
    return "".join(" ".join(f"{value:.9e}" for value in matrix) + "\n" for matrix in matrices)


def frame_values(record: FrameRecord, number_from_map: Mapping[int, int] | None = None) -> dict[str, Any]:
    """What a line of JSON says of a frame, as plain values.

    Args:
        record: of the frame.
        number_from_map: number of the published model of each map: a frame of another map has no pose. None keeps the
            ids of the maps.
    """
    pose, number = record.cam_from_world, record.map_id
    if number_from_map is not None and number is not None:
        number = number_from_map.get(number)
    if pose is None or number is None:
        pose = number = None
    return {
        "name": record.name,
        "time_s": float(record.time_s),
        "state": record.state,
        "cam_from_world": None if pose is None else {"R": pose.R.tolist(), "t": pose.t.tolist()},
        "map": number,
        "num_inliers": int(record.num_inliers),
        "tracking_ms": round(float(record.tracking_ms), 3),
        "waiting_ms": round(float(record.waiting_ms), 3),
    }


def frames_jsonl(frames: Iterable[Mapping[str, Any]]) -> bytes:
    """The values of frames as JSON, one line for each."""
    return b"".join(json_bytes(frame) + b"\n" for frame in frames)
