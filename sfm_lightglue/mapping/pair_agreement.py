"""How far the verified pairs of a database agree with a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import point_ids_of
from sfm_lightglue.geometry.epipolar import essential_from_pose, homogeneous, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.mapping.mapper_errors import opened_database

_REFERENCE_SIZE_PX = 1600.0
"""Longer side of an image, in pixels, up to which the error limit is used unchanged."""

_NOISE_FACTOR, _NOISE_FLOOR_PX = 3.0, 0.5
"""An inlier agrees up to this multiple of the median error under the pair's own geometry, and this many pixels more."""

_MIN_AGREEING = 0.85
"""Fraction of the inliers of a pair that must fit the model's poses for the pair to agree."""

_MIN_AGREEING_OF_POSE = 0.3
"""The same if the pair's own pose agrees: some of its matches can be wrong."""

_MIN_PARALLAX_DEG = 3.0
"""Smallest angle between the rays of an inlier that is expected to be a point."""

_MIN_EXPECTED = 100
"""Number of such inliers from which their fraction has a meaning."""

_MAX_DIRECTION_ERROR_DEG = 15.0
"""Largest angle between the directions of translation of the pair and of the model, for poses that agree."""


@dataclass(frozen=True, eq=False, slots=True)
class StoredPair:
    """A verified pair in a database.

    Args:
        name0: of one image.
        name1: of the other image.
        is_static: whether the camera only rotated, or stood still.
        points0: [K, 2] pixels of the inliers in the first image.
        points1: [K, 2] pixels of the inliers in the second image.
        rows0: [K] rows of the keypoints in the first image.
        rows1: [K] rows of the keypoints in the second image.
        cam1_from_cam0: its pose with t of length 1; None if a focal length was guessed.
        error_px: median Sampson error of the inliers under the pair's own geometry, in pixels.
    """

    name0: str
    name1: str
    is_static: bool
    points0: Float64Array
    points1: Float64Array
    rows0: IndexArray
    rows1: IndexArray
    cam1_from_cam0: Rigid3 | None
    error_px: float


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """One pair beside a model.

    Args:
        pair: the images.
        weight: number of inliers; a judge may reduce it.
        agrees: whether the model's poses fit the pair; None for a pair without a direction of translation.
    """

    pair: StoredPair
    weight: float
    agrees: bool | None


def read_stored_pairs(database: Path) -> list[StoredPair]:
    """The verified pairs of a COLMAP database, in its order."""
    with opened_database(database) as opened:
        images = {image.image_id: image.name for image in opened.read_all_images()}
        points = {image_id: np.asarray(opened.read_keypoints(image_id), np.float64)[:, :2] for image_id in images}
        pair_ids, geometries = opened.read_two_view_geometries()
        pairs = []
        for pair_id, geometry in zip(pair_ids, geometries, strict=True):
            id0, id1 = pycolmap.pair_id_to_image_pair(pair_id)
            inliers: IndexArray = np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2)
            if len(inliers) > 0:
                is_static = geometry.config == pycolmap.TwoViewGeometryConfiguration.PANORAMIC
                rows0, rows1 = inliers[:, 0], inliers[:, 1]
                points0, points1 = points[id0][rows0], points[id1][rows1]
                native = geometry.cam2_from_cam1
                squared = squared_sampson_errors(np.asarray(geometry.F), points0, points1)
                error = float(np.sqrt(np.median(squared)))
                pose = None if native is None else Rigid3.from_matrix(native.matrix())
                pairs.append(
                    StoredPair(images[id0], images[id1], is_static, points0, points1, rows0, rows1, pose, error)
                )
        return pairs


def agreement_of_pairs(
    model: pycolmap.Reconstruction, pairs: list[StoredPair], max_error_px: float, max_rotation_error_deg: float
) -> list[PairAgreement]:
    """Compare the pairs whose images are both registered with the model.

    Args:
        model: a model of the database's images.
        pairs: of the database.
        max_error_px: largest Sampson error of an inlier that agrees, in pixels of images of up to 1600 pixels.
        max_rotation_error_deg: largest angle between the rotations of the pair and of the model, for poses that agree.
    """
    images = {model.images[image_id].name: model.images[image_id] for image_id in model.reg_image_ids()}
    poses = {name: Rigid3.from_matrix(image.cam_from_world().matrix()) for name, image in images.items()}
    cameras = {name: model.cameras[image.camera_id] for name, image in images.items()}
    return [
        PairAgreement(
            pair,
            len(pair.points0),
            None if pair.is_static else _agrees(pair, poses, cameras, max_error_px, max_rotation_error_deg),
        )
        for pair in pairs
        if pair.name0 in images and pair.name1 in images
    ]


