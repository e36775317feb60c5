"""A map as a model of COLMAP."""

from __future__ import annotations

import numpy as np
import pycolmap

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap

_CAMERA_ID = 1


def as_reconstruction(slam_map: SlamMap, map_id: int) -> pycolmap.Reconstruction:
    """Make a COLMAP model of the keyframes and points of a map.

    Args:
        slam_map: read only.
        map_id: of the map.

    Returns:
        Model with one camera; the id of an image is the index of its keyframe plus 1, and all of its keypoints are
        there, in the order of `Keyframe.keypoints`.
    """
    model = pycolmap.Reconstruction()
    with slam_map.lock:
        model.add_camera_with_trivial_rig(as_pycolmap(slam_map.camera, _CAMERA_ID))
        members = slam_map.members(map_id)
        for idx in members:
            _add_image(model, slam_map.keyframes[idx])
        point_ids = slam_map.points_of(members)
        for point_id, xyz in zip(point_ids.tolist(), slam_map.xyz(point_ids), strict=True):
            track = sorted(slam_map.track(point_id).items())
            elements = [pycolmap.TrackElement(idx + 1, row) for idx, row in track]
            model.add_point3D(xyz, pycolmap.Track(elements), _color(slam_map, track))
    model.update_point_3d_errors()
    return model


def _add_image(model: pycolmap.Reconstruction, keyframe: Keyframe) -> None:
    keypoints = keyframe.keypoints.astype(np.float64)
    image = pycolmap.Image(name=keyframe.name, keypoints=keypoints, camera_id=_CAMERA_ID, image_id=keyframe.idx + 1)
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(keyframe.cam_from_world.as_matrix()[:3]))


def _color(slam_map: SlamMap, track: list[tuple[int, int]]) -> UInt8Array:
    """Mean colour of the observations, black if none is known."""
    colors = [
        keyframe.colors[row]
        for keyframe, row in ((slam_map.keyframes[idx], row) for idx, row in track)
        if keyframe.colors is not None
    ]
    return np.mean(colors, axis=0).round().astype(np.uint8) if colors else np.zeros(3, np.uint8)
