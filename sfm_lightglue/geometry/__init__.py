"""Transforms, epipolar geometry and alignment: numpy only. These names are handed on for users and plug-ins."""

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.geometry.epipolar import (
    essential_from_pose,
    homogeneous,
    squared_sampson_errors,
    squared_symmetric_epipolar_errors,
    triangulate,
)
from sfm_lightglue.geometry.transforms import (
    Rigid3,
    Sim3,
    cross_matrix,
    direction_angle_deg,
    project_to_rotation,
    relative_pose_error_deg,
    rotation_angle_deg,
    rotation_from_rotvec,
    umeyama,
)

__all__ = [
    "AnyArray",
    "Float64Array",
    "Rigid3",
    "Sim3",
    "cross_matrix",
    "direction_angle_deg",
    "essential_from_pose",
    "homogeneous",
    "project_to_rotation",
    "relative_pose_error_deg",
    "rotation_angle_deg",
    "rotation_from_rotvec",
    "squared_sampson_errors",
    "squared_symmetric_epipolar_errors",
    "triangulate",
    "umeyama",
]