def _agrees(
    pair: StoredPair,
    poses: Mapping[str, Rigid3],
    cameras: Mapping[str, pycolmap.Camera],
    max_error_px: float,
    max_rotation_error_deg: float,
) -> bool:
    camera0, camera1 = cameras[pair.name0], cameras[pair.name1]
    points0, points1 = (
        np.asarray(camera.cam_from_img(points)) for camera, points in ((camera0, pair.points0), (camera1, pair.points1))
    )
    cam1_from_cam0 = poses[pair.name1] @ poses[pair.name0].inverse()
    length = np.linalg.norm(cam1_from_cam0.t)
    if length < 1e-12:
        return False
    pose = Rigid3(cam1_from_cam0.R, cam1_from_cam0.t / length)
    scale = max(1.0, *(max(camera.width, camera.height) / _REFERENCE_SIZE_PX for camera in (camera0, camera1)))
    limit_px = max_error_px * scale
    if pair.cam1_from_cam0 is not None:  # a fundamental matrix fits better than any calibrated pose
        limit_px = min(limit_px, _NOISE_FACTOR * pair.error_px + _NOISE_FLOOR_PX * scale)
    limit = limit_px / float(np.mean([camera.mean_focal_length() for camera in (camera0, camera1)]))
    with np.errstate(invalid="ignore"):
        errors = squared_sampson_errors(essential_from_pose(pose), points0, points1)
        share = float((errors <= limit**2).mean())
    if share >= _MIN_AGREEING or share < _MIN_AGREEING_OF_POSE or pair.cam1_from_cam0 is None:
        return share >= _MIN_AGREEING
    rotation_error_deg, direction_error_deg = relative_pose_error_deg(pair.cam1_from_cam0, pose)
    return rotation_error_deg <= max_rotation_error_deg and direction_error_deg <= _MAX_DIRECTION_ERROR_DEG


def triangulated_share(model: pycolmap.Reconstruction, pairs: list[StoredPair]) -> float | None:
    """Fraction of the inliers that should have become points of the model, and did; None if there are too few.

    In a bent model many inliers do not fit together and are filtered. Only inliers with parallax in the model, and
    with a keypoint that is an inlier of another pair too, are expected to be points: the mapper drops the others.

    Args:
        model: a model of the database's images.
        pairs: of the database.
    """
    images = {model.images[image_id].name: model.images[image_id] for image_id in model.reg_image_ids()}
    used = [pair for pair in pairs if pair.name0 in images and pair.name1 in images and not pair.is_static]
    point_ids = {name: point_ids_of(image) for name, image in images.items()}
    num_uses = {name: np.zeros(len(ids), np.int64) for name, ids in point_ids.items()}
    for pair in used:
        num_uses[pair.name0][pair.rows0] += 1
        num_uses[pair.name1][pair.rows1] += 1
    num_expected = num_triangulated = 0
    for pair in used:
        rays = [
            _world_rays(model, images[name], points)
            for name, points in ((pair.name0, pair.points0), (pair.name1, pair.points1))
        ]
        with np.errstate(invalid="ignore"):
            has_parallax = (rays[0] * rays[1]).sum(axis=1) <= np.cos(np.radians(_MIN_PARALLAX_DEG))
        has_third_view = (num_uses[pair.name0][pair.rows0] > 1) | (num_uses[pair.name1][pair.rows1] > 1)
        expected = has_parallax & has_third_view
        ids0, ids1 = point_ids[pair.name0][pair.rows0], point_ids[pair.name1][pair.rows1]
        num_expected += int(expected.sum())
        num_triangulated += int((expected & (ids0 >= 0) & (ids0 == ids1)).sum())
    return num_triangulated / num_expected if num_expected >= _MIN_EXPECTED else None


def _world_rays(model: pycolmap.Reconstruction, image: pycolmap.Image, points: Float64Array) -> Float64Array:
    """Unit directions [K, 3] in the world of pixels [K, 2]; NaN where the camera model cannot be inverted."""
    rays = homogeneous(np.asarray(model.cameras[image.camera_id].cam_from_img(points)))
    rays = rays @ np.asarray(image.cam_from_world().matrix())[:, :3]
    unit: Float64Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit
