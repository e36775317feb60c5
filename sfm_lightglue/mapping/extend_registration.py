"""Register images in a finished model by the points that they see."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import pixels_of, point_ids_of
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.mapping.mapper_errors import opened_database
from sfm_lightglue.types import ImagePair

MIN_NUM_INLIERS = 20
"""Smallest number of points that agree with the pose of an image."""

_MIN_INLIER_RATIO = 0.25
_MAX_ERROR_PX, _REFERENCE_SIZE_PX = 8.0, 1600
"""Largest reprojection error of a point that agrees, in pixels of images of up to the second number."""


@dataclass(frozen=True, eq=False, slots=True)
class Arrival:
    """An image that may come into a model, with the ids of the database.

    Args:
        image: with all keypoints.
        camera: of the image.
        rig: of the camera.
        frame: of the image, without a pose.
        has_known_focal_length: whether the focal length is known, or was refined in the model.
    """

    image: pycolmap.Image
    camera: pycolmap.Camera
    rig: pycolmap.Rig
    frame: pycolmap.Frame
    has_known_focal_length: bool


@dataclass(frozen=True, eq=False, slots=True)
class Link:
    """Verified matches of two images.

    Args:
        pair: the images.
        indices: [M, 2] keypoints of the images, as indices of their `points2D`.
    """

    pair: ImagePair
    indices: IndexArray


def read_arrivals(
    database: Path, names: Sequence[str], pixels_from_name: Mapping[str, Float64Array], known_camera_ids: set[int]
) -> list[Arrival]:
    """Images of a database, which are not in a model yet.

    Args:
        database: opened by pycolmap, so it is not the one that is published.
        names: of images.
        pixels_from_name: their keypoints [N, 2].
        known_camera_ids: cameras whose focal length is known, beside those that the database marks.
    """
    with opened_database(database) as opened:
        image_from_name = {image.name: image for image in opened.read_all_images()}
        cameras = {camera.camera_id: camera for camera in opened.read_all_cameras()}
        rig_from_id = {rig.rig_id: rig for rig in opened.read_all_rigs()}
        frame_from_image_id = {data.id: frame for frame in opened.read_all_frames() for data in frame.data_ids}
    arrivals = []
    for name in names:
        known = image_from_name[name]
        camera, frame = cameras[known.camera_id], frame_from_image_id[known.image_id]
        image = pycolmap.Image(
            image_id=known.image_id, name=name, camera_id=known.camera_id, keypoints=pixels_from_name[name]
        )
        image.frame_id = frame.frame_id
        is_known = camera.has_prior_focal_length or camera.camera_id in known_camera_ids
        arrivals.append(Arrival(image, camera, rig_from_id[frame.rig_id], frame, is_known))
    return arrivals


def register_arrivals(
    model: pycolmap.Reconstruction, arrivals: Sequence[Arrival], links: Sequence[Link], seed: int
) -> list[str]:
    """Register the images that see enough points of a model.

    Args:
        model: changed in place.
        arrivals: images that the model does not have.
        links: verified matches of any images.
        seed: of the random samples.

    Returns:
        Names of the images that were registered.
    """
    linked = {name for link in links for name in (link.pair.name0, link.pair.name1)}
    images = (model.images[image_id] for image_id in model.reg_image_ids())
    points = {image.name: point_ids_of(image) for image in images if image.name in linked}
    found = []
    for arrival in arrivals:
        keypoints, point_ids = _seen(arrival.image.name, links, points)
        pose = _pose(model, arrival, keypoints, point_ids, seed)
        if pose is not None:
            found.append((arrival, pose))
    for arrival, pose in found:  # all of them by the same points
        _add(model, arrival, pose)
    return [arrival.image.name for arrival, _ in found]


def _seen(name: str, links: Sequence[Link], points: Mapping[str, IndexArray]) -> tuple[IndexArray, IndexArray]:
    """Keypoints of an image, and the points that they match, without repetition."""
    found = [np.zeros((0, 2), np.int64)]
    for link in links:
        if name not in (link.pair.name0, link.pair.name1):
            continue
        own = int(link.pair.name1 == name)
        other = (link.pair.name0, link.pair.name1)[1 - own]
        if other in points:
            found.append(np.stack([link.indices[:, own], points[other][link.indices[:, 1 - own]]], axis=1))
    both = np.concatenate(found)
    both = np.unique(both[both[:, 1] >= 0], axis=0)
    return both[:, 0], both[:, 1]


@dataclass(frozen=True, eq=False, slots=True)
class _Pose:
    cam_from_world: pycolmap.Rigid3d
    camera: pycolmap.Camera


def _pose(
    model: pycolmap.Reconstruction, arrival: Arrival, keypoints: IndexArray, point_ids: IndexArray, seed: int
) -> _Pose | None:
    """The pose of an image; None if too few points agree."""
    if len(np.unique(point_ids)) < MIN_NUM_INLIERS:
        return None
    is_new_camera = arrival.camera.camera_id not in model.cameras
    camera = copy.deepcopy(arrival.camera if is_new_camera else model.cameras[arrival.camera.camera_id])
    estimation, refinement = pycolmap.AbsolutePoseEstimationOptions(), pycolmap.AbsolutePoseRefinementOptions()
    estimation.ransac.max_error = _MAX_ERROR_PX * max(1.0, max(camera.width, camera.height) / _REFERENCE_SIZE_PX)
    estimation.ransac.random_seed = seed
    is_guessed = is_new_camera and not arrival.has_known_focal_length
    estimation.estimate_focal_length = refinement.refine_focal_length = is_guessed
    pixels = pixels_of(arrival.image)[keypoints]
    xyz = np.array([model.points3D[point_id].xyz for point_id in point_ids.tolist()])
    with quiet_log():
        found = pycolmap.estimate_and_refine_absolute_pose(pixels, xyz, camera, estimation, refinement)
    if found is None:
        return None
    inliers = np.asarray(found["inlier_mask"], np.bool_)
    num_points = len(np.unique(point_ids[inliers]))
    if num_points < MIN_NUM_INLIERS or inliers.mean() < _MIN_INLIER_RATIO:
        return None
    return _Pose(found["cam_from_world"], camera)


def _add(model: pycolmap.Reconstruction, arrival: Arrival, pose: _Pose) -> None:
    if arrival.camera.camera_id not in model.cameras:
        model.add_camera(pose.camera)
    if arrival.rig.rig_id not in model.rigs:
        model.add_rig(arrival.rig)
    model.add_frame(arrival.frame)
    frame = model.frames[arrival.frame.frame_id]
    frame.set_cam_from_world(arrival.camera.camera_id, pose.cam_from_world)
    model.add_image(arrival.image)
    model.register_frame(frame.frame_id)
