"""What a window or a picture shows, as arrays that go to the process of Open3D.

Positions are in the frame of the renderer: the target of the first view is the origin, the radius of the scene is 1.
Graphics cards compute in float32, which is not precise enough for map coordinates in millions of metres.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, Float64Array, IndexArray, Int32Array, UInt8Array

REACH = 10.0
"""Largest distance from the target at which points and cameras are drawn, in radii of the scene."""


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Points, cameras, tracks and lines.

    Args:
        points: [N, 3].
        colors: [N, 3] red, green, blue.
        errors_px: [N] mean reprojection error of each point; NaN if it is not known.
        model_of_point: [N] number of the model that each point belongs to.
        frusta: [F, 8, 3] vertices of each camera, as `frustum_lines` orders them.
        camera_colors: [F, 3] red, green, blue in 0 to 1.
        model_of_camera: [F] number of the model of each camera.
        names: [F] of the images.
        files: [F] path of each image; "" if it is not known.
        image_sizes: [F, 2] (width, height) in pixels.
        track_starts: [N + 1] first observation of each point; that of point n ends where that of n + 1 begins.
        track_cameras: [T] camera of each observation.
        track_xy: [T, 2] keypoints in pixels of the stored image.
        track_px: [T] distance of each keypoint from the projection of its point.
        loose_starts: [F + 1] first keypoint without a point of each camera.
        loose_xy: [K, 2] these keypoints.
        path: [P, 3] ends of the segments of the trajectory; rows 2n and 2n + 1 are one segment.
        errors: [E, 3] ends of the lines between two models, in the same way.
        error_values: [E / 2] length of each line in the unit of the first model.
        axes: [6, 3] ends of the axes x, y and z of the (first) model.
        model_names: [M] as they are shown.
        eye: [3] of the first view.
        up: [3] unit vector.
        vertical_fov_deg: [] of the view.
    """

    points: Float32Array
    colors: UInt8Array
    errors_px: Float32Array
    model_of_point: AnyArray
    frusta: Float32Array
    camera_colors: Float32Array
    model_of_camera: AnyArray
    names: AnyArray
    files: AnyArray
    image_sizes: Int32Array
    track_starts: IndexArray
    track_cameras: Int32Array
    track_xy: Float32Array
    track_px: Float32Array
    loose_starts: IndexArray
    loose_xy: Float32Array
    path: Float32Array
    errors: Float32Array
    error_values: Float64Array
    axes: Float32Array
    model_names: AnyArray
    eye: Float64Array
    up: Float64Array
    vertical_fov_deg: AnyArray

    def as_arrays(self) -> dict[str, AnyArray]:
        """All fields by name, for a NPZ file."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @property
    def track_lengths(self) -> IndexArray:
        """Number of observations of each point [N]."""
        return np.diff(self.track_starts)

    @property
    def centers(self) -> Float32Array:
        """Centres of the cameras [F, 3]."""
        return self.frusta[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class TrackOfPoint:
    """The observations of a point, the best ones first.

    Args:
        cameras: [L] cameras.
        xy: [L, 2] keypoints in pixels of the stored image.
        residuals_px: [L].
    """

    cameras: Int32Array
    xy: Float32Array
    residuals_px: Float32Array


def track_of(contents: Contents, point: int) -> TrackOfPoint:
    """The track of a point, by increasing residual."""
    own = slice(int(contents.track_starts[point]), int(contents.track_starts[point + 1]))
    order = np.argsort(contents.track_px[own], kind="stable")  # NaN is last
    return TrackOfPoint(
        contents.track_cameras[own][order], contents.track_xy[own][order], contents.track_px[own][order]
    )


@dataclass(frozen=True, slots=True, eq=False)
class KeypointsOfCamera:
    """The keypoints of an image.

    Args:
        xy: [L, 2] those with a point, in pixels of the stored image.
        residuals_px: [L] of these.
        loose_xy: [K, 2] those without a point.
    """

    xy: Float32Array
    residuals_px: Float32Array
    loose_xy: Float32Array


def keypoints_of(contents: Contents, camera: int) -> KeypointsOfCamera:
    """The keypoints of a camera, with and without a point."""
    rows = np.flatnonzero(contents.track_cameras == camera)
    own = slice(int(contents.loose_starts[camera]), int(contents.loose_starts[camera + 1]))
    return KeypointsOfCamera(contents.track_xy[rows], contents.track_px[rows], contents.loose_xy[own])
